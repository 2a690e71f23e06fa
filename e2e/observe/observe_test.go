package observe

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	namespace = "shop"
	pods      = 20
)

// world is two clusters, of which east borrows from west.
type world struct {
	*testing.T
	lab     *lab.Lab
	home    kubernetes.Interface
	metrics map[string]string // URL by cluster
	traces  *receiver
}

// TestObserve offloads pods and ends them, and then asks spillwayd what it has done.
func TestObserve(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two clusters")
	}
	w := start(t)
	w.offload()
	w.Run("Measures", func(t *testing.T) { w.at(t).measures() })
	w.Run("RequestsAreThoseThatWereMade", func(t *testing.T) { w.at(t).requests() })
	w.Run("Traces", func(t *testing.T) { w.at(t).spans() })
}

func (w *world) at(t *testing.T) *world {
	sub := *w
	sub.T = t
	return &sub
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func start(t *testing.T) *world {
	w := &world{T: t, metrics: map[string]string{}, traces: receive(t)}
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/spillway", "./cmd/spillwayd")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	var err error
	w.lab, err = lab.Up(t.Context(), lab.Options{Clusters: lab.DefaultClusters(2), Audit: true})
	w.must(err)
	t.Cleanup(func() {
		if err := w.lab.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	arguments := map[string][]string{}
	for _, cluster := range []string{duo.East, duo.West} {
		address := freeAddress(t)
		w.metrics[cluster] = "http://" + address + "/metrics"
		arguments[cluster] = []string{"--http-address", address, "--otlp-endpoint", w.traces.address, "--otlp-protocol", "http/protobuf",
			"--otlp-insecure", "--otlp-sample-ratio", "1"}
	}
	w.must(w.lab.StartSpillway(t.Context(), lab.SpillwayOptions{
		Binary: filepath.Join(bin, "spillwayd"), ArgsOf: func(cluster string) []string { return arguments[cluster] },
	}))
	w.home, err = kubernetes.NewForConfig(w.lab.Cluster(duo.East).Config())
	w.must(err)
	away, err := kubernetes.NewForConfig(w.lab.Cluster(duo.West).Config())
	w.must(err)
	for _, kube := range []kubernetes.Interface{w.home, away} {
		w.must(duo.Controls(t.Context(), kube))
	}
	peer := exec.CommandContext(t.Context(), filepath.Join(bin, "spillway"), "peer", "--context", duo.East, "--remote-context", duo.West, "--timeout", "60s")
	peer.Env = append(os.Environ(), "KUBECONFIG="+w.lab.Kubeconfig())
	if out, err := peer.CombinedOutput(); err != nil {
		t.Fatalf("peer: %v\n%s", err, out)
	}
	return w
}

// freeAddress is one at which nobody listens now.
func freeAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// offload runs pods at the peer until all are Ready at home.
func (w *world) offload() {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{v1alpha1.LabelOffload: v1alpha1.OffloadEnabled}}}
	_, err := w.home.CoreV1().Namespaces().Create(w.Context(), ns, metav1.CreateOptions{})
	w.must(err)
	w.must(duo.Until(w.Context(), duo.Soon, func(ctx context.Context) error {
		_, err := w.home.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	}))
	for i := range pods {
		_, err := w.home.CoreV1().Pods(namespace).Create(w.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%d", i)},
			Spec: corev1.PodSpec{
				AutomountServiceAccountToken: new(false), NodeSelector: map[string]string{v1alpha1.LabelPeer: duo.West},
				Tolerations: []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}},
				Containers:  []corev1.Container{{Name: "app", Image: "app:1"}},
			},
		}, metav1.CreateOptions{})
		w.must(err)
	}
	w.must(duo.Until(w.Context(), 2*duo.Soon, func(ctx context.Context) error {
		list, err := w.home.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for _, pod := range list.Items {
			if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			}) {
				ready++
			}
		}
		if ready < pods {
			return fmt.Errorf("%d of %d pods are Ready", ready, pods)
		}
		return nil
	}))
}

