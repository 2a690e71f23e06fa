package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// render is the report for people: plain text, at most 120 wide.
func render(r *result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Spillway %s · Kubernetes %s · %s · %s\n%s\n", r.Spillway, r.Kubernetes, r.Go, r.Date.Format("2006-01-02 15:04 UTC"), r.Machine)
	fmt.Fprintf(&b, "%d rounds, loads taking turns. Seconds as min / median / max; ratios are medians of each round's ratio.\n", r.Rounds)
	loadTable(&b, r, "Until all pods are Ready", ready)
	loadTable(&b, r, "Until all pods are gone", gone)
	roundTripTable(&b, r)
	onePodLine(&b, r)
	if !r.Outside {
		writesTable(&b, r)
		ownTable(&b, r.Own)
		costTable(&b, r)
	}
	verdictTable(&b, r)
	if !r.Outside {
		fmt.Fprintf(&b, "\nOther programs used at most %.1f cores during a load.", othersAtMost(r))
	}
	fmt.Fprintf(&b, "\nThe whole run took %.0f s.\n", r.TookSeconds)
	return b.String()
}

// table writes aligned columns; cells are separated by tabs.
func table(b *strings.Builder, title string, rows ...string) {
	fmt.Fprintf(b, "\n%s\n", title)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(w, "  %s\n", row)
	}
	_ = w.Flush() // a strings.Builder does not fail
}

func loadTable(b *strings.Builder, r *result, title string, figure func(sample) float64) {
	rows := []string{"pods\tplain\tfloor\tspillway\tspillway / floor\tspillway / plain\tfloor / plain"}
	for _, n := range r.Pods {
		over := func(a, under string) string {
			return times(ratio(r.byRound(a, n, 0, figure), r.byRound(under, n, 0, figure)))
		}
		rows = append(rows, fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%s\t%s", n,
			r.spreadOver(plain, n, 0, figure), r.spreadOver(floor, n, 0, figure), r.spreadOver(spillway, n, 0, figure),
			over(spillway, floor), over(spillway, plain), over(floor, plain)))
	}
	table(b, title, rows...)
}

func roundTripTable(b *strings.Builder, r *result) {
	if len(r.RoundTrips) < 2 {
		return
	}
	n := r.Pods[len(r.Pods)-1]
	rows := []string{"round trip\tReady\tagainst 0 ms\tgone\tagainst 0 ms"}
	for _, ms := range r.RoundTrips {
		against := func(figure func(sample) float64) string {
			return times(ratio(r.byRound(spillway, n, ms, figure), r.byRound(spillway, n, 0, figure)))
		}
		rows = append(rows, fmt.Sprintf("%.0f ms\t%s\t%s\t%s\t%s", ms,
			r.spreadOver(spillway, n, ms, ready), against(ready), r.spreadOver(spillway, n, ms, gone), against(gone)))
	}
	table(b, fmt.Sprintf("%d pods, with a longer way to the provider's API server", n), rows...)
}

func onePodLine(b *strings.Builder, r *result) {
	away, home := spreadOf(r.OnePodSeconds[spillway]), spreadOf(r.OnePodSeconds[plain])
	if away.n == 0 || home.n == 0 {
		return
	}
	const ms = 1000
	fmt.Fprintf(b, "\nOne pod until Ready, median of %d one after another: plain %.0f ms, spillway %.0f ms\n", away.n, home.median*ms, away.median*ms)
}

// writesTable is about everything that the API servers did for the largest number of pods.
func writesTable(b *strings.Builder, r *result) {
	n := r.Pods[len(r.Pods)-1]
	perPod := func(load string, pick func(sample) *cost) string {
		s := r.spreadOver(load, n, 0, func(s sample) float64 { return float64(sum(pick(s).Writes)) / float64(n) })
		return fmt.Sprintf("%.1f", s.median)
	}
	var rows []string
	for _, load := range []string{plain, floor, spillway} {
		rows = append(rows, strings.Join([]string{load, perPod(load, startAtConsumer), perPod(load, startAtProvider),
			perPod(load, wholeAtConsumer), perPod(load, wholeAtProvider)}, "\t"))
	}
	table(b, fmt.Sprintf("API writes per pod by everyone (%d pods; all but leases)", n),
		append([]string{"load\tstart: consumer\tprovider\tstart and delete: consumer\tprovider"}, rows...)...)
}

