// Package footprint takes down what there is in a cluster and on a node, so that a test can say that an installation has gone
// without a trace: every object of every kind, and the kernel, the files, the processes and the ports of a node.
//
// It knows nothing of Spillway. What changes by itself (counters, ages, heartbeats, versions of objects) is left out; everything
// else counts, also that an object is another one of the same name. Contents of Secrets are told apart, but never shown.
//
//	before, err := footprint.OfCluster(ctx, config)
//	…
//	now, err := footprint.OfCluster(ctx, config)
//	for _, words := range footprint.Diff(before, now) { … }   // "+ secrets spillway-system/spillway-tunnel"
package footprint

import (
	"fmt"
	"maps"
	"slices"
)

// Footprint is what there is, by name; each thing has lines that say how it is, in no particular order.
type Footprint map[string][]string

// add notes a thing, or more about it.
func (f Footprint) add(name string, lines ...string) { f[name] = append(f[name], lines...) }

// Diff says in words, sorted, what came (+), what went (-), and what is not as it was (~). Nil: all is as before.
func Diff(before, now Footprint) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, there := now[name]; !there {
			out = append(out, "- "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		was, there := before[name]
		if !there {
			out = append(out, "+ "+name)
			continue
		}
		gone, come := missing(was, now[name]), missing(now[name], was)
		for _, line := range gone {
			out = append(out, fmt.Sprintf("~ %s: was %s", name, line))
		}
		for _, line := range come {
			out = append(out, fmt.Sprintf("~ %s: now %s", name, line))
		}
	}
	return out
}

// missing are the lines of a that b does not have as often, sorted.
func missing(a, b []string) []string {
	count := map[string]int{}
	for _, line := range b {
		count[line]++
	}
	var out []string
	for _, line := range a {
		if count[line]--; count[line] < 0 {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

// Without is f without the things that skip names.
func (f Footprint) Without(skip func(name string) bool) Footprint {
	out := maps.Clone(f)
	maps.DeleteFunc(out, func(name string, _ []string) bool { return skip(name) })
	return out
}
