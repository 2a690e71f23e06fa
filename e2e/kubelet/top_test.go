package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/utils/ptr"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway-dev/spillway/e2e/duo"
)

// measured is how long metrics may take: a rate needs two looks of metrics-server, and what they see is up to 15 s old.
const measured = time.Minute

func (w *world) top(t *testing.T) {
	t.Run("metrics.k8s.io", w.metricsAPI)
	t.Run("figures", w.figures)
}

// usage is as much of PodMetrics and NodeMetrics as matters here.
type usage struct {
	Metadata   metav1.ObjectMeta   `json:"metadata"`
	Usage      corev1.ResourceList `json:"usage"`
	Containers []struct {
		Name  string              `json:"name"`
		Usage corev1.ResourceList `json:"usage"`
	} `json:"containers"`
}

func metricsOf(ctx context.Context, kube kubernetes.Interface, path string, into any) error {
	data, err := kube.Discovery().RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1/"+path).SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// metricsAPI: metrics-server of home shows the virtual node and each container of an offloaded pod.
func (w *world) metricsAPI(t *testing.T) {
	var p, n usage
	eventually(t, measured, func(ctx context.Context) error {
		return errors.Join(
			metricsOf(ctx, w.Home, "namespaces/"+namespace+"/pods/tool", &p),
			metricsOf(ctx, w.Home, "nodes/"+duo.VirtualNode, &n),
		)
	})
	var names []string
	for _, c := range p.Containers {
		names = append(names, c.Name)
		if memory := c.Usage[corev1.ResourceMemory]; memory.Value() == 0 {
			t.Errorf("container %s has no memory: %+v", c.Name, c.Usage)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"main", "reader", "terminal"}, names); diff != "" {
		t.Errorf("containers: -want +got:\n%s", diff)
	}
	if memory, cpu := n.Usage[corev1.ResourceMemory], n.Usage[corev1.ResourceCPU]; memory.Value() == 0 || cpu.IsZero() {
		t.Errorf("the virtual node uses %+v", n.Usage)
	}
	for _, what := range [][]string{{"top", "pods"}, {"top", "pod", "tool", "--containers"}, {"top", "nodes"}} {
		out, err := w.kubectl(t, w.home, what...).CombinedOutput()
		if want := map[bool]string{true: duo.VirtualNode, false: "tool"}[what[1] == "nodes"]; err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v\n%s", what, err, out)
		}
	}
}

// sample is a line of /metrics/resource without its value and time.
type sample struct{ series, value, at string }

// samples of the namespace, under its name at home, in the order of the text.
func samples(text, remote string) []sample {
	var out []sample
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") || !strings.Contains(line, `namespace="`+remote+`"`) {
			continue
		}
		series, rest, _ := strings.Cut(line, "} ")
		value, at, _ := strings.Cut(rest, " ")
		out = append(out, sample{strings.ReplaceAll(series, `namespace="`+remote+`"`, `namespace="`+namespace+`"`), value, at})
	}
	return out
}

func resourceMetrics(ctx context.Context, kube kubernetes.Interface, node string) (string, error) {
	data, err := kube.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/" + node + "/proxy/metrics/resource").DoRaw(ctx)
	return string(data), err
}

// figures: the virtual kubelet shows the series of the provider's kubelet, labels in their order, and each value that it shows at
// a time is the one that the provider's kubelet shows of that time.
func (w *world) figures(t *testing.T) {
	nodes, err := w.Away.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 {
		t.Fatalf("%d nodes: %v", len(nodes.Items), err)
	}
	real := nodes.Items[0].Name
	seen := map[sample]bool{} // at the provider
	matched := map[string]bool{}
	eventually(t, measured, func(ctx context.Context) error {
		there, err := resourceMetrics(ctx, w.Away, real)
		if err != nil {
			return err
		}
		var want []string
		for _, s := range samples(there, w.away.namespace) {
			seen[s] = true
			want = append(want, s.series)
		}
		here, err := resourceMetrics(ctx, w.Home, duo.VirtualNode)
		if err != nil {
			return err
		}
		var got []string
		for _, s := range samples(here, namespace) {
			matched[s.series] = matched[s.series] || seen[s]
			got = append(got, s.series)
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || len(got) == 0 {
			return fmt.Errorf("series: -provider +home:\n%.2000s", diff)
		}
		for _, series := range got {
			if !matched[series] {
				return fmt.Errorf("no figure of %s} is one of the provider's", series)
			}
		}
		return nil
	})
}

// worker is a Deployment with a load that a file switches on.
func worker() *appsv1.Deployment {
	c := container("main", "busy", "/tmp/busy")
	c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
	c.Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("200m")}
	labels := map[string]string{"app": "worker"}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "worker"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec(c)},
	}}
}

// scaler wants half of what worker asks for, and does not wait before it scales down.
func scaler() *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "worker"}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "worker"},
		MaxReplicas:    2,
		Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name:   corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To(int32(50))},
		}}},
		Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{
			ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: ptr.To(int32(0))},
		},
	}}
}

// autoscale: a load makes the autoscaler of home start a second offloaded pod, and its end takes one away again.
func (w *world) autoscale(ctx context.Context) error {
	if _, err := w.Home.AppsV1().Deployments(namespace).Create(ctx, worker(), metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := w.Home.AutoscalingV2().HorizontalPodAutoscalers(namespace).Create(ctx, scaler(), metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := w.replicas(ctx, 1); err != nil {
		return err
	}
	pods, err := w.Home.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=worker"})
	if err != nil {
		return err
	}
	name := pods.Items[0].Name
	for _, step := range []struct {
		do       string
		replicas int32
	}{{"touch", 2}, {"rm", 1}} {
		err := w.home.run(ctx, webSocket, name, "main", remotecommand.StreamOptions{Stdout: &watched{}, Stderr: &watched{}}, step.do, "/tmp/busy")
		if err != nil {
			return fmt.Errorf("%s: %w", step.do, err)
		}
		if err := w.replicas(ctx, step.replicas); err != nil {
			return fmt.Errorf("after %s: %w", step.do, err)
		}
	}
	return nil
}

// replicas waits until worker has so many ready pods and no others.
func (w *world) replicas(ctx context.Context, want int32) error {
	return duo.Until(ctx, 2*measured, func(ctx context.Context) error {
		d, err := w.Home.AppsV1().Deployments(namespace).Get(ctx, "worker", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if d.Status.Replicas == want && d.Status.ReadyReplicas == want {
			return nil
		}
		h, err := w.Home.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(ctx, "worker", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return fmt.Errorf("%d pods, %d ready, want %d; the autoscaler: %+v", d.Status.Replicas, d.Status.ReadyReplicas, want, h.Status)
	})
}
