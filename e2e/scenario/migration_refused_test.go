package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestRefusedMigrations: what cannot end well is refused with a sentence that names why, by the command and by the controller, and
// nothing has moved.
func TestRefusedMigrations(t *testing.T) {
	s := begin(t)
	seen := s.trail()
	s.atHome("site", 3, "10m")
	s.guarded("guarded")
	s.large("large", 3, "4")
	s.withVolume("stored")
	before := s.uids()

	deployment := func(name string) v1alpha1.WorkloadChoice { return named(v1alpha1.WorkloadDeployment, name) }
	toWest := v1alpha1.Destination{Peer: west}
	for _, row := range []struct {
		name string // of the Migration
		spec v1alpha1.MigrationSpec
		args []string // of the command
		want []string // words of the sentence
	}{
		{"unknown-workload", v1alpha1.MigrationSpec{Workloads: deployment("nobody"), To: toWest},
			[]string{"deployment/nobody", "--to", west}, []string{"nobody"}},
		{"unknown-peer", v1alpha1.MigrationSpec{Workloads: deployment("site"), To: v1alpha1.Destination{Peer: "mars"}},
			[]string{"deployment/site", "--to", "mars"}, []string{"mars"}},
		{"gate-http", v1alpha1.MigrationSpec{Workloads: deployment("site"), To: toWest,
			Gate: v1alpha1.MigrationGate{HTTP: &v1alpha1.HTTPGate{URL: "http://127.0.0.1:1/ready"}}},
			[]string{"deployment/site", "--to", west, "--http", "http://127.0.0.1:1/ready"}, []string{"127.0.0.1:1"}},
		{"gate-prometheus", v1alpha1.MigrationSpec{Workloads: deployment("site"), To: toWest,
			Gate: v1alpha1.MigrationGate{Prometheus: &v1alpha1.PrometheusGate{URL: "http://127.0.0.1:1", Query: "up", Min: "1"}}},
			[]string{"deployment/site", "--to", west, "--prometheus", "http://127.0.0.1:1", "--query", "up", "--min", "1"}, []string{"127.0.0.1:1"}},
		{"gate-job", v1alpha1.MigrationSpec{Workloads: deployment("site"), To: toWest,
			Gate: v1alpha1.MigrationGate{Job: &v1alpha1.JobGate{FromCronJob: "smoke"}}},
			[]string{"deployment/site", "--to", west, "--job", "smoke"}, []string{"smoke"}},
		{"budget", v1alpha1.MigrationSpec{Workloads: deployment("guarded"), To: toWest},
			[]string{"deployment/guarded", "--to", west}, []string{"guarded", "budget"}},
		{"no-room", v1alpha1.MigrationSpec{Workloads: deployment("large"), To: toWest},
			[]string{"deployment/large", "--to", west}, []string{"large", west}},
		{"volume", v1alpha1.MigrationSpec{Workloads: named(v1alpha1.WorkloadStatefulSet, "stored"), To: toWest},
			[]string{"statefulset/stored", "--to", west}, []string{"stored", "data"}},
	} {
		s.commandRefuses(row.args, row.want)
		s.controllerRefuses(row.name, row.spec, row.want)
	}
	s.stepsThatFall()

	if after := s.uids(); !slices.Equal(before, after) {
		t.Errorf("pods were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	for _, app := range []string{"site", "guarded", "large", "stored"} {
		if _, _, away := seen.Count(app); away > 0 {
			t.Errorf("%d pods of %s ran in the peer", away, app)
		}
	}
}

func named(kind v1alpha1.WorkloadKind, name string) v1alpha1.WorkloadChoice {
	return v1alpha1.WorkloadChoice{Names: []v1alpha1.WorkloadName{{Kind: kind, Name: name}}}
}

// commandRefuses runs spillway migrate, with and without --dry-run: neither may succeed, or leave a Migration that goes on. A dry run
// does not ask a gate's URL: it is spillwayd that has to reach it.
func (s *scenario) commandRefuses(args, want []string) {
	s.Helper()
	runs := [][]string{{"--dry-run"}, nil}
	if slices.Contains(args, "--http") || slices.Contains(args, "--prometheus") {
		runs = runs[1:]
	}
	for _, more := range runs {
		all := slices.Concat([]string{"migrate"}, args, []string{"-n", s.ns, "--context", east}, more)
		r := s.spillway(s.ctx, all...)
		if r.code == 0 {
			s.Errorf("spillway %s succeeded, want it refused: %s", strings.Join(all, " "), r)
		}
		for _, word := range want {
			if !strings.Contains(strings.ToLower(r.stdout+r.stderr), word) {
				s.Errorf("spillway %s does not name %q: %s", strings.Join(all, " "), word, r)
			}
		}
	}
	s.onlyRefused()
}

// controllerRefuses makes a Migration and waits until its status says that it is refused, and why.
func (s *scenario) controllerRefuses(name string, spec v1alpha1.MigrationSpec, want []string) {
	s.Helper()
	_, err := s.migrations().Create(s.ctx, &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns}, Spec: spec}, metav1.CreateOptions{})
	s.check(err)
	var m *v1alpha1.Migration
	s.eventually(soon, "Migration "+name+" is refused", func(ctx context.Context) (err error) {
		if m, err = s.migrations().Get(ctx, name, getOptions()); err == nil && m.Status.Phase != v1alpha1.MigrationRefused {
			err = fmt.Errorf("it is %q: %s", m.Status.Phase, m.Status.Message)
		}
		return err
	})
	s.Logf("%s: %s", name, m.Status.Message)
	for _, word := range want {
		if !strings.Contains(strings.ToLower(m.Status.Message), word) {
			s.Errorf("Migration %s does not name %q: %s", name, word, m.Status.Message)
		}
	}
	c := slices.IndexFunc(m.Status.Conditions, func(c metav1.Condition) bool { return c.Type == v1alpha1.ConditionCompleted })
	if c < 0 || m.Status.Conditions[c].Status != metav1.ConditionFalse {
		s.Errorf("the conditions of Migration %s are %+v, want Completed=False", name, m.Status.Conditions)
	}
}

