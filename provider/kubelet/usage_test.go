package kubelet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// usageNode is a virtual node that does not change, unless its test does so between two questions.
type usageNode struct {
	name, peer string
	pods       []*corev1.Pod
	remote     *rest.Config
	lost       error
}

func (n *usageNode) Name() string        { return n.name }
func (n *usageNode) Peer() string        { return n.peer }
func (n *usageNode) Pods() []*corev1.Pod { return n.pods }
func (n *usageNode) Pod(namespace, name string) (*corev1.Pod, bool) {
	for _, pod := range n.pods {
		if pod.Namespace == namespace && pod.Name == name {
			return pod, true
		}
	}
	return nil, false
}
func (n *usageNode) Absent(*corev1.Pod) bool { return false }

func (n *usageNode) RemoteNamespace(local string) (string, bool) {
	return "home-" + local, local != "elsewhere"
}
func (n *usageNode) Remote() *rest.Config { return n.remote }
func (n *usageNode) Lost() error          { return n.lost }

func usagePod(namespace, name, uid string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid)}}
}

// westNodes are two virtual nodes of one peer, whose twins testdata/usage tells of. The peer tells of one pod more, and there is one
// of which it does not tell.
func westNodes(remote *rest.Config) (a, b *usageNode) {
	a = &usageNode{name: "west-a", peer: "west", remote: remote, pods: []*corev1.Pod{
		usagePod("shop", "web-0", "aaaaaaaa-0000-4000-8000-000000000001"),
		usagePod("shop", "pending", "aaaaaaaa-0000-4000-8000-000000000009"),
		usagePod("elsewhere", "web-0", "aaaaaaaa-0000-4000-8000-000000000010"),
	}}
	b = &usageNode{name: "west-b", peer: "west", remote: remote, pods: []*corev1.Pod{
		usagePod("tools", "web-0", "bbbbbbbb-0000-4000-8000-000000000003"),
		usagePod("shop", "web-1", "bbbbbbbb-0000-4000-8000-000000000002"),
	}}
	return a, b
}

// answering is a config whose requests are answered here, without a network, by what serve writes.
func answering(serve func(path string) (status int, body string)) *rest.Config {
	return &rest.Config{Host: "http://west.example", Transport: trip(func(r *http.Request) (*http.Response, error) {
		status, body := serve(r.URL.Path)
		return usageResponse(r, status, body), nil
	})}
}

type trip func(*http.Request) (*http.Response, error)

