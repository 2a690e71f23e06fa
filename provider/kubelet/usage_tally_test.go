package kubelet

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
)

func cpuOf(name string, seconds float64) podUse {
	return podUse{pod: podName{"shop", name}, cpu: uint64(seconds * 1e9), cpuKnown: true, whole: true, millis: 1000}
}

// TestTally has a node's story in each row: what its pods had used at each scrape, and the sums in seconds.
func TestTally(t *testing.T) {
	const minute = time.Minute
	type step struct {
		after time.Duration
		pods  []podUse
		want  float64
	}
	containers := func(name string, seconds float64) podUse { u := cpuOf(name, seconds); u.whole = false; return u }
	unknown := podUse{pod: podName{"shop", "a"}}
	for name, steps := range map[string][]step{
		"two pods work":                    {{0, []podUse{cpuOf("a", 1), cpuOf("b", 2)}, 3}, {minute, []podUse{cpuOf("a", 2), cpuOf("b", 4)}, 6}},
		"a pod goes":                       {{0, []podUse{cpuOf("a", 1), cpuOf("b", 2)}, 3}, {minute, []podUse{cpuOf("b", 3)}, 4}, {10 * minute, []podUse{cpuOf("b", 4)}, 5}},
		"all go":                           {{0, []podUse{cpuOf("a", 1)}, 1}, {10 * minute, nil, 1}, {10 * minute, nil, 1}},
		"a pod is replaced":                {{0, []podUse{cpuOf("a", 10)}, 10}, {minute, []podUse{cpuOf("a", 1)}, 11}, {minute, []podUse{cpuOf("a", 2)}, 12}},
		"a machine is silent for a while":  {{0, []podUse{cpuOf("a", 10)}, 10}, {minute, nil, 10}, {minute, []podUse{cpuOf("a", 12)}, 12}},
		"a name comes again after long":    {{0, []podUse{cpuOf("a", 10)}, 10}, {6 * minute, nil, 10}, {minute, []podUse{cpuOf("a", 12)}, 22}},
		"the pod's own figure is missing":  {{0, []podUse{cpuOf("a", 10)}, 10}, {minute, []podUse{containers("a", 9)}, 10}, {minute, []podUse{cpuOf("a", 11)}, 11}},
		"the pod's own figure comes later": {{0, []podUse{containers("a", 10.5)}, 10.5}, {minute, []podUse{cpuOf("a", 10)}, 10.5}, {minute, []podUse{cpuOf("a", 11)}, 11}},
		"a pod without figures":            {{0, []podUse{cpuOf("a", 10)}, 10}, {minute, []podUse{unknown}, 10}},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1e9, 0)
			tally := newTally(now)
			for i, step := range steps {
				now = now.Add(step.after)
				if got := tally.count(uint64(i+1), now, 0, step.pods); got.cpu != uint64(step.want*1e9) {
					t.Errorf("scrape %d: %d ns, want %g s", i+1, got.cpu, step.want)
				}
			}
		})
	}
}

// TestTally_ScrapesInAnyOrder: a reader that is late with an old scrape is told what the newest says, and spoils nothing.
func TestTally_ScrapesInAnyOrder(t *testing.T) {
	now := time.Unix(1e9, 0)
	tally := newTally(now)
	tally.count(2, now, 0, []podUse{cpuOf("a", 10)})
	for _, scrape := range []uint64{1, 2} {
		if got := tally.count(scrape, now, 0, []podUse{cpuOf("a", 5)}); got.cpu != 10e9 {
			t.Errorf("scrape %d: %d", scrape, got.cpu)
		}
	}
	if got := tally.count(3, now, 0, []podUse{cpuOf("a", 11)}); got.cpu != 11e9 {
		t.Errorf("scrape 3: %d", got.cpu)
	}
}

// TestTally_TimeDoesNotGoBack: a reader refuses a sample that is older than the one before.
func TestTally_TimeDoesNotGoBack(t *testing.T) {
	now := time.Unix(1e9, 0)
	tally := newTally(now)
	for i, row := range []struct{ pod, scraped, want int64 }{{0, 500, 500}, {1000, 600, 1000}, {900, 700, 1000}, {0, 1500, 1500}} {
		var pods []podUse
		if row.pod != 0 {
			pods = append(pods, podUse{millis: row.pod})
		}
		if got := tally.count(uint64(i+1), now, row.scraped, pods); got.millis != row.want {
			t.Errorf("scrape %d: %d, want %d", i+1, got.millis, row.want)
		}
	}
}

