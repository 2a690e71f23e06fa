package placer

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

const (
	// sampleEvery is how often a URL is asked.
	sampleEvery = 100 * time.Millisecond
	// sampleLeast is how long it is asked at least, however short the soak time: a few answers say little.
	sampleLeast = time.Second
	// sampleWithin is how long an answer may take.
	sampleWithin = time.Second
	// defaultErrorPercent is the part of the requests that may fail when the gate does not say.
	defaultErrorPercent = 1
	// bodyLimit is how much of an answer is read.
	bodyLimit = 1 << 20
)

// samples are the answers of one soak time.
type samples struct {
	mu     sync.Mutex
	errors int             // guarded by mu
	took   []time.Duration // guarded by mu; those without an answer took all the time
}

func (s *samples) add(took time.Duration, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, took)
	if failed {
		s.errors++
	}
}

// askHTTP asks a URL until a time, and judges the answers. It fails before when it can only fail.
func (g *gates) askHTTP(ctx context.Context, mg *v1alpha1.Migration, until time.Time) (placement.GateView, bool) {
	gate := mg.Spec.Gate.HTTP
	if gate == nil {
		g.pause(ctx, until)
		return placement.GateView{}, false
	}
	start := g.clock.Now()
	if least := start.Add(sampleLeast); until.Before(least) {
		until = least
	}
	expected := int(until.Sub(start) / sampleEvery)
	var all samples
	var wg sync.WaitGroup
	for next := start; next.Before(until); next = next.Add(sampleEvery) {
		if !g.pause(ctx, next) {
			break
		}
		wg.Go(func() { g.sample(ctx, gate.URL, &all) })
		if v := all.judge(gate, expected); v.State == placement.GateFails {
			wg.Wait()
			return all.judge(gate, 0), true
		}
	}
	wg.Wait()
	return all.judge(gate, 0), true
}

func (g *gates) sample(ctx context.Context, url string, all *samples) {
	ctx, cancel := context.WithTimeout(ctx, sampleWithin)
	defer cancel()
	start := g.clock.Now()
	status, err := g.get(ctx, url)
	all.add(g.clock.Since(start), err != nil || status >= http.StatusInternalServerError)
}

// get asks a URL, and reads the answer.
func (g *gates) get(ctx context.Context, url string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := g.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, bodyLimit)); err != nil {
		return 0, fmt.Errorf("read answer of %s: %w", url, err)
	}
	return resp.StatusCode, nil
}

// judge says whether the answers are good enough. While more are expected (expected is not zero), it only says what no more of them can
// change.
func (s *samples) judge(gate *v1alpha1.HTTPGate, expected int) placement.GateView {
	s.mu.Lock()
	defer s.mu.Unlock()
	percent := defaultErrorPercent
	if gate.MaxErrorPercent != nil {
		percent = int(*gate.MaxErrorPercent)
	}
	n := max(len(s.took), expected)
	if s.errors*100 > percent*n {
		return placement.GateView{State: placement.GateFails, Why: fmt.Sprintf("%d of %d requests failed, %d%% may", s.errors, len(s.took), percent)}
	}
	if expected > 0 || len(s.took) == 0 {
		return placement.GateView{}
	}
	p99 := percentile99(s.took)
	if gate.MaxP99 != nil && p99 > gate.MaxP99.Duration {
		return placement.GateView{State: placement.GateFails,
			Why: fmt.Sprintf("p99 of %d requests was %s, %s may be", len(s.took), p99.Round(time.Millisecond), gate.MaxP99.Duration)}
	}
	return placement.GateView{State: placement.GateHolds,
		Why: fmt.Sprintf("%d of %d requests failed, p99 was %s", s.errors, len(s.took), p99.Round(time.Millisecond))}
}

// percentile99 is the time that all but the slowest percent took at most.
func percentile99(took []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[(len(sorted)*99+99)/100-1]
}