func (t trip) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func usageResponse(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Request: r, Header: http.Header{},
		Body: readCloser{strings.NewReader(body)},
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// fromFiles answers with testdata/usage.
func fromFiles(t *testing.T) *rest.Config {
	return answering(func(path string) (int, string) {
		name := map[string]string{"resource": "resource.txt", "cadvisor": "cadvisor.txt", "summary": "summary.json"}[filepath.Base(path)]
		return http.StatusOK, readUsage(t, name)
	})
}

func readUsage(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "usage", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// goldenUsage compares with testdata/usage; UPDATE=1 go test writes the file.
func goldenUsage(t *testing.T, name string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(filepath.Join("testdata", "usage", name), got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(readUsage(t, name), string(got)); diff != "" {
		t.Errorf("%s: -want +got (UPDATE=1 go test writes it):\n%s", name, diff)
	}
}

func fixedClock() time.Time { return time.UnixMilli(1763740810000).UTC() }

func TestUsage_Golden(t *testing.T) {
	u := NewUsage(UsageConfig{Now: fixedClock})
	a, b := westNodes(fromFiles(t))
	for _, node := range []*usageNode{a, b, {name: "west-empty", peer: "west", remote: a.remote}} {
		resource, err := u.Resource(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		goldenUsage(t, node.name+".resource.txt", resource)
		cadvisor, err := u.Cadvisor(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		goldenUsage(t, node.name+".cadvisor.txt", cadvisor)
		summary, err := u.Summary(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(summary, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		goldenUsage(t, node.name+".summary.json", append(text, '\n'))
	}
}

// TestUsage_ValuesAreThoseOfThePeer reads input and output with Prometheus' own parser: over the two nodes, each series of their pods is
// there once, with the same value and timestamp, and no other.
func TestUsage_ValuesAreThoseOfThePeer(t *testing.T) {
	a, b := westNodes(fromFiles(t))
	for name, read := range map[string]func(Usage, context.Context, Node) ([]byte, error){
		"resource.txt": Usage.Resource, "cadvisor.txt": Usage.Cadvisor,
	} {
		t.Run(name, func(t *testing.T) {
			want := seriesOf(t, []byte(readUsage(t, name)), func(labels map[string]string) bool {
				labels["namespace"] = strings.TrimPrefix(labels["namespace"], "home-")
				if id, ok := labels["id"]; ok {
					labels["id"] = idAtHome(id)
				}
				return labels["pod"] != "stray"
			})
			var got []string
			u := NewUsage(UsageConfig{Now: fixedClock})
			for _, node := range []*usageNode{a, b} {
				text, err := read(u, t.Context(), node)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, seriesOf(t, text, func(labels map[string]string) bool { return labels["namespace"] != "" })...)
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-peer +home:\n%s", diff)
			}
		})
	}
}

func idAtHome(id string) string {
	for twin, home := range map[string]string{
		"0d9a4c1e-5b1f-4f0e-9b39-5a2f5f1f7a01": "aaaaaaaa-0000-4000-8000-000000000001",
		"7c1b54a2-93de-4a55-8f3a-0e8a6b9d2c02": "bbbbbbbb-0000-4000-8000-000000000002",
		"f3e2d1c0-0a1b-4c2d-8e3f-4a5b6c7d8e03": "bbbbbbbb-0000-4000-8000-000000000003",
	} {
		id = strings.ReplaceAll(id, twin, home)
		id = strings.ReplaceAll(id, strings.ReplaceAll(twin, "-", "_"), strings.ReplaceAll(home, "-", "_"))
	}
	return id
}

// seriesOf writes each series that keep wants, with its type, labels, value and timestamp, sorted. keep may change the labels.
func seriesOf(t *testing.T, text []byte, keep func(map[string]string) bool) []string {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	var out []string
	for name, family := range families {
		for _, metric := range family.Metric {
			labels := map[string]string{}
			for _, label := range metric.Label {
				labels[label.GetName()] = label.GetValue()
			}
			if keep(labels) {
				out = append(out, fmt.Sprint(name, family.GetType(), family.GetHelp(), labels, valueOfMetric(metric), metric.GetTimestampMs()))
			}
		}
	}
	slices.Sort(out)
	return out
}

func valueOfMetric(metric *dto.Metric) float64 {
	return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
}

// TestUsage_KubeletOrder: HELP and TYPE come once for each family, and families come by name.
func TestUsage_KubeletOrder(t *testing.T) {
	_, b := westNodes(fromFiles(t))
	text, err := NewUsage(UsageConfig{Now: fixedClock}).Resource(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	var families []string
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			families = append(families, strings.Fields(rest)[0])
		}
	}
	want := []string{
		"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_start_time_seconds", "container_swap_usage_bytes",
		"node_cpu_usage_seconds_total", "node_memory_working_set_bytes", "node_swap_usage_bytes",
		"pod_cpu_usage_seconds_total", "pod_memory_working_set_bytes", "pod_swap_usage_bytes", "resource_scrape_error",
	}
	if diff := cmp.Diff(want, families); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestUsage_Unusual has rows for text that no kubelet writes today.
func TestUsage_Unusual(t *testing.T) {
	node := &usageNode{name: "n", peer: "west", pods: []*corev1.Pod{usagePod("shop", "p", "aaaaaaaa-0000-4000-8000-000000000001")}}
	for name, row := range map[string]struct{ in, want string }{
		"nothing":      {"", ""},
		"no namespace": {"a{pod=\"p\"} 1\nb 2\nc{} 3\n", ""},
		"families apart and unsorted": {
			"# HELP b B\n# TYPE b gauge\nb{namespace=\"home-shop\",pod=\"p\"} 1\n# TYPE a counter\na{namespace=\"home-shop\",pod=\"p\"} 2\n" +
				"# HELP b other\n# TYPE b gauge\nb{namespace=\"home-shop\",pod=\"p\",x=\"2\"} 3\n",
			"# TYPE a counter\na{namespace=\"shop\",pod=\"p\"} 2\n" +
				"# HELP b B\n# TYPE b gauge\nb{namespace=\"shop\",pod=\"p\"} 1\nb{namespace=\"shop\",pod=\"p\",x=\"2\"} 3\n"},
		"a histogram": {
			"# TYPE h histogram\nh_bucket{namespace=\"home-shop\",pod=\"p\",le=\"+Inf\"} 1\nh_sum{namespace=\"home-shop\",pod=\"p\"} 0.5\nh_count{namespace=\"home-shop\",pod=\"p\"} 1\n",
			"# TYPE h histogram\nh_bucket{namespace=\"shop\",pod=\"p\",le=\"+Inf\"} 1\nh_sum{namespace=\"shop\",pod=\"p\"} 0.5\nh_count{namespace=\"shop\",pod=\"p\"} 1\n"},
		"no type, no timestamp, odd spaces": {
			"x{ pod = \"p\", namespace=\"home-shop\", } 1e+06\n", ""}, // not in the format: a blank before the quote
		"escapes and braces": {
			`x{a="}\"{\\",namespace="home-shop",pod="p"} NaN 5` + "\n", `x{a="}\"{\\",namespace="shop",pod="p"} NaN 5` + "\n"},
		"namespace before id": {
			`x{namespace="home-shop",pod="p",id="/podeeeeeeee-0000-4000-8000-000000000001/c"} 1` + "\n",
			`x{namespace="shop",pod="p",id="/podaaaaaaaa-0000-4000-8000-000000000001/c"} 1` + "\n"},
		"made anew on another machine": {
			"x{namespace=\"home-shop\",pod=\"p\"} 9 100\nx{namespace=\"home-shop\",pod=\"p\"} 1 200\nx{namespace=\"home-shop\",pod=\"p\"} 8 150\n" +
				"y{namespace=\"home-shop\",pod=\"p\"} 1\ny{namespace=\"home-shop\",pod=\"p\"} 2\n",
			"x{namespace=\"shop\",pod=\"p\"} 1 200\ny{namespace=\"shop\",pod=\"p\"} 2\n"},
		"a pod that poses as the node": {"node_cpu_usage_seconds_total{namespace=\"home-shop\",pod=\"p\"} 9 100\n", ""},
		"broken lines": {
			"x{namespace=\"home-shop\",pod=\"p\n{namespace=\"home-shop\",pod=\"p\"} 1\nx{namespace=home-shop} 1\nx{namespace=\"home-shop\",pod=\"p\"} 7\n",
			"x{namespace=\"shop\",pod=\"p\"} 7\n"},
		"the namespace in another label": {
			`x{namespace="home-shop",other="home-shop",pod="p"} 1` + "\n", `x{namespace="shop",other="home-shop",pod="p"} 1` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			node.remote = answering(func(string) (int, string) { return http.StatusOK, row.in })
			got, err := NewUsage(UsageConfig{}).Cadvisor(t.Context(), node)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestUsage_SummaryOfTheNewest: while a pod is made anew on another machine, both tell of it.
func TestUsage_SummaryOfTheNewest(t *testing.T) {
	for _, order := range []string{"%[1]s,%[2]s", "%[2]s,%[1]s"} {
		older := `{"podRef":{"name":"p","namespace":"home-shop"},"startTime":"2025-11-21T15:00:00Z","cpu":{"time":null,"usageCoreNanoSeconds":100}}`
		newest := `{"podRef":{"name":"p","namespace":"home-shop"},"startTime":"2025-11-21T16:00:00Z","cpu":{"time":null,"usageCoreNanoSeconds":3}}`
		body := `{"pods":[` + fmt.Sprintf(order, older, newest) + `]}`
		node := &usageNode{name: "n", peer: "west", pods: []*corev1.Pod{usagePod("shop", "p", "uid")}}
		node.remote = answering(func(string) (int, string) { return http.StatusOK, body })
		got, err := NewUsage(UsageConfig{}).Summary(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Pods) != 1 || *got.Pods[0].CPU.UsageCoreNanoSeconds != 3 || got.Pods[0].PodRef.UID != "uid" {
			t.Errorf("%+v", got.Pods)
		}
	}
}

func TestBlock_UID(t *testing.T) {
	const twin, home = "0d9a4c1e-5b1f-4f0e-9b39-5a2f5f1f7a01", "aaaaaaaa-0000-4000-8000-000000000001"
	const twin_, home_ = "0d9a4c1e_5b1f_4f0e_9b39_5a2f5f1f7a01", "aaaaaaaa_0000_4000_8000_000000000001"
	for name, row := range map[string]struct{ id, want string }{
		"cgroupfs":             {"/kubepods/burstable/pod" + twin + "/abc", "/kubepods/burstable/pod" + home + "/abc"},
		"cgroupfs, guaranteed": {"/kubepods/pod" + twin, "/kubepods/pod" + home},
		"systemd": {"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + twin_ + ".slice/cri-containerd-abc.scope",
			"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + home_ + ".slice/cri-containerd-abc.scope"},
		"systemd, guaranteed":  {"/kubepods.slice/kubepods-pod" + twin_ + ".slice", "/kubepods.slice/kubepods-pod" + home_ + ".slice"},
		"below a machine":      {"/kubelet.slice/kubelet-kubepods.slice/pod" + twin + "/c", "/kubelet.slice/kubelet-kubepods.slice/pod" + home + "/c"},
		"no pod":               {"/system.slice/kubelet.service", "/system.slice/kubelet.service"},
		"too short":            {"/kubepods/pod" + twin[:35], "/kubepods/pod" + twin[:35]},
		"mixed":                {"/pod0d9a4c1e-5b1f_4f0e-9b39-5a2f5f1f7a01", "/pod0d9a4c1e-5b1f_4f0e-9b39-5a2f5f1f7a01"},
		"a hash of a manifest": {"/kubepods/pod0123456789abcdef0123456789abcdef/some-more", "/kubepods/pod0123456789abcdef0123456789abcdef/some-more"},
		"empty":                {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, pod, ok := readBlock(`{id="` + row.id + `",namespace="home-shop",pod="p"}`)
			if !ok || pod != (podName{"home-shop", "p"}) {
				t.Fatalf("%v %v", pod, ok)
			}
			want := `{id="` + row.want + `",namespace="shop",pod="p"}`
			if got := string(b.appendBlock(nil, "shop", home)); got != want {
				t.Errorf("\n%s, want\n%s", got, want)
			}
		})
	}
}

func FuzzReadPage(f *testing.F) {
	f.Add(strings.Join(strings.SplitAfter(readUsage(f, "cadvisor.txt"), "\n")[:4], ""))
	f.Add("# HELP x\nx{namespace=\"a\",pod=\"b\",id=\"pod\"} 1 2\n{\"\nx{=\"\"}\nx{,}")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := readPage(strings.NewReader(text))
		if err != nil {
			return
		}
		var pods []homePod
		for pod := range p.pods {
			pods = append(pods, homePod{twin: pod, namespace: "n", uid: "u"})
			p.use(pods[len(pods)-1])
		}
		p.render(pods, nil)
	})
}
