package install

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

// arrivesWithin is the promise: from two clusters without Spillway, whose nodes have the image, to an offloaded pod that is Ready.
const arrivesWithin = 60 * time.Second

// TestInstall: two fresh clusters, two commands, and everything works.
func TestInstall(t *testing.T) {
	w := newWorld(t)
	w.arrive(t)
	t.Logf("the first time: %s", w.took)
	if w.took.ready > arrivesWithin {
		t.Errorf("an offloaded pod was Ready after %s, not within %s", w.took.ready, arrivesWithin)
	}
	t.Run("Again", func(t *testing.T) {
		for _, s := range w.sides() {
			t.Log(w.spillway(t, "install", "--context", s.Name()))
		}
	})
	t.Run("Tunnel", w.tunnelIsUp)
	t.Run("Offloaded", w.offloadedPodServes)
	t.Run("Steered", w.policySteers)
	t.Run("Security", w.podsAreConfined)
}

// tunnelIsUp waits until both sides say so.
func (w *world) tunnelIsUp(t *testing.T) {
	for peer, s := range map[string]*side{awayName: w.home, homeName: w.away} {
		eventually(t, soon, "the tunnel of "+s.Name()+" is up", func(ctx context.Context) error {
			p, err := s.peerings.Get(ctx, peer, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionTunnelUp); c == nil || c.Status != metav1.ConditionTrue {
				return fmt.Errorf("TunnelUp: %+v", c)
			}
			return nil
		})
	}
}

// offloadedPodServes: a pod of home asks the Service of one that runs away, whose log is read and in which a command is run, all at
// home.
func (w *world) offloadedPodServes(t *testing.T) {
	ns := w.namespace(t, offloadable())
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
	}}
	if _, err := w.home.kube.CoreV1().Services(ns).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.start(t, ns, appPod("asks", map[string]string{corev1.LabelHostname: w.home.nodes[0]}))
	w.start(t, ns, offloadedPod("web"))
	eventually(t, soon, "the Service answers at home", func(ctx context.Context) error {
		out, err := w.command(ctx, w.kubectl, "--context", homeName, "-n", ns, "exec", "asks", "--", "/app", "get", "http://web."+ns+"/")
		if err == nil && !strings.Contains(out, "web") {
			err = fmt.Errorf("somebody else answers: %s", out)
		}
		return err
	})
	if out := w.kube(t, "--context", homeName, "-n", ns, "logs", "web"); !strings.Contains(out, "serving on") {
		t.Errorf("kubectl logs: %q", out)
	}
	if out := w.kube(t, "--context", homeName, "-n", ns, "exec", "web", "--", "/app", "say", "hello", "", "0"); !strings.Contains(out, "hello") {
		t.Errorf("kubectl exec: %q", out)
	}
	// The way of this is the longest: home's API server asks the virtual node, which asks a Service of the other cluster through the
	// API server there.
	eventually(t, time.Minute, "what the pod uses is told", func(ctx context.Context) error {
		out, err := w.command(ctx, w.kubectl, "--context", homeName, "get", "--raw", "/api/v1/nodes/"+virtualNode+"/proxy/stats/summary")
		if err == nil && !strings.Contains(out, `"namespace": "`+ns+`"`) && !strings.Contains(out, `"namespace":"`+ns+`"`) {
			err = fmt.Errorf("nothing of %s in %d bytes", ns, len(out))
		}
		return err
	})
}

// policySteers: a pod that knows nothing of Spillway leaves, because an OffloadPolicy says so: the API server has asked the webhook.
func (w *world) policySteers(t *testing.T) {
	ns := w.namespace(t, nil)
	policies, err := peeringclient.NewPolicies(w.home.Config())
	if err != nil {
		t.Fatal(err)
	}
	policy := &v1alpha1.OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Name: "all", Namespace: ns}, Spec: v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways}}
	if _, err := policies(ns).Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// The API server asks a moment after the webhook is registered: a pod that comes too early stays.
	eventually(t, time.Minute, "a pod leaves", func(ctx context.Context) error {
		pods := w.home.kube.CoreV1().Pods(ns)
		pod, err := pods.Get(ctx, "plain", metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			_, err = pods.Create(ctx, appPod("plain", nil), metav1.CreateOptions{})
		case err != nil:
		case pod.Spec.NodeName == virtualNode:
			_, err = readyPod(ctx, w.home.kube, ns, "plain")
			return err
		case pod.Spec.NodeName != "" && pod.DeletionTimestamp == nil:
			err = pods.Delete(ctx, "plain", metav1.DeleteOptions{})
		}
		if err == nil {
			err = fmt.Errorf("the pod has not left")
		}
		return err
	})
}
