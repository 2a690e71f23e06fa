package main

import (
	"math"
	"testing"

	"github.com/spillway-dev/spillway/e2e/bench/figures"
)

func TestSpreadOf(t *testing.T) {
	for name, row := range map[string]struct {
		values []float64
		want   spread
	}{
		"nothing":    {nil, spread{}},
		"one":        {[]float64{2}, spread{2, 2, 2, 1}},
		"odd":        {[]float64{9, 1, 3}, spread{1, 3, 9, 3}},
		"even":       {[]float64{4, 1, 2, 9}, spread{1, 3, 9, 4}},
		"all equal":  {[]float64{5, 5}, spread{5, 5, 5, 2}},
		"descending": {[]float64{3, 2, 1}, spread{1, 2, 3, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := spreadOf(row.values); got != row.want {
				t.Errorf("got %+v, want %+v", got, row.want)
			}
		})
	}
}

func TestMedian_LeavesItsArgumentAlone(t *testing.T) {
	values := []float64{3, 1, 2}
	figures.Median(values)
	if values[0] != 3 {
		t.Errorf("the values were sorted in place: %v", values)
	}
}

func TestRatio(t *testing.T) {
	for name, row := range map[string]struct {
		over, under map[int]float64
		want        float64 // NaN: unknown
	}{
		"no rounds":                       {nil, nil, math.NaN()},
		"no round in common":              {map[int]float64{1: 2}, map[int]float64{2: 1}, math.NaN()},
		"one round":                       {map[int]float64{1: 3}, map[int]float64{1: 2}, 1.5},
		"a disturbed round disturbs both": {map[int]float64{1: 2, 2: 20, 3: 2.2}, map[int]float64{1: 1, 2: 10, 3: 1}, 2},
		"a zero is no measurement":        {map[int]float64{1: 2, 2: 2}, map[int]float64{1: 0, 2: 1}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			got := ratio(row.over, row.under)
			if got != row.want && !(math.IsNaN(got) && math.IsNaN(row.want)) {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}

func TestVerdict_JudgesWhatIsPrinted(t *testing.T) {
	for name, row := range map[string]struct {
		figure, most float64
		want         string
	}{
		"below":                   {1.1, 1.25, "ok"},
		"exactly":                 {1.25, 1.25, "ok"},
		"above":                   {1.26, 1.25, "SHORT"},
		"above, but not in print": {1.002, 1, "ok"},
		"more than nothing":       {0.01, 0, "SHORT"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (verdict{figure: row.figure, most: row.most}).word(); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}
