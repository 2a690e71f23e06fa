package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/spillway-dev/spillway/e2e/bench/figures"
)

// series is what one kind of device carried.
type series struct {
	Name         string    `json:"name"`
	BitsEachTime []float64 `json:"bitsEachTime"`
	Median       float64   `json:"median"` // bits per second, TCP payload, mean of both ways
	Least        float64   `json:"least"`
	Most         float64   `json:"most"`
	// Ratio is the median over rounds of this one's throughput to that of wireguard-go in the same round.
	Ratio float64 `json:"ratio"`
	// CPUPerGB is the processor time of both ends for 10⁹ bytes, seconds, and CPURatio the median over rounds of that of
	// wireguard-go to it. It is steadier than throughput on a machine that others use too.
	CPUPerGB float64 `json:"cpuPerGB"`
	CPURatio float64 `json:"cpuRatio"`
	cpu      []float64
}

// throughput measures each kind in turn, round after round, so that what disturbs the machine disturbs all alike. The
// order turns with the rounds.
func throughput(ctx context.Context, o options) ([]series, error) {
	kinds := []struct {
		name  string
		kind  string
		peers int
	}{
		{"wireguard-go", kindBare, 1},
		{"spillway, 1 peer", kindOurs, 1},
		{fmt.Sprintf("spillway, %d peers", o.peers), kindOurs, o.peers},
		{fmt.Sprintf("wireguard-go, %d peers", o.peers), kindBare, o.peers},
	}
	var pairs []*pair
	var out []series
	defer func() {
		for _, p := range pairs {
			p.stop()
		}
	}()
	for _, k := range kinds {
		p, err := newPair(ctx, k.kind, k.peers)
		if err != nil {
			return nil, fmt.Errorf("set up %s: %w", k.name, err)
		}
		pairs = append(pairs, p)
		out = append(out, series{Name: k.name})
	}
	for round := range o.rounds {
		for i := range pairs {
			n := (i + round) % len(pairs)
			bits, cpu, err := pairs[n].measure(o)
			if err != nil {
				return nil, fmt.Errorf("measure %s: %w", out[n].Name, err)
			}
			out[n].BitsEachTime = append(out[n].BitsEachTime, bits)
			out[n].cpu = append(out[n].cpu, cpu)
		}
	}
	for i := range out {
		s := &out[i]
		s.Median, s.Least, s.Most = figures.Median(s.BitsEachTime), slices.Min(s.BitsEachTime), slices.Max(s.BitsEachTime)
		var ratios, cpuRatios []float64
		for round, bits := range s.BitsEachTime {
			ratios = append(ratios, bits/out[0].BitsEachTime[round])
			cpuRatios = append(cpuRatios, out[0].cpu[round]/s.cpu[round])
		}
		s.Ratio, s.CPUPerGB, s.CPURatio = figures.Median(ratios), figures.Median(s.cpu), figures.Median(cpuRatios)
	}
	return out, nil
}

// pair is two processes, each in namespaces of its own, joined by a tunnel over a pair of links.
type pair struct{ a, b *child }

func newPair(ctx context.Context, kind string, peers int) (*pair, error) {
	specs, err := pairSpecs(kind, peers)
	if err != nil {
		return nil, err
	}
	var p pair
	if p.a, err = startChild(ctx); err != nil {
		return nil, err
	}
	if p.b, err = startChild(ctx); err != nil {
		p.a.stop()
		return nil, err
	}
	err = join(p.a, p.b)
	err = cmp.Or(err, p.a.setUp(specs[0]))
	err = cmp.Or(err, p.b.setUp(specs[1]))
	if err != nil {
		p.stop()
		return nil, err
	}
	return &p, nil
}

func (p *pair) stop() {
	p.a.stop()
	p.b.stop()
}

// measure returns bits per second, and seconds of processor time for 10⁹ bytes.
func (p *pair) measure(o options) (bits, cpu float64, err error) {
	before, err := p.cpuSeconds()
	if err != nil {
		return 0, 0, err
	}
	answer, err := p.a.ask(fmt.Sprintf("measure 10.5.0.2 %s", o.duration))
	if err != nil {
		return 0, 0, err
	}
	after, err := p.cpuSeconds()
	if err != nil {
		return 0, 0, err
	}
	if bits, err = strconv.ParseFloat(answer, 64); err != nil {
		return 0, 0, err
	}
	moved := bits * 2 * o.duration.Seconds() / 8 // both ways in turn
	return bits, (after - before) / (moved / 1e9), nil
}

func (p *pair) cpuSeconds() (float64, error) {
	a, errA := cpuSeconds(p.a.pid())
	b, errB := cpuSeconds(p.b.pid())
	return a + b, cmp.Or(errA, errB)
}

// pairSpecs are two nodes that know each other, and peers-1 others that nobody hears of.
func pairSpecs(kind string, peers int) ([2]spec, error) {
	var out [2]spec
	for i := range out {
		key, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			return out, err
		}
		out[i] = spec{Kind: kind, Key: key, Outer: fmt.Sprintf("192.0.2.%d/24", i+1), Inner: fmt.Sprintf("10.5.0.%d/24", i+1)}
	}
	for i := range out {
		other := out[1-i]
		out[i].Peers = []peer{{Key: other.Key.PublicKey(), Endpoint: fmt.Sprintf("192.0.2.%d:%d", 2-i, port), Allowed: fmt.Sprintf("10.5.0.%d/32", 2-i)}}
		for n := 1; n < peers; n++ {
			key, err := wgtypes.GeneratePrivateKey()
			if err != nil {
				return out, err
			}
			out[i].Peers = append(out[i].Peers, peer{Key: key.PublicKey(), Allowed: fmt.Sprintf("10.%d.%d.0/24", 100+n/256, n%256)})
		}
	}
	return out, nil
}