// onlyRefused fails the test when a Migration is there that goes on.
func (s *scenario) onlyRefused() {
	s.Helper()
	s.eventually(soon, "no Migration goes on", func(ctx context.Context) error {
		list, err := s.migrations().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, m := range list.Items {
			if m.Status.Phase != v1alpha1.MigrationRefused {
				return fmt.Errorf("migration %s is %q: %s", m.Name, m.Status.Phase, m.Status.Message)
			}
		}
		return nil
	})
}

// stepsThatFall are refused by the API server, and by the command.
func (s *scenario) stepsThatFall() {
	s.Helper()
	for _, steps := range [][]int32{{50, 10, 100}, {10, 50}, {50, 50, 100}} {
		_, err := s.migrations().Create(s.ctx, &v1alpha1.Migration{
			ObjectMeta: metav1.ObjectMeta{Name: "steps", Namespace: s.ns},
			Spec:       v1alpha1.MigrationSpec{Workloads: named(v1alpha1.WorkloadDeployment, "site"), To: v1alpha1.Destination{Peer: west}, Steps: steps},
		}, metav1.CreateOptions{})
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "steps rise to 100") {
			s.Errorf("steps %v: %v, want to be told that steps rise to 100", steps, err)
		}
		text := strings.Trim(strings.ReplaceAll(fmt.Sprint(steps), " ", ","), "[]")
		s.commandRefuses([]string{"deployment/site", "--to", west, "--steps", text}, []string{"steps"})
	}
}

// guarded is a Deployment with a budget that never allows an eviction.
func (s *scenario) guarded(name string) {
	s.Helper()
	s.atHome(name, 2, "10m")
	_, err := s.consumer.kube.PolicyV1().PodDisruptionBudgets(s.ns).Create(s.ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: ptr.To(intstr.FromInt32(0)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		},
	}, metav1.CreateOptions{})
	s.check(err)
}

// large is a Deployment that finds room at home and none in the peer, where others of home have left two cores on each node.
func (s *scenario) large(name string, replicas int, cpu string) {
	s.Helper()
	node, err := s.node(s.ctx)
	s.check(err)
	count := node.Status.Allocatable.Cpu().Value() / 32
	s.requestingWith("hog", int(count), "30", func(spec *corev1.PodSpec) { // no two fit on one node
		remote := remoteSpec()
		spec.NodeSelector, spec.Tolerations = remote.NodeSelector, remote.Tolerations
	})
	s.eventually(soon, "the peer is full", func(ctx context.Context) error { return s.scaled(ctx, "hog", int32(count)) })
	s.atHome(name, replicas, cpu)
}

// withVolume is a StatefulSet with a volume of its own, which stays where it is; its pod waits for it.
func (s *scenario) withVolume(name string) {
	s.Helper()
	labels, spec := map[string]string{"app": name}, remoteSpec()
	spec.NodeSelector, spec.Tolerations = nil, nil
	spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	_, err := s.consumer.kube.AppsV1().StatefulSets(s.ns).Create(s.ctx, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns, Labels: labels},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](1), Selector: &metav1.LabelSelector{MatchLabels: labels}, ServiceName: name,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	s.check(err)
	s.eventually(soon, "pod "+name+"-0 is made", func(ctx context.Context) error {
		_, err := s.local(ctx, name+"-0")
		return err
	})
}

// uids are the pods of the namespace and where they are, but for those that fill the peer.
func (s *scenario) uids() []string {
	s.Helper()
	pods, err := s.localPods(s.ctx)
	s.check(err)
	var out []string
	for _, p := range pods {
		if p.Labels["app"] != "hog" {
			out = append(out, fmt.Sprintf("%s %s on %q", p.Name, p.UID, p.Spec.NodeName))
		}
	}
	slices.Sort(out)
	return out
}
