package scenario

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/e2e/lab"
)

const (
	notReadyIn = 15 * time.Second // after the provider went away
	readyIn    = 5 * time.Second  // after it came back
)

// TestProviderUnreachable: the provider's API server cannot be reached for a while. No pod changes, the node says so, and
// what was asked for meanwhile is done afterwards.
func TestProviderUnreachable(t *testing.T) {
	s := begin(t)
	t.Run("Lost20s", func(t *testing.T) { s.at(t).outage("lost", lab.Blackhole, 20*time.Second, nil) })
	t.Run("Refused60sAndRestarted", func(t *testing.T) {
		s.at(t).outage("refused", lab.Refuse, 60*time.Second, func() { s.check(s.consumer.spillwayd.Restart()) })
	})
}

// outage cuts the way to the provider for a while, with meanwhile (may be nil) once the node is NotReady.
func (s *scenario) outage(prefix string, mode lab.CutMode, during time.Duration, meanwhile func()) {
	var untouched []string
	for i := range 5 {
		untouched = append(untouched, fmt.Sprintf("%s-%d", prefix, i))
		s.create(s.remotePod(untouched[i], func(pod *corev1.Pod) {
			if i == 0 {
				never(pod)
			}
		}))
	}
	polite, forced := prefix+"-polite", prefix+"-forced"
	s.create(s.remotePod(polite, withGrace(5)))
	s.create(s.remotePod(forced))
	before := map[string]*corev1.Pod{}
	twinBefore := map[string]*corev1.Pod{}
	for _, name := range append(untouched, polite, forced) {
		before[name], twinBefore[name] = s.running(name)
	}
	unchanged := func(ctx context.Context) error {
		for _, name := range untouched {
			now, err := s.local(ctx, name)
			if err != nil {
				return err
			}
			if diff := cmp.Diff(before[name].Status, now.Status); diff != "" || now.UID != before[name].UID || now.DeletionTimestamp != nil {
				return fmt.Errorf("pod %s changed (-before +now):\n%s", name, diff)
			}
		}
		return nil
	}

	link := s.provider.Link()
	s.Cleanup(func() { s.check(link.Restore()) })
	begun := time.Now()
	s.check(link.Cut(mode))
	s.deletePod(polite, metav1.DeleteOptions{})
	s.deletePod(forced, byForce())
	s.create(s.remotePod(prefix + "-early")) // the scheduler still takes the node for Ready
	s.eventually(notReadyIn-time.Since(begun), "the node is NotReady", func(ctx context.Context) error {
		return s.nodeIs(ctx, corev1.ConditionFalse)
	})
	if meanwhile != nil {
		meanwhile()
	}
	s.create(s.remotePod(prefix + "-late"))
	s.always(during-time.Since(begun), "no pod changes", func(ctx context.Context) error {
		if err := s.nodeIs(ctx, corev1.ConditionTrue); err == nil {
			return errors.New("the node is Ready while the provider is away")
		}
		return unchanged(ctx)
	})
	if pod, err := s.local(s.ctx, polite); err != nil || pod.DeletionTimestamp == nil {
		s.Errorf("the deleted pod must stay until its twin has ended: %v", err)
	}

	s.leaseIsFresh()
	s.check(link.Restore())
	s.eventually(readyIn, "the node is Ready", func(ctx context.Context) error { return s.nodeIs(ctx, corev1.ConditionTrue) })
	s.eventually(soon, "the deleted pods are gone, and their twins", func(ctx context.Context) error {
		return errors.Join(s.gone(ctx, polite), s.twinGone(ctx, twinBefore[polite]), s.twinGone(ctx, twinBefore[forced]))
	})
	s.running(prefix + "-early")
	s.running(prefix + "-late")
	s.check(unchanged(s.ctx))
	for _, name := range untouched {
		s.check(s.untouched(s.ctx, twinBefore[name]))
	}
	pods, err := s.localPods(s.ctx)
	s.check(err)
	s.check(s.oneTwinEach(s.ctx, pods))
}

// leaseIsFresh: without renewals Kubernetes would call the node's state Unknown, its pods not Ready, and evict them.
func (s *scenario) leaseIsFresh() {
	s.Helper()
	lease, err := s.consumer.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(s.ctx, nodeName, getOptions())
	s.check(err)
	if age := time.Since(lease.Spec.RenewTime.Time); age > 15*time.Second {
		s.Errorf("the node's Lease was renewed %s ago, want at most 15 s", age.Round(time.Second))
	}
}