// TestUsage_NodeNeverFalls lets pods come, work, be replaced and go at random, and reads all that is told of the node.
func TestUsage_NodeNeverFalls(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	now := fixedClock()
	text := ""
	node := &usageNode{name: "west", peer: "west", remote: answering(func(path string) (int, string) {
		if strings.HasSuffix(path, "summary") {
			return http.StatusOK, summaryOf(text)
		}
		return http.StatusOK, text
	})}
	u := NewUsage(UsageConfig{Now: func() time.Time { return now }})
	used := map[string]float64{}
	var lastText, lastSummary float64
	for round := range 300 {
		for i := range 10 {
			name := fmt.Sprint("p", i)
			switch random.IntN(8) {
			case 0:
				delete(used, name)
			case 1:
				used[name] = random.Float64()
			default:
				used[name] += random.Float64()
			}
		}
		var lines strings.Builder
		node.pods = nil
		for name, seconds := range used {
			fmt.Fprintf(&lines, "pod_cpu_usage_seconds_total{namespace=\"home-shop\",pod=%q} %g %d\n", name, seconds, now.UnixMilli())
			node.pods = append(node.pods, usagePod("shop", name, "uid"))
		}
		text = lines.String()
		got := nodeCPU(t, u, node)
		summary, err := u.Summary(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		sum := float64(*summary.Node.CPU.UsageCoreNanoSeconds)
		if got < lastText || sum < lastSummary {
			t.Fatalf("round %d: fell from %g to %g, or from %g to %g", round, lastText, got, lastSummary, sum)
		}
		lastText, lastSummary = got, sum
		now = now.Add(10 * time.Second)
	}
	if lastText == 0 || lastSummary == 0 {
		t.Error("nothing was told")
	}
}

// summaryOf is a summary with the pods and CPU of some text.
func summaryOf(text string) string {
	var pods []string
	for line := range strings.Lines(text) {
		var seconds float64
		_, rest, _ := strings.Cut(line, `pod="`)
		name, rest, _ := strings.Cut(rest, `"`)
		_, _ = fmt.Sscanf(rest, "} %g", &seconds)
		pods = append(pods, fmt.Sprintf(`{"podRef":{"name":%q,"namespace":"home-shop"},"cpu":{"time":null,"usageCoreNanoSeconds":%d}}`, name, int64(seconds*1e9)))
	}
	return `{"pods":[` + strings.Join(pods, ",") + `]}`
}

func nodeCPU(t *testing.T, u Usage, node Node) (value float64) {
	t.Helper()
	text, err := u.Resource(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nnode_cpu_usage_seconds_total ")
	if _, err := fmt.Sscan(rest, &value); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return value
}

// peerText is what a peer with as many pods of two containers tells, twenty to a namespace.
func peerText(pods int) string {
	var text strings.Builder
	for _, family := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_start_time_seconds", "container_swap_usage_bytes"} {
		fmt.Fprintf(&text, "# HELP %s [STABLE] Something\n# TYPE %s counter\n", family, family)
		for i := range 2 * pods {
			fmt.Fprintf(&text, "%s{container=\"c%d\",namespace=\"home-ns%d\",pod=\"pod-%d\"} %d.25 1763740800000\n", family, i%2, i/2/20, i/2, i)
		}
	}
	for _, family := range []string{"pod_cpu_usage_seconds_total", "pod_memory_working_set_bytes", "pod_swap_usage_bytes"} {
		fmt.Fprintf(&text, "# HELP %s [STABLE] Something\n# TYPE %s counter\n", family, family)
		for i := range pods {
			fmt.Fprintf(&text, "%s{namespace=\"home-ns%d\",pod=\"pod-%d\"} %d.5 1763740800000\n", family, i/20, i, i)
		}
	}
	return text.String()
}

// BenchmarkUsage_Resource is a node of 100 pods of a peer with 10 000.
func BenchmarkUsage_Resource(b *testing.B) {
	text := peerText(10_000)
	node := &usageNode{name: "west", peer: "west", remote: answering(func(string) (int, string) { return http.StatusOK, text })}
	for i := range 100 {
		node.pods = append(node.pods, usagePod(fmt.Sprint("ns", i*5), fmt.Sprint("pod-", i*100), "aaaaaaaa-0000-4000-8000-000000000001"))
	}
	u := NewUsage(UsageConfig{Now: fixedClock})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Resource(b.Context(), node); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadPage is the peer's whole answer, once per interval.
func BenchmarkReadPage(b *testing.B) {
	text := peerText(10_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readPage(strings.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}
