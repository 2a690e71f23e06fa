package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spillway-dev/spillway/internal/netbench"
)

// The ways that are measured, by the names of the JSON file.
const (
	barePods     = "bare, pod to pod"
	bareGateways = "bare, gateway to gateway"
	oursPods     = "spillway, pod to pod"
	oursGateways = "spillway, gateway to gateway"
	overlapping  = "spillway, overlapping ranges"
	manyPeers    = "spillway, many peers"
	fromNode     = "spillway, from an ordinary node"
)

// way is one thing to measure.
type way struct {
	name  string
	place string
	ends  ends
}

func ways() []way {
	return []way{
		{barePods, "bare", podToPod}, {oursPods, "ours", podToPod}, {manyPeers, "many", podToPod}, {overlapping, "overlap", podToPod},
		{fromNode, "ours", nodePodToPod}, {bareGateways, "bare", gatewayToGateway}, {oursGateways, "ours", gatewayToGateway},
	}
}

func kinds(o options) map[string]kind {
	return map[string]kind{
		"bare": {bare: true}, "ours": {node: true}, "overlap": {overlap: true}, "many": {peers: o.peers},
	}
}

// sample is one way in one round.
type sample struct {
	Way   string `json:"way"`
	Round int    `json:"round"`
	netbench.Result
	// CPUSecondsPerGB of all processes of the place together, for 10⁹ bytes of payload.
	CPUSecondsPerGB float64 `json:"cpuSecondsPerGB"`
	// OtherCores is what other programs used meanwhile.
	OtherCores float64 `json:"otherCores"`
}

// bits per second, the mean of both directions.
func bits(s sample) float64      { return (s.UpBitsPerSecond + s.DownBitsPerSecond) / 2 }
func cpuPerGB(s sample) float64  { return s.CPUSecondsPerGB }
func tcpMicros(s sample) float64 { return s.TCP.MedianMicros }
func udpMicros(s sample) float64 { return s.UDP.MedianMicros }

// series measures all ways in turn.
type series struct {
	options
	places map[string]*place
	say    *teller
}

// openSeries makes all places, at rest.
func openSeries(ctx context.Context, o options, say *teller) (*series, error) {
	s := &series{options: o, places: map[string]*place{}, say: say}
	for name, k := range kinds(o) {
		began := time.Now()
		p, err := openPlace(ctx, k)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("make place %s: %w", name, err)
		}
		s.places[name] = p
		if err := p.freeze(); err != nil {
			s.close()
			return nil, err
		}
		say.line("place %s is up, %d processes, after %.1f s", name, len(p.all), time.Since(began).Seconds())
	}
	return s, nil
}

func (s *series) close() {
	for _, p := range s.places {
		p.close()
	}
}

func (s *series) run(ctx context.Context) ([]sample, error) {
	var out []sample
	all := ways()
	for _, w := range all { // each once before, unmeasured
		short := s.options
		short.duration = min(s.duration, 500*time.Millisecond)
		if _, err := s.one(ctx, w, short, -1); err != nil {
			return nil, err
		}
	}
	for round := range s.rounds {
		for i := range all { // who is first changes
			sample, err := s.one(ctx, all[(i+round)%len(all)], s.options, round)
			if err != nil {
				return nil, err
			}
			out = append(out, sample)
			s.say.line("round %d: %-30s %6.2f Gb/s, %.2f CPU s/GB, UDP %.0f µs", round+1, sample.Way, bits(sample)/1e9, sample.CPUSecondsPerGB, sample.UDP.MedianMicros)
		}
	}
	return out, nil
}

// one measures a way while all places but its own stand still.
func (s *series) one(ctx context.Context, w way, o options, round int) (sample, error) {
	if err := ctx.Err(); err != nil {
		return sample{}, err
	}
	p := s.places[w.place]
	if err := p.thaw(); err != nil {
		return sample{}, err
	}
	if err := s.profile(p, w, round); err != nil {
		return sample{}, err
	}
	began, others, before := time.Now(), foreignSeconds(), p.cpuSeconds()
	result, err := p.measure(w.ends, w.place == "bare", o)
	if err != nil {
		return sample{}, fmt.Errorf("measure %s: %w", w.name, err)
	}
	out := sample{Way: w.name, Round: round, Result: result, OtherCores: (foreignSeconds() - others) / time.Since(began).Seconds()}
	if moved := 2 * bits(out) * o.duration.Seconds() / 8; moved > 0 {
		const giga = 1e9
		out.CPUSecondsPerGB = (p.cpuSeconds() - before) / (moved / giga)
	}
	return out, p.freeze()
}

// profile starts profiles of the gateways in the first round, when asked for.
func (s *series) profile(p *place, w way, round int) error {
	if s.profiles == "" || round != 0 {
		return nil
	}
	for i, gateway := range p.gateways {
		name := filepath.Join(s.profiles, fmt.Sprintf("%s-%s-%d.pprof", w.place, []string{"pods", "gateways", "node"}[w.ends], i))
		if _, err := gateway.ask(order{Profile: 2 * s.duration, ProfileTo: name}); err != nil {
			return err
		}
	}
	return nil
}