// ownTable is about what the spillwayds alone wrote.
func ownTable(b *strings.Builder, own *ownWrites) {
	if own == nil {
		return
	}
	line := func(where string, writes map[string]int64) string {
		var parts []string
		byCount := func(a, b string) int { return cmp.Or(cmp.Compare(writes[b], writes[a]), cmp.Compare(a, b)) }
		for _, name := range slices.SortedFunc(maps.Keys(writes), byCount) {
			parts = append(parts, fmt.Sprintf("%s %.2f", name, float64(writes[name])/float64(own.Pods)))
		}
		return where + "\t" + strings.Join(parts, ", ")
	}
	table(b, fmt.Sprintf("API writes per pod by spillwayd alone, start and delete (%d pods, a pass of its own)", own.Pods),
		line("consumer", own.Consumer), line("provider", own.Provider))
}

// costTable is about CPU and memory for the largest number of pods.
func costTable(b *strings.Builder, r *result) {
	n := r.Pods[len(r.Pods)-1]
	rows := []string{"\tplain\tfloor\tspillway\tplain\tfloor\tspillway"}
	for _, row := range []struct {
		title      string
		components []string
	}{
		{"spillwayd", []string{lab.Spillwayd}},
		{"API server and etcd", []string{lab.APIServer, lab.Etcd}},
		{"controller-manager and scheduler", []string{lab.ControllerManager, lab.Scheduler}},
		{"simulated kubelets", []string{lab.Kwok}},
	} {
		for _, where := range []struct {
			name         string
			start, whole func(sample) *cost
		}{{"consumer", startAtConsumer, wholeAtConsumer}, {"provider", startAtProvider, wholeAtProvider}} {
			cells := []string{row.title + ", " + where.name}
			for _, pick := range []func(sample) *cost{where.start, where.whole} {
				for _, load := range []string{plain, floor, spillway} {
					cells = append(cells, fmt.Sprintf("%.2f", r.spreadOver(load, n, 0, cpu(pick, row.components...)).median))
				}
			}
			rows = append(rows, strings.Join(cells, "\t"))
		}
	}
	table(b, fmt.Sprintf("CPU seconds for %d pods (median): start, then start and delete", n), rows...)
	if r.PeakRSSMiB == nil {
		return
	}
	rss := func(pick func(sample) float64) float64 { return r.spreadOver(spillway, n, 0, pick).median }
	table(b, "Memory of spillwayd, MiB",
		fmt.Sprintf("consumer\t%.0f with %d pods Ready\t%.0f at most in the whole run", rss(func(s sample) float64 { return s.RSSMiB.Consumer }), n, r.PeakRSSMiB.Consumer),
		fmt.Sprintf("provider\t%.0f with %d pods Ready\t%.0f at most in the whole run", rss(func(s sample) float64 { return s.RSSMiB.Provider }), n, r.PeakRSSMiB.Provider))
}

// verdictTable shows the promises that this run can judge.
func verdictTable(b *strings.Builder, r *result) {
	var rows []string
	for _, v := range verdicts(r) {
		if !math.IsNaN(v.figure) {
			rows = append(rows, fmt.Sprintf("%s\t"+v.format+"\tat most "+v.format+"\t%s", v.what, v.figure, v.most, v.word()))
		}
	}
	if len(rows) == 0 {
		fmt.Fprintf(b, "\nThe promises are about %d pods (-n %d): this run cannot judge them.\n", promisedPods, promisedPods)
		return
	}
	table(b, "Promised", rows...)
}

func othersAtMost(r *result) float64 {
	var most float64
	for _, s := range r.Samples {
		most = max(most, s.OtherCores)
	}
	return most
}

func (s spread) String() string {
	if s.n == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f / %.2f / %.2f", s.min, s.median, s.max)
}

func times(ratio float64) string {
	if math.IsNaN(ratio) {
		return "–"
	}
	return fmt.Sprintf("%.2f ×", ratio)
}
