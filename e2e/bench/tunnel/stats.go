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

// byRound picks one figure of a way, by round.
func (r *result) byRound(way string, figure func(sample) float64) map[int]float64 {
	values := map[int]float64{}
	for _, s := range r.Samples {
		if s.Way == way {
			values[s.Round] = figure(s)
		}
	}
	return values
}

// spreadOver the rounds.
func (r *result) spreadOver(way string, figure func(sample) float64) spread {
	var values []float64
	for _, v := range r.byRound(way, figure) {
		values = append(values, v)
	}
	return spreadOf(values)
}

// ratio is the median of the ratios of each round: what disturbs a round disturbs both. NaN when no round has both.
func (r *result) ratio(over, under string, figure func(sample) float64) float64 {
	below := r.byRound(under, figure)
	var ratios []float64
	for round, a := range r.byRound(over, figure) {
		if b := below[round]; b > 0 {
			ratios = append(ratios, a/b)
		}
	}
	if len(ratios) == 0 {
		return math.NaN()
	}
	return figures.Median(ratios)
}
