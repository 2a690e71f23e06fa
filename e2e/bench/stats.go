package main

import (
	"math"
	"slices"

	"github.com/spillway-dev/spillway/e2e/bench/figures"
)

// spread sums up several measurements of one thing. The zero value has none.
type spread struct {
	min, median, max float64
	n                int
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	return spread{slices.Min(values), figures.Median(values), slices.Max(values), len(values)}
}

// ratio is the median of the ratios of each round: what disturbs a round disturbs both. NaN when no round has both.
func ratio(over, under map[int]float64) float64 {
	var ratios []float64
	for round, a := range over {
		if b, ok := under[round]; ok && b > 0 {
			ratios = append(ratios, a/b)
		}
	}
	if len(ratios) == 0 {
		return math.NaN()
	}
	return figures.Median(ratios)
}

// byRound picks one figure of the samples of a load, by round.
func (r *result) byRound(load string, pods int, rttMs float64, figure func(sample) float64) map[int]float64 {
	values := map[int]float64{}
	for _, s := range r.Samples {
		if s.Load == load && s.Pods == pods && s.RoundTripMs == rttMs {
			values[s.Round] = figure(s)
		}
	}
	return values
}

// spreadOver the rounds.
func (r *result) spreadOver(load string, pods int, rttMs float64, figure func(sample) float64) spread {
	var values []float64
	for _, v := range r.byRound(load, pods, rttMs, figure) {
		values = append(values, v)
	}
	return spreadOf(values)
}

func ready(s sample) float64 { return s.ReadySeconds }
func gone(s sample) float64  { return s.GoneSeconds }

// cpu is a figure: the CPU seconds of some components of a cluster.
func cpu(pick func(sample) *cost, components ...string) func(sample) float64 {
	return func(s sample) float64 {
		var sum float64
		for _, name := range components {
			sum += pick(s).CPUSeconds[name]
		}
		return sum
	}
}

func sum(counts map[string]int64) int64 {
	var n int64
	for _, count := range counts {
		n += count
	}
	return n
}
