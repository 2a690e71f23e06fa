package kubelet

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

// forgetAfter is how long a pod that no scrape told of any more may come back without being counted anew: longer than a peer's
// kubelet is silent while its machine restarts, and than an answer is kept anywhere on the way.
const forgetAfter = 5 * time.Minute

// maxFigure is more than any pod can have used: 146 years of one core in nanoseconds. What is above is nonsense.
const maxFigure = 1 << 62

// figure says what a line tells of a pod.
type figure uint8

const (
	figureOther figure = iota
	figureCPU
	figureMemory
	figureSwap
	figureContainerCPU
	figureContainerMemory
	figureContainerSwap
	figureNode // of a node, so not a peer's to tell
)

func figureNamed(name string) figure {
	switch name {
	case "pod_cpu_usage_seconds_total":
		return figureCPU
	case "pod_memory_working_set_bytes":
		return figureMemory
	case "pod_swap_usage_bytes":
		return figureSwap
	case "container_cpu_usage_seconds_total":
		return figureContainerCPU
	case "container_memory_working_set_bytes":
		return figureContainerMemory
	case "container_swap_usage_bytes":
		return figureContainerSwap
	case "node_cpu_usage_seconds_total", "node_memory_working_set_bytes", "node_swap_usage_bytes", "resource_scrape_error":
		return figureNode
	}
	return figureOther
}

// podUse is what a pod uses: CPU in nanoseconds since its start and nanocores, memory in bytes. Millis is when, in Unix time.
type podUse struct {
	pod        podName // at home
	cpu, cores uint64
	cpuKnown   bool
	whole      bool // CPU is of the pod; false: the sum of its containers
	memory     memoryUse
	swap       uint64
	swapKnown  bool
	millis     int64
}

// memoryUse are figures of bytes.
type memoryUse struct{ workingSet, usage, rss uint64 }

func (m *memoryUse) add(o memoryUse) {
	m.workingSet += o.workingSet
	m.usage += o.usage
	m.rss += o.rss
}

// nodeUse is what the pods of a node use together, and have used since this process first summed them.
type nodeUse struct {
	started    time.Time
	cpu, cores uint64
	memory     memoryUse
	swap       uint64
	swapKnown  bool
	millis     int64
}

// use reads what the lines of a pod tell. The pod's own figures are taken before the sums of its containers.
func (p *page) use(pod homePod) podUse {
	var values [figureContainerSwap + 1]float64
	var known [figureContainerSwap + 1]bool
	u := podUse{pod: podName{pod.namespace, pod.twin.name}}
	for at := p.first(pod.twin); at >= 0; at = p.lines[at].next {
		figure := p.samples[p.lines[at].sample].figure
		if figure == figureOther {
			continue
		}
		value, millis, ok := readTail(p.tail(at))
		if !ok {
			continue
		}
		values[figure] += value
		known[figure] = true
		u.millis = max(u.millis, millis)
	}
	pick := func(own, containers figure) (uint64, bool) {
		if known[own] {
			containers = own
		}
		return uint64(math.Round(min(values[containers], maxFigure))), known[containers]
	}
	values[figureCPU] *= 1e9
	values[figureContainerCPU] *= 1e9
	u.whole = known[figureCPU]
	u.cpu, u.cpuKnown = pick(figureCPU, figureContainerCPU)
	u.memory.workingSet, _ = pick(figureMemory, figureContainerMemory)
	u.swap, u.swapKnown = pick(figureSwap, figureContainerSwap)
	return u
}

// readTail reads value and timestamp of a line; the timestamp is 0 when there is none. What cannot be summed is not ok.
func readTail(tail []byte) (value float64, millis int64, ok bool) {
	text, stamp, _ := bytes.Cut(bytes.TrimLeft(tail, " \t"), []byte(" "))
	value, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.IsNaN(value) || value < 0 {
		return 0, 0, false
	}
	if stamp = bytes.TrimSpace(stamp); len(stamp) > 0 {
		if millis, err = strconv.ParseInt(string(stamp), 10, 64); err != nil {
			return 0, 0, false
		}
	}
	return value, millis, true
}

// tally keeps the CPU sum of a node from falling: what pods that are gone have used stays in it, as in the counter of a machine.
type tally struct {
	started time.Time
	scrape  uint64 // number of the newest scrape in it
	pods    map[podName]counted
	gone    uint64 // nanoseconds used by pods that are in pods no more
	sum     nodeUse
}

// counted is a pod's CPU as last told.
type counted struct {
	cpu   uint64
	whole bool
	seen  time.Time
}

func newTally(now time.Time) *tally { return &tally{started: now, pods: map[podName]counted{}} }

// count adds a scrape and returns the sums as of the newest scrape: all readers of one scrape are told the same. Millis is the time
// of the sums when no pod tells one.
func (t *tally) count(scrape uint64, now time.Time, millis int64, pods []podUse) nodeUse {
	if scrape <= t.scrape {
		return t.sum
	}
	t.scrape = scrape
	sum := nodeUse{started: t.started}
	for i := range pods {
		pod := &pods[i]
		t.see(pod, now)
		sum.cores += pod.cores
		sum.memory.add(pod.memory)
		sum.swap += pod.swap
		sum.swapKnown = sum.swapKnown || pod.swapKnown
		sum.millis = max(sum.millis, pod.millis)
	}
	if sum.millis == 0 {
		sum.millis = millis
	}
	sum.millis = max(sum.millis, t.sum.millis) // a reader refuses a time before the last
	for name, pod := range t.pods {
		if now.Sub(pod.seen) > forgetAfter {
			t.gone += pod.cpu
			delete(t.pods, name)
			continue
		}
		sum.cpu += pod.cpu
	}
	sum.cpu += t.gone
	t.sum = sum
	return sum
}

// see notes the CPU of a pod. A counter that fell is that of another pod under the same name, as rate() of Prometheus takes it.
func (t *tally) see(pod *podUse, now time.Time) {
	if !pod.cpuKnown {
		return
	}
	before, known := t.pods[pod.pod]
	switch {
	case known && before.whole && !pod.whole:
		before.seen = now // a sum of containers tells less than was told: it did not fall
	case known && pod.whole == before.whole && pod.cpu < before.cpu:
		t.gone += before.cpu
		before = counted{cpu: pod.cpu, whole: pod.whole, seen: now}
	default:
		before = counted{cpu: max(before.cpu, pod.cpu), whole: pod.whole, seen: now}
	}
	t.pods[pod.pod] = before
}