// scrape reads what a cluster's spillwayd measures.
func (w *world) scrape(ctx context.Context, cluster string) (map[string]*dto.MetricFamily, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.metrics[cluster], nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("a scrape of %s: %s", cluster, response.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(response.Body)
}

// sum adds up the values, or how many were observed, of the series with these labels.
func sum(families map[string]*dto.MetricFamily, name string, labels map[string]string) (total float64) {
	for _, m := range families[name].GetMetric() {
		has := map[string]string{}
		for _, l := range m.Label {
			has[l.GetName()] = l.GetValue()
		}
		want := maps.Clone(has)
		maps.Copy(want, labels)
		if !maps.Equal(has, want) {
			continue
		}
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return total
}

func (w *world) measures() {
	type row struct {
		name        string
		labels      map[string]string
		least, most float64
	}
	of := func(pairs ...string) map[string]string {
		labels := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			labels[pairs[i]] = pairs[i+1]
		}
		return labels
	}
	const many = 1e12
	w.must(duo.Until(w.Context(), duo.Soon, func(ctx context.Context) error {
		got, err := w.scrape(ctx, duo.East)
		if err != nil {
			return err
		}
		for _, r := range []row{
			{"spillway_leader", nil, 1, 1},
			{"spillway_build_info", nil, 1, 1},
			{"spillway_peering_condition", of("peer", duo.West, "condition", "Ready", "status", "true"), 1, 1},
			{"spillway_virtual_node_registered", of("peer", duo.West), 1, 1},
			{"spillway_peer_lost", of("peer", duo.West), 0, 0},
			{"spillway_pods", of("peer", duo.West, "phase", "Running"), pods, pods},
			{"spillway_pods_ready", of("peer", duo.West), pods, pods},
			{"spillway_twins", of("peer", duo.West), pods, pods},
			{"spillway_capacity_offered", of("peer", duo.West, "resource", "cpu", "unit", "core"), 0.001, many},
			{"spillway_capacity_requested", of("peer", duo.West, "resource", "pods"), pods, pods},
			{"spillway_pod_steps_total", of("peer", duo.West, "step", "create", "result", "done"), pods, pods},
			{"spillway_pod_steps_total", of("peer", duo.West, "step", "set_status", "result", "done"), pods, 4 * pods},
			{"spillway_reflection_duration_seconds", of("peer", duo.West, "direction", "to_peer", "kind", "pod"), pods, pods},
			{"spillway_reflection_duration_seconds", of("peer", duo.West, "direction", "to_home", "kind", "pod"), pods, 4 * pods},
			{"spillway_pod_ready_duration_seconds", of("peer", duo.West), pods, pods},
			{"spillway_workqueue_depth", of("queue", "twins"), 0, 0},
			{"spillway_workqueue_work_duration_seconds", of("queue", "twins"), pods, many},
			{"spillway_api_watches", of("cluster", "peer", "peer", duo.West, "resource", "pods"), 1, 3},
			{"spillway_api_request_duration_seconds", of("cluster", "home", "verb", "patch"), pods, many},
			{"process_resident_memory_bytes", nil, 1, many},
		} {
			if v := sum(got, r.name, r.labels); v < r.least || v > r.most {
				return fmt.Errorf("%s%v is %v, want %v to %v", r.name, r.labels, v, r.least, r.most)
			}
		}
		return nil
	}))
	got, err := w.scrape(w.Context(), duo.West)
	w.must(err)
	if v := sum(got, "spillway_tenant_namespaces", of("peer", duo.East)); v != 1 {
		w.Errorf("the provider keeps %v namespaces for its tenant, want 1", v)
	}
}

// requests compares what spillwayd counted at the peer with what the API server there did.
func (w *world) requests() {
	requests, err := w.lab.Cluster(duo.West).Requests(w.Context())
	w.must(err)
	served := 0.0
	for _, r := range requests {
		if r.Client == "spillwayd" && r.Verb == "create" && r.Resource == "pods" && r.Subresource == "" {
			served += float64(r.Count)
		}
	}
	got, err := w.scrape(w.Context(), duo.East)
	w.must(err)
	counted := sum(got, "spillway_api_requests_total", map[string]string{"cluster": "peer", "peer": duo.West, "verb": "create", "resource": "pods"})
	if served == 0 || counted != served {
		w.Errorf("spillwayd counted %v creations of pods at the peer, whose API server served %v", counted, served)
	}
}

// spans: one trace for each pod, with every step of its way and the requests on it.
func (w *world) spans() {
	list, err := w.home.CoreV1().Pods(namespace).List(w.Context(), metav1.ListOptions{})
	w.must(err)
	want := []string{"offload pod", "create twin", "create pods", "schedule at peer", "start containers", "report", "patch pods/status"}
	w.must(duo.Until(w.Context(), duo.Soon, func(context.Context) error {
		for _, pod := range list.Items {
			have := w.traces.names(string(pod.UID))
			for _, name := range want {
				if !have[name] {
					return fmt.Errorf("the trace of pod %s has no %q: %v", pod.Name, name, slices.Sorted(maps.Keys(have)))
				}
			}
		}
		return nil
	}))
	w.Logf("%d traces; from bound to Ready: median %s", len(list.Items), w.traces.median("offload pod").Round(time.Millisecond))
}
