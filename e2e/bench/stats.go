package main

import (
	"math"
	"slices"
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
	return spread{slices.Min(values), median(values), slices.Max(values), len(values)}
}

// median of at least one value; of an even number the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
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
	return median(ratios)
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
