package main

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
)

// render is the report for people: plain text, at most 120 wide.
func render(r *result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Spillway %s · %s · %s\n%s\n", r.Spillway, r.Go, r.Date.Format("2006-01-02 15:04 UTC"), r.Machine)
	fmt.Fprintf(&b, "%d rounds, ways taking turns, %.0f s each way. Figures as min / median / max; ratios are medians of each round's ratio.\n",
		r.Rounds, r.DurationSeconds)
	throughputTable(&b, r)
	ratioTable(&b, r)
	latencyTable(&b, r)
	idleLine(&b, r.Idle)
	verdictTable(&b, r)
	fmt.Fprintf(&b, "\nOther programs used at most %.1f cores during a measurement.", othersAtMost(r))
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

// title is how a way is called in tables.
func (r *result) title(way string) string {
	if way == manyPeers {
		return fmt.Sprintf("spillway, pod to pod, %d peers", r.Peers)
	}
	return strings.Replace(way, "bare", "wireguard-go", 1)
}

func throughputTable(b *strings.Builder, r *result) {
	if len(r.Samples) == 0 {
		return
	}
	const giga = 1e9
	rows := []string{"\tGb/s, both ways\tCPU seconds per GB, whole machine"}
	for _, w := range ways() {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", r.title(w.name),
			r.spreadOver(w.name, func(s sample) float64 { return bits(s) / giga }), r.spreadOver(w.name, cpuPerGB)))
	}
	table(b, "TCP, one connection", rows...)
}

func ratioTable(b *strings.Builder, r *result) {
	if len(r.Samples) == 0 {
		return
	}
	rows := []string{"\tthroughput\tCPU per GB"}
	for _, pair := range [][2]string{
		{oursPods, barePods}, {oursGateways, bareGateways}, {oursPods, bareGateways}, {barePods, bareGateways},
		{manyPeers, oursPods}, {overlapping, oursPods}, {fromNode, oursPods},
	} {
		rows = append(rows, fmt.Sprintf("%s / %s\t%s\t%s", r.title(pair[0]), r.title(pair[1]),
			times(r.ratio(pair[0], pair[1], bits)), times(r.ratio(pair[0], pair[1], cpuPerGB))))
	}
	table(b, "Against each other", rows...)
}

func latencyTable(b *strings.Builder, r *result) {
	if len(r.Samples) == 0 {
		return
	}
	rows := []string{"\tTCP\tUDP"}
	for _, way := range []string{barePods, oursPods, fromNode} {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", r.title(way), r.spreadOver(way, tcpMicros).whole(), r.spreadOver(way, udpMicros).whole()))
	}
	rows = append(rows, fmt.Sprintf("spillway / wireguard-go\t%s\t%s", times(r.ratio(oursPods, barePods, tcpMicros)), times(r.ratio(oursPods, barePods, udpMicros))))
	table(b, "Round trips of 64 bytes, median, µs", rows...)
}

func idleLine(b *strings.Builder, i *idle) {
	if i == nil {
		return
	}
	table(b, fmt.Sprintf("A gateway with %d idle peers, probes running, over %.0f s", i.Peers, i.Seconds),
		fmt.Sprintf("processor\t%.2f %% of a core", i.CorePercent),
		fmt.Sprintf("memory\t%.0f MiB resident, of which %.0f are its own", i.Resident, i.Own))
}

// verdictTable shows the promises that this run can judge.
func verdictTable(b *strings.Builder, r *result) {
	var rows []string
	for _, v := range verdicts(r) {
		if !math.IsNaN(v.figure) {
			rows = append(rows, fmt.Sprintf("%s\t"+v.format+"\t%s "+v.format+"\t%s", v.what, v.figure, v.side(), v.bound, v.word()))
		}
	}
	if len(rows) > 0 {
		table(b, "Promised", rows...)
	}
}

func othersAtMost(r *result) float64 {
	var most float64
	for _, s := range r.Samples {
		most = max(most, s.OtherCores)
	}
	if r.Idle != nil {
		most = max(most, r.Idle.OtherCores)
	}
	return most
}

func (s spread) String() string {
	if s.n == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f / %.2f / %.2f", s.min, s.median, s.max)
}

func (s spread) whole() string {
	if s.n == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f / %.0f / %.0f", s.min, s.median, s.max)
}

func times(ratio float64) string {
	if math.IsNaN(ratio) {
		return "–"
	}
	return fmt.Sprintf("%.2f ×", ratio)
}
