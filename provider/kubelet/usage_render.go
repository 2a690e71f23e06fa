package kubelet

import (
	"cmp"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// homePod is a pod of a node and where its twin is.
type homePod struct {
	twin      podName
	namespace string
	uid       string
}

// podsOf lists the pods of a node that have a place at the peer.
func podsOf(node Node) []homePod {
	pods := node.Pods()
	out := make([]homePod, 0, len(pods))
	for _, pod := range pods {
		if remote, ok := node.RemoteNamespace(pod.Namespace); ok {
			out = append(out, newHomePod(pod, remote))
		}
	}
	return out
}

func newHomePod(pod *corev1.Pod, remote string) homePod {
	return homePod{twin: podName{remote, pod.Name}, namespace: pod.Namespace, uid: string(pod.UID)}
}

// ownFamily is one that the peer does not tell and this process does: without labels, its sample after a blank, with a newline.
type ownFamily struct{ name, header, sample string }

// pick is a line to print and the pod it is of. Sorted by order, lines are by family and then as scraped.
type pick struct {
	order uint64
	pod   int32
}

// render prints the lines of some pods as a kubelet at home would, families of its own among them. Own families are sorted.
func (p *page) render(pods []homePod, own []ownFamily) []byte {
	picks := p.pick(pods)
	out := make([]byte, 0, p.size(picks, own))
	last := int32(-1)
	for _, pick := range picks {
		at := int32(uint32(pick.order))
		line := &p.lines[at]
		sample := &p.samples[line.sample]
		if sample.family != last {
			last = sample.family
			family := &p.families[last]
			for len(own) > 0 && own[0].name < family.name {
				out = own[0].append(out)
				own = own[1:]
			}
			out = append(append(out, family.help...), family.kind...)
		}
		pod := &pods[pick.pod]
		out = append(out, sample.name...)
		out = p.blocks[line.block].appendBlock(out, pod.namespace, pod.uid)
		out = append(append(out, p.tail(at)...), '\n')
	}
	for _, family := range own {
		out = family.append(out)
	}
	return out
}

func (f *ownFamily) append(out []byte) []byte {
	return append(append(append(out, f.header...), f.name...), f.sample...)
}

// pick lists the lines of the pods in the order of print.
func (p *page) pick(pods []homePod) []pick {
	var picks []pick
	for number := range pods {
		for at := p.first(pods[number].twin); at >= 0; at = p.lines[at].next {
			rank := p.families[p.samples[p.lines[at].sample].family].rank
			picks = append(picks, pick{order: uint64(rank)<<32 | uint64(uint32(at)), pod: int32(number)})
		}
	}
	slices.SortFunc(picks, func(a, b pick) int { return cmp.Compare(a.order, b.order) })
	return picks
}

// size is about how long the print is; names at home may be longer than at the peer.
func (p *page) size(picks []pick, own []ownFamily) int {
	n := 512 * len(own)
	last := int32(-1)
	for _, pick := range picks {
		line := &p.lines[int32(uint32(pick.order))]
		sample := &p.samples[line.sample]
		if sample.family != last {
			last = sample.family
			n += len(p.families[last].help) + len(p.families[last].kind)
		}
		n += len(sample.name) + len(p.blocks[line.block].text) + len(p.tail(int32(uint32(pick.order)))) + 8
	}
	return n
}

// nodeFamilies are the families of /metrics/resource that are not of pods, as a kubelet 1.36 describes them: sums here. Its
// scrape_error is hidden since 1.29. Partial: a machine of the peer did not tell its part.
func nodeFamilies(use nodeUse, partial bool) []ownFamily {
	timed := func(value float64) string {
		return " " + formatNumber(value) + " " + strconv.FormatInt(use.millis, 10) + "\n"
	}
	own := []ownFamily{
		{"node_cpu_usage_seconds_total", "# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds\n" +
			"# TYPE node_cpu_usage_seconds_total counter\n", timed(float64(use.cpu) / 1e9)},
		{"node_memory_working_set_bytes", "# HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes\n" +
			"# TYPE node_memory_working_set_bytes gauge\n", timed(float64(use.memory.workingSet))},
	}
	if use.swapKnown {
		own = append(own, ownFamily{"node_swap_usage_bytes", "# HELP node_swap_usage_bytes [ALPHA] Current swap usage of the node in bytes. " +
			"Reported only on non-windows systems\n# TYPE node_swap_usage_bytes gauge\n", timed(float64(use.swap))})
	}
	failed := " 0\n"
	if partial {
		failed = " 1\n"
	}
	return append(own, ownFamily{"resource_scrape_error", "# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, " +
		"0 otherwise\n# TYPE resource_scrape_error gauge\n", failed})
}

// formatNumber writes a value as a kubelet does.
func formatNumber(value float64) string { return strconv.FormatFloat(value, 'g', -1, 64) }
