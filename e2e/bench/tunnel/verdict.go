package main

import "math"

// verdict compares a figure with what is promised.
type verdict struct {
	what   string
	figure float64 // NaN: not measured
	bound  float64
	least  bool   // the bound is a lower one
	format string // of figure and bound
}

// ok compares what is printed: 0.8996 is printed as 0.90.
func (v verdict) ok() bool {
	const precision = 100
	figure, bound := math.Round(v.figure*precision), math.Round(v.bound*precision)
	return v.least && figure >= bound || !v.least && figure <= bound
}

func (v verdict) word() string {
	if v.ok() {
		return "ok"
	}
	return "SHORT"
}

func (v verdict) side() string {
	if v.least {
		return "at least"
	}
	return "at most"
}

func verdicts(r *result) []verdict {
	list := []verdict{
		{"pod to pod, against wireguard-go pod to pod", r.ratio(oursPods, barePods, bits), 0.90, true, "%.2f ×"},
		{"250 peers, against one", math.NaN(), 0.97, true, "%.2f ×"},
	}
	if r.Peers == 250 {
		list[1].figure = r.ratio(manyPeers, oursPods, bits)
	}
	if r.Idle != nil && r.Idle.Peers == 100 {
		list = append(list,
			verdict{"100 idle peers, processor", r.Idle.CorePercent, 1, false, "%.2f %% of a core"},
			verdict{"100 idle peers, memory", r.Idle.Resident, 60, false, "%.0f MiB"})
	}
	return list
}
