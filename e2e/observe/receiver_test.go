package observe

import (
	"compress/gzip"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// receiver is a collector that keeps the names of spans by trace. Safe for concurrent use.
type receiver struct {
	address string

	mu     sync.Mutex
	traces map[string]map[string]bool // guarded by mu; names by trace id
	took   map[string][]time.Duration // guarded by mu; by name
}

func receive(t *testing.T) *receiver {
	r := &receiver{traces: map[string]map[string]bool{}, took: map[string][]time.Duration{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if err := r.take(request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	r.address = strings.TrimPrefix(server.URL, "http://")
	return r
}

func (r *receiver) take(request *http.Request) error {
	body := io.Reader(request.Body)
	if request.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(request.Body)
		if err != nil {
			return err
		}
		body = unzipped
	}
	text, err := io.ReadAll(body)
	var all collector.ExportTraceServiceRequest
	if err := errors.Join(err, proto.Unmarshal(text, &all)); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range all.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				id := hex.EncodeToString(s.TraceId)
				if r.traces[id] == nil {
					r.traces[id] = map[string]bool{}
				}
				r.traces[id][s.Name] = true
				r.took[s.Name] = append(r.took[s.Name], time.Duration(s.EndTimeUnixNano-s.StartTimeUnixNano))
			}
		}
	}
	return nil
}

// names are those of the spans of a pod's trace.
func (r *receiver) names(uid string) map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]bool{}
	for name := range r.traces[strings.ReplaceAll(uid, "-", "")] {
		out[name] = true
	}
	return out
}

// median is how long spans of a name took.
func (r *receiver) median(name string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	took := slices.Sorted(slices.Values(r.took[name]))
	if len(took) == 0 {
		return 0
	}
	return took[len(took)/2]
}
