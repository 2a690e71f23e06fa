package install

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"github.com/spillway-dev/spillway/charts"
	"github.com/spillway-dev/spillway/e2e/lab"
)

// chartWorld is a cluster without nodes: an API server that says what it thinks of the chart.
type chartWorld struct {
	*lab.Cluster
	kube    kubernetes.Interface
	objects dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
}

// namespaces of the release, the first as `spillway install` makes it. Dry runs do not make what later ones need.
const chartNamespaces = `
apiVersion: v1
kind: Namespace
metadata: {name: spillway-system, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Namespace
metadata: {name: spillway-node, labels: {pod-security.kubernetes.io/enforce: privileged}}
`

// operatorKinds stand for those of the Prometheus operator, which not every cluster has.
const operatorKinds = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: PLURAL.monitoring.coreos.com, annotations: {api-approved.kubernetes.io: unapproved}}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {kind: KIND, plural: PLURAL}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

func newChartWorld(t *testing.T) *chartWorld {
	t.Helper()
	if testing.Short() {
		t.Skip("starts an API server")
	}
	l, err := lab.Up(t.Context(), lab.Options{Clusters: []lab.ClusterOptions{{Name: "bare"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	w := &chartWorld{Cluster: l.Cluster("bare")}
	config := w.Config()
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err == nil {
		w.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco))
		w.kube, err = kubernetes.NewForConfig(config)
	}
	if err == nil {
		w.objects, err = dynamic.NewForConfig(config)
	}
	if err == nil {
		err = w.Apply(t.Context(), []byte(chartNamespaces))
	}
	for plural, kind := range map[string]string{"servicemonitors": "ServiceMonitor", "podmonitors": "PodMonitor", "prometheusrules": "PrometheusRule"} {
		if err == nil {
			err = w.Apply(t.Context(), []byte(strings.NewReplacer("PLURAL", plural, "KIND", kind).Replace(operatorKinds)))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestChart: the API server takes what the chart gives, and the levels of pod security hold what they promise.
func TestChart(t *testing.T) {
	w := newChartWorld(t)
	for name, values := range valueSets(t) {
		t.Run(name, func(t *testing.T) { w.takes(t, values) })
	}
	t.Run("ControllerIsAdmitted", w.controllerIsAdmitted)
	t.Run("AgentsAreAdmittedInTheirNamespaceOnly", w.agentsAreAdmitted)
}

// valueSets are the documented ones, and the defaults.
func valueSets(t *testing.T) map[string]map[string]any {
	t.Helper()
	chart, err := charts.Load()
	if err != nil {
		t.Fatal(err)
	}
	sets := map[string]map[string]any{"defaults": {}}
	for _, file := range chart.Files {
		name, isExample := strings.CutPrefix(file.Name, "examples/")
		if !isExample {
			continue
		}
		values := map[string]any{}
		if err := yaml.Unmarshal(file.Data, &values); err != nil {
			t.Fatal(err)
		}
		sets[name] = values
	}
	if len(sets) < 5 {
		t.Fatalf("the chart has %d examples", len(sets)-1)
	}
	return sets
}

func render(t *testing.T, values map[string]any) []charts.Manifest {
	t.Helper()
	all, err := charts.Render(values, charts.RenderOptions{APIVersions: []string{
		"monitoring.coreos.com/v1", "monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// takes applies everything as a dry run, with unknown fields being errors. A kind that was just made may not be served for a moment.
func (w *chartWorld) takes(t *testing.T, values map[string]any) {
	for _, m := range render(t, values) {
		var last error
		err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, soon, true, func(ctx context.Context) (bool, error) {
			if last = w.dryRun(ctx, m); meta.IsNoMatchError(last) {
				w.mapper.Reset()
				return false, nil
			}
			return true, nil
		})
		if last != nil || err != nil {
			t.Errorf("%s: %s %s: %v", m.Path, m.Kind, m.Name, last)
		}
	}
}

func (w *chartWorld) dryRun(ctx context.Context, m charts.Manifest) error {
	gvk := schema.FromAPIVersionAndKind(m.APIVersion, m.Kind)
	mapping, err := w.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	resource := dynamic.ResourceInterface(w.objects.Resource(mapping.Resource))
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		resource = w.objects.Resource(mapping.Resource).Namespace(m.Namespace)
	}
	force := true
	_, err = resource.Patch(ctx, m.Name, types.ApplyPatchType, []byte(m.Text), metav1.PatchOptions{
		DryRun: []string{metav1.DryRunAll}, FieldManager: "chart-test", FieldValidation: metav1.FieldValidationStrict, Force: &force,
	})
	return err
}

// controllerIsAdmitted: with the whole chart applied, the ReplicaSet gets its pods into the namespace that takes restricted ones only.
func (w *chartWorld) controllerIsAdmitted(t *testing.T) {
	if err := w.Apply(t.Context(), charts.Join(render(t, nil))); err != nil {
		t.Fatal(err)
	}
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, soon, true, func(ctx context.Context) (bool, error) {
		pods, err := w.kube.CoreV1().Pods(lab.SpillwayNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
		return err == nil && len(pods.Items) == 2, err
	})
	if err != nil {
		deployment, _ := w.kube.AppsV1().Deployments(lab.SpillwayNamespace).Get(t.Context(), "spillway-controller", metav1.GetOptions{})
		t.Errorf("the controller has no two pods: %v\n%+v", err, deployment.Status.Conditions)
	}
}

func (w *chartWorld) agentsAreAdmitted(t *testing.T) {
	var agents appsv1.DaemonSet
	for _, m := range render(t, nil) {
		if m.Kind == "DaemonSet" {
			if err := yaml.Unmarshal([]byte(m.Text), &agents); err != nil {
				t.Fatal(err)
			}
		}
	}
	pod := &corev1.Pod{ObjectMeta: agents.Spec.Template.ObjectMeta, Spec: agents.Spec.Template.Spec}
	pod.Name = "agent"
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	if _, err := w.kube.CoreV1().Pods(lab.AgentNamespace).Create(t.Context(), pod, dry); err != nil {
		t.Errorf("the namespace of agents does not take one: %v", err)
	}
	pod.Spec.ServiceAccountName = "spillwayd"
	_, err := w.kube.CoreV1().Pods(lab.SpillwayNamespace).Create(t.Context(), pod, dry)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `violates PodSecurity "restricted`) {
		t.Errorf("the namespace of the controller takes an agent: %v", err)
	}
}

// TestChart_ProgramsKnowTheirFlags: a flag that was renamed would show as pods that do not start.
func TestChart_ProgramsKnowTheirFlags(t *testing.T) {
	program := filepath.Join(t.TempDir(), "spillwayd")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/spillwayd")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build spillwayd: %v\n%s", err, out)
	}
	sets := valueSets(t)
	sets["cleaning"] = map[string]any{"node": map[string]any{"clean": true}}
	for name, values := range sets {
		for _, m := range render(t, values) {
			if m.Kind != "Deployment" && m.Kind != "DaemonSet" {
				continue
			}
			var w struct {
				Spec struct{ Template corev1.PodTemplateSpec }
			}
			if err := yaml.Unmarshal([]byte(m.Text), &w); err != nil {
				t.Fatal(err)
			}
			args := append(w.Spec.Template.Spec.Containers[0].Args, "--help")
			if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
				t.Errorf("%s: spillwayd %s: %s", name, strings.Join(args, " "), out)
			}
		}
	}
}
