package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestUninstall: what runs elsewhere is named and uninstalling refused, until it is said that pods come home; then they do, and
// clusters and nodes are as they were before: objects, kernel, files. Spillway can be installed again, and also be removed while the
// peer does not answer.
func TestUninstall(t *testing.T) {
	w := newWorld(t)
	w.arrive(t)
	w.joined(t)
	for _, s := range w.sides() {
		now, err := w.look(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		for name, before := range w.before[s.Name()] {
			if d := differences(traces{name: before}, traces{name: now[name]}); len(d) == 0 {
				t.Errorf("%s: %s is as before, with Spillway installed: this shows nothing", s.Name(), name)
			} else {
				t.Logf("%s: %s has %d differences with Spillway installed", s.Name(), name, len(d))
			}
		}
	}
	t.Run("ComesHome", w.uninstallBringsHome)
	if t.Failed() {
		t.FailNow()
	}
	t.Run("PeerDead", w.uninstallWithoutPeer)
}

// joined waits until both sides say that the tunnel is up.
func (w *world) joined(t *testing.T) {
	t.Helper()
	for _, s := range w.sides() {
		eventually(t, time.Minute, "the tunnel of "+s.Name(), func(ctx context.Context) error {
			list, err := s.peerings.List(ctx, metav1.ListOptions{})
			if err != nil || len(list.Items) != 1 {
				return errors.Join(err, fmt.Errorf("%d Peerings", len(list.Items)))
			}
			c := meta.FindStatusCondition(list.Items[0].Status.Conditions, v1alpha1.ConditionTunnelUp)
			if c == nil || c.Status != metav1.ConditionTrue {
				return fmt.Errorf("TunnelUp is %+v", c)
			}
			return nil
		})
	}
}

func (w *world) uninstallBringsHome(t *testing.T) {
	t.Run("Offloaded", func(t *testing.T) {
		ns := w.namespace(t, offloadable())
		w.leaves(t, ns, "web", 2)
		out, err := w.run(t.Context(), "uninstall", "--context", homeName, "--yes", "--timeout", "80s")
		if err == nil {
			t.Fatalf("uninstall does not refuse:\n%s", out)
		}
		for _, pod := range w.podsOf(t, ns, "web") {
			if !strings.Contains(out, ns+"/"+pod.Name) {
				t.Errorf("the refusal does not name pod %s/%s:\n%s", ns, pod.Name, out)
			}
			if pod.Spec.NodeName != virtualNode {
				t.Errorf("pod %s is on %s: the refusal moved it", pod.Name, pod.Spec.NodeName)
			}
		}
		began := time.Now()
		t.Log(w.spillway(t, "uninstall", "--context", homeName, "--pods", "home", "--yes", "--timeout", "80s"))
		t.Logf("uninstall at %s took %.1f s", homeName, time.Since(began).Seconds())
		w.left()
		eventually(t, time.Minute, "the pods serve at home", func(ctx context.Context) error {
			d, err := w.home.kube.AppsV1().Deployments(ns).Get(ctx, "web", metav1.GetOptions{})
			if err != nil || d.Status.ReadyReplicas != 2 {
				return errors.Join(err, fmt.Errorf("%d pods are Ready", d.Status.ReadyReplicas))
			}
			return nil
		})
	})
	t.Log(w.spillway(t, "uninstall", "--context", awayName, "--evict-tenants", "--yes", "--timeout", "80s"))
	for _, s := range w.sides() {
		w.asBefore(t, s, w.before[s.Name()])
	}
}

// uninstallWithoutPeer installs again, and removes Spillway at home while nobody answers away.
func (w *world) uninstallWithoutPeer(t *testing.T) {
	w.arrive(t)
	w.joined(t)
	t.Run("Offloaded", func(t *testing.T) {
		w.leaves(t, w.namespace(t, offloadable()), "web", 1)
		if err := w.away.Link().Cut(lab.Refuse); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := w.away.Link().Restore(); err != nil {
				t.Error(err)
			}
		}()
		out := w.spillway(t, "uninstall", "--context", homeName, "--pods", "home", "--yes", "--timeout", "80s")
		w.left()
		if !strings.Contains(out, awayName) {
			t.Errorf("nothing is said of what stays at %s:\n%s", awayName, out)
		}
		t.Log(out)
	})
	w.asBefore(t, w.home, w.before[homeName])
	t.Log(w.spillway(t, "uninstall", "--context", awayName, "--evict-tenants", "--yes", "--timeout", "80s"))
	w.asBefore(t, w.away, w.before[awayName])
}

// leaves makes a Deployment whose pods run away as long as they can, and waits until they do.
func (w *world) leaves(t *testing.T, namespace, name string, replicas int32) {
	t.Helper()
	pod := offloadedPod(name)
	pod.Spec.NodeSelector = nil
	pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 100, Preference: corev1.NodeSelectorTerm{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: v1alpha1.LabelPeer, Operator: corev1.NodeSelectorOpExists}},
		}}},
	}}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: pod.Labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels}, Spec: pod.Spec},
	}}
	deployment.Spec.Template.Spec.TerminationGracePeriodSeconds = pod.Spec.TerminationGracePeriodSeconds
	if _, err := w.home.kube.AppsV1().Deployments(namespace).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the pods run away", func(ctx context.Context) error {
		pods, err := w.home.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil || len(pods.Items) != int(replicas) {
			return errors.Join(err, fmt.Errorf("%d pods", len(pods.Items)))
		}
		for _, p := range pods.Items {
			if p.Spec.NodeName != virtualNode || p.Status.Phase != corev1.PodRunning {
				return fmt.Errorf("pod %s is %s on %q", p.Name, p.Status.Phase, p.Spec.NodeName)
			}
		}
		return nil
	})
}

func (w *world) podsOf(t *testing.T, namespace, app string) []corev1.Pod {
	t.Helper()
	pods, err := w.home.kube.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		t.Fatal(err)
	}
	return pods.Items
}
