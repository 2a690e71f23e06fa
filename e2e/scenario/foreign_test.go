package scenario

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestForeignPod: a pod of the same name in the tenant namespace that Spillway did not make is reported and left alone,
// and the local pod starts when it has gone.
func TestForeignPod(t *testing.T) {
	t.Parallel() // it waits for most of its time, and breaks nothing that others use
	s := begin(t)
	pods := s.provider.kube.CoreV1().Pods(s.tenantNamespace(s.ns))
	foreign := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Containers: remoteSpec().Containers}}
	_, err := pods.Create(s.ctx, foreign, metav1.CreateOptions{})
	s.check(err)
	s.eventually(soon, "the foreign pod runs", func(ctx context.Context) error {
		if foreign, err = pods.Get(ctx, "web", getOptions()); err != nil {
			return err
		}
		return ready(foreign)
	})

	s.create(s.remotePod("web"))
	s.eventually(soon, "the user is told", func(ctx context.Context) error {
		if err := s.refused(ctx, "web", "NameTakenAtProvider"); err != nil {
			return err
		}
		return s.hasEvent(ctx, "web", "NameTakenAtProvider")
	})
	local, err := s.local(s.ctx, "web")
	s.check(err)
	if local.Status.Phase != corev1.PodPending {
		t.Errorf("the local pod is %s, want Pending", local.Status.Phase)
	}
	s.always(2*time.Second, "the foreign pod is left alone", func(ctx context.Context) error {
		now, err := pods.Get(ctx, "web", getOptions())
		if err == nil && now.ResourceVersion != foreign.ResourceVersion {
			return fmt.Errorf("somebody changed it: resourceVersion %s, was %s", now.ResourceVersion, foreign.ResourceVersion)
		}
		return err
	})

	s.check(pods.Delete(s.ctx, "web", byForce()))
	s.eventually(45*time.Second, "the local pod starts by itself", func(ctx context.Context) error {
		if local, err = s.local(ctx, "web"); err != nil {
			return err
		}
		return ready(local)
	})
	if c := condition(local, "spillway.dev/Offloaded"); c != nil {
		t.Errorf("a running pod still says %s: %s", c.Reason, c.Message)
	}
	s.running("web")
}
