package main

import (
	"math"
	"strings"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// verdict compares a figure with what is promised.
type verdict struct {
	what   string
	figure float64 // NaN: not measured
	most   float64
	format string // of figure and most
}

func (v verdict) ok() bool {
	// What is printed is compared: 1.001 writes per pod are printed as 1.00.
	const precision = 100
	return math.Round(v.figure*precision) <= v.most*precision
}

func (v verdict) word() string {
	if v.ok() {
		return "ok"
	}
	return "SHORT"
}

// promisedPods is the number of pods that the promises are about.
const promisedPods = 1000

// verdicts on what was measured; those about 1000 pods are judged by no other number.
func verdicts(r *result) []verdict {
	n := promisedPods
	compare := func(load string, rttMs float64, under string, figure func(sample) float64) float64 {
		return ratio(r.byRound(load, n, rttMs, figure), r.byRound(under, n, 0, figure))
	}
	list := []verdict{
		{"1000 pods Ready, against the floor", compare(spillway, 0, floor, ready), 1.25, "%.2f ×"},
		{"1000 pods deleted, against the floor", compare(spillway, 0, floor, gone), 1.25, "%.2f ×"},
		{"1000 pods Ready with 50 ms of round trip, against none", compare(spillway, 50, spillway, ready), 1.2, "%.2f ×"},
		{"1000 pods Ready with 200 ms of round trip, against none", compare(spillway, 200, spillway, ready), 1.6, "%.2f ×"},
	}
	return append(append(list, ownVerdicts(r.Own)...), costVerdicts(r, n)...)
}

func ownVerdicts(own *ownWrites) []verdict {
	perPod := func(pick func(*ownWrites) map[string]int64, names ...string) float64 {
		if own == nil {
			return math.NaN()
		}
		var n int64
		for _, name := range names {
			n += countOf(pick(own), name)
		}
		return float64(n) / float64(own.Pods)
	}
	consumer := func(o *ownWrites) map[string]int64 { return o.Consumer }
	provider := func(o *ownWrites) map[string]int64 { return o.Provider }
	return []verdict{
		{"writes to the provider, creates per pod", perPod(provider, "create pods"), 1, "%.2f"},
		{"writes to the provider, deletes per pod", perPod(provider, "delete pods"), 1, "%.2f"},
		{"writes at home, status patches per pod", perPod(consumer, "patch pods/status"), 2, "%.2f"},
		{"writes at home, deletes per pod", perPod(consumer, "delete pods"), 1, "%.2f"},
		{"writes to pods beyond these, per pod", perPod(consumer, otherPodWrites()...) + perPod(provider, append(otherPodWrites(), "patch pods/status")...), 0, "%.2f"},
		{"Events for success, per pod", perPod(consumer, eventWrites()...) + perPod(provider, eventWrites()...), 0, "%.2f"},
	}
}

// countOf is how often something was tried, with success or without.
func countOf(writes map[string]int64, name string) int64 {
	var n int64
	for key, count := range writes {
		if key == name || strings.HasPrefix(key, name+" (") {
			n += count
		}
	}
	return n
}

func otherPodWrites() []string {
	return []string{"patch pods", "update pods", "apply pods", "update pods/status", "apply pods/status", "deletecollection pods"}
}

func eventWrites() []string { return []string{"create events", "patch events"} }

func costVerdicts(r *result, n int) []verdict {
	spillwayd := func(pick func(sample) *cost) float64 {
		if r.Outside {
			return math.NaN()
		}
		s := r.spreadOver(spillway, n, 0, cpu(pick, lab.Spillwayd))
		if s.n == 0 {
			return math.NaN()
		}
		return s.median
	}
	peak := math.NaN()
	if r.PeakRSSMiB != nil && len(r.Pods) > 0 && r.Pods[len(r.Pods)-1] >= n {
		peak = max(r.PeakRSSMiB.Consumer, r.PeakRSSMiB.Provider)
	}
	return []verdict{
		{"CPU of the consumer's spillwayd, start of 1000", spillwayd(startAtConsumer), 3, "%.2f s"},
		{"CPU of the consumer's spillwayd, start and delete", spillwayd(wholeAtConsumer), 3, "%.2f s"},
		{"CPU of the provider's spillwayd, start and delete", spillwayd(wholeAtProvider), 3, "%.2f s"},
		{"memory of the larger spillwayd, peak of the whole run", peak, 100, "%.0f MiB"},
	}
}

func startAtConsumer(s sample) *cost { return &s.Start.Consumer }
func startAtProvider(s sample) *cost { return &s.Start.Provider }
func wholeAtConsumer(s sample) *cost { return &s.Whole.Consumer }
func wholeAtProvider(s sample) *cost { return &s.Whole.Provider }
