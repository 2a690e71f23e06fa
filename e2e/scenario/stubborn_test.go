package scenario

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/e2e/lab/realnode"
)

// TestDeleteStubbornPod: the local object stays until its twin has really ended, however long that takes. A force delete
// takes it away at once; then the twin goes as soon as the provider answers.
func TestDeleteStubbornPod(t *testing.T) {
	s := begin(t)
	t.Run("IgnoresTerm", func(t *testing.T) { s.at(t).ignoresTerm(4) })
	t.Run("HeldInProvider", func(t *testing.T) { s.at(t).heldInProvider() })
	t.Run("ForceDelete", func(t *testing.T) { s.at(t).forceDelete() })
	t.Run("ForceDeleteDuringOutage", func(t *testing.T) { s.at(t).forceDeleteDuringOutage() })
}

// ignoresTerm: containers that ignore SIGTERM run until the grace period is over, and so long the local object stays.
func (s *scenario) ignoresTerm(grace int64) {
	s.create(s.remotePod("stubborn", withGrace(grace), func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{"lab.spillway.dev/ignore-sigterm": ""}
		pod.Spec.Containers[0].Args = []string{"ignore-term"}
	}))
	_, twin := s.running("stubborn")
	s.deletePod("stubborn", metav1.DeleteOptions{})
	lasted := s.eventually(soon, "the local object goes", func(ctx context.Context) error {
		gone := s.gone(ctx, "stubborn")
		if gone == nil {
			s.check(s.over(ctx, twin))
		}
		return gone
	})
	if earliest := time.Duration(grace-1) * time.Second; lasted < earliest {
		s.Errorf("it went after %s: its container had %d s", lasted, grace)
	}
	s.eventually(soon, "the twin is gone too", func(ctx context.Context) error { return s.twinGone(ctx, twin) })
}

// over says that containers of a twin may still run; nil when none does.
func (s *scenario) over(ctx context.Context, twin *corev1.Pod) error {
	now, err := s.provider.kube.CoreV1().Pods(twin.Namespace).Get(ctx, twin.Name, getOptions())
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if now.UID == twin.UID && now.Status.Phase != corev1.PodSucceeded && now.Status.Phase != corev1.PodFailed {
		return fmt.Errorf("its twin %s/%s is still %s", now.Namespace, now.Name, now.Status.Phase)
	}
	return nil
}

// heldInProvider: the twin is held far beyond its grace period, and nobody says that its containers have ended.
func (s *scenario) heldInProvider() {
	s.create(s.remotePod("held", withGrace(1)))
	_, twin := s.running("held")
	s.finalizers(twin, "example.org/hold")
	s.deletePod("held", metav1.DeleteOptions{})
	s.eventually(soon, "the twin is asked to end", func(ctx context.Context) error {
		now, err := s.provider.kube.CoreV1().Pods(twin.Namespace).Get(ctx, twin.Name, getOptions())
		if err == nil && now.DeletionTimestamp == nil {
			return fmt.Errorf("it is not")
		}
		return err
	})
	s.always(5*time.Second, "the local object stays", func(ctx context.Context) error {
		_, err := s.local(ctx, "held")
		return err
	})
	s.finalizers(twin)
	s.eventually(soon, "both go", func(ctx context.Context) error {
		if err := s.twinGone(ctx, twin); err != nil {
			return err
		}
		return s.gone(ctx, "held")
	})
}

func (s *scenario) finalizers(twin *corev1.Pod, names ...string) {
	s.Helper()
	list := "null"
	if len(names) > 0 {
		list = fmt.Sprintf("[%q]", names[0])
	}
	_, err := s.provider.kube.CoreV1().Pods(twin.Namespace).Patch(s.ctx, twin.Name, types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"finalizers":%s}}`, list), metav1.PatchOptions{})
	s.check(err)
}

func (s *scenario) forceDelete() {
	s.create(s.remotePod("forced"))
	_, twin := s.running("forced")
	s.deletePod("forced", byForce())
	s.check(s.gone(s.ctx, "forced"))
	s.eventually(soon, "the twin goes", func(ctx context.Context) error { return s.twinGone(ctx, twin) })
}

func (s *scenario) forceDeleteDuringOutage() {
	s.create(s.remotePod("cut-off"))
	_, twin := s.running("cut-off")
	s.Cleanup(func() { s.check(s.provider.Link().Restore()) })
	s.check(s.provider.Link().Cut(lab.Refuse))
	s.deletePod("cut-off", byForce())
	s.check(s.gone(s.ctx, "cut-off"))
	s.always(2*time.Second, "the twin runs on", func(ctx context.Context) error { return s.untouched(ctx, twin) })
	s.check(s.provider.Link().Restore())
	s.eventually(soon, "the twin goes when the provider answers", func(ctx context.Context) error { return s.twinGone(ctx, twin) })
}

// TestDeleteStubbornPod_RealNodes is the same with real containers, which a kubelet of the provider has to kill.
func TestDeleteStubbornPod_RealNodes(t *testing.T) {
	if missing := realnode.Preflight(); len(missing) > 0 {
		t.Skip(strings.Join(missing, "\n"))
	}
	w, err := newWorld(t.Context(), []lab.ClusterOptions{{Name: east, Simulated: []lab.NodeGroup{{Count: 1}}}, {Name: west, Real: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	s := beginOn(t, w)
	t.Run("IgnoresTerm", func(t *testing.T) { s.at(t).ignoresTerm(6) })
	t.Run("ForceDelete", func(t *testing.T) { s.at(t).forceDelete() })
}
