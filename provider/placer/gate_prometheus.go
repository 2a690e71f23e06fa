package placer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

const (
	// queryTries is how often a query that fails is tried: a server that is asked at a bad moment is no reason to go back.
	queryTries = 3
	queryAgain = time.Second
)

// errNoNumber says that a query gave none, or several.
var errNoNumber = errors.New("the query has to give one number")

func isNoNumber(err error) bool { return errors.Is(err, errNoNumber) }

// askPrometheus asks a Prometheus API once the pods have soaked.
func (g *gates) askPrometheus(ctx context.Context, mg *v1alpha1.Migration, _ time.Time) (placement.GateView, bool) {
	gate := mg.Spec.Gate.Prometheus
	if gate == nil {
		return placement.GateView{}, false
	}
	for try := 1; ; try++ {
		asking, cancel := context.WithTimeout(ctx, reachWithin)
		value, err := g.query(asking, gate)
		cancel()
		if err == nil {
			return judgeNumber(gate, value), true
		}
		if try == queryTries || !g.pause(ctx, g.clock.Now().Add(queryAgain)) {
			return placement.GateView{State: placement.GateFails, Why: fmt.Sprintf("the query was not answered: %v", err)}, true
		}
	}
}

// judgeNumber compares; what is not a number is neither enough nor little enough.
func judgeNumber(gate *v1alpha1.PrometheusGate, value float64) placement.GateView {
	text := strconv.FormatFloat(value, 'g', 6, 64)
	if least, err := strconv.ParseFloat(gate.Min, 64); gate.Min != "" && (err != nil || !(value >= least)) {
		return placement.GateView{State: placement.GateFails, Why: fmt.Sprintf("the query gave %s, less than %s", text, gate.Min)}
	}
	if most, err := strconv.ParseFloat(gate.Max, 64); gate.Max != "" && (err != nil || !(value <= most)) {
		return placement.GateView{State: placement.GateFails, Why: fmt.Sprintf("the query gave %s, more than %s", text, gate.Max)}
	}
	return placement.GateView{State: placement.GateHolds, Why: "the query gave " + text}
}

// query asks for the number that a query gives now.
func (g *gates) query(ctx context.Context, gate *v1alpha1.PrometheusGate) (float64, error) {
	address := strings.TrimSuffix(gate.URL, "/") + "/api/v1/query?" + url.Values{"query": {gate.Query}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	resp, err := g.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if err != nil {
		return 0, fmt.Errorf("read answer of %s: %w", gate.URL, err)
	}
	return readNumber(resp.StatusCode, text)
}

// readNumber reads the answer to an instant query (prometheus.io/docs/prometheus/latest/querying/api).
func readNumber(status int, text []byte) (float64, error) {
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Type   model.ValueType `json:"resultType"`
			Result json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, fmt.Errorf("answer with status %d is not of a Prometheus API", status)
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("status %d: %s", status, answer.Error)
	}
	switch answer.Data.Type {
	case model.ValScalar:
		var scalar model.Scalar
		err := json.Unmarshal(answer.Data.Result, &scalar)
		return float64(scalar.Value), err
	case model.ValVector:
		var vector model.Vector
		if err := json.Unmarshal(answer.Data.Result, &vector); err != nil {
			return 0, fmt.Errorf("read vector: %w", err)
		}
		if len(vector) != 1 {
			return 0, fmt.Errorf("%w: it gave %d", errNoNumber, len(vector))
		}
		return float64(vector[0].Value), nil
	}
	return 0, fmt.Errorf("%w: it gave a %s", errNoNumber, answer.Data.Type)
}
