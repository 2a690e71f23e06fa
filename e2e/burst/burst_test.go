package burst

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	peakPods    = 20
	peakCPU     = 50 // thousandths of a core that each requests
	fitting     = 7  // of them that find room at home
	keptByPDB   = 18
	after       = 5 * time.Second
	runWithin   = 15 * time.Second // after that
	settleFor   = 20 * time.Second // stabilization
	homeWithin  = time.Minute      // after that
	sampleEvery = 100 * time.Millisecond
)

// TestBurst: 20 pods of which 7 fit at home; the others overflow. When there is room at home again all of them come home, and nobody
// who asks them, and no PodDisruptionBudget, notices.
func TestBurst(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.burstPolicy()
	s.fill(fitting * peakCPU)
	spec := server(5 * time.Second)
	spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(peakCPU, resource.DecimalSI)}
	s.service("peak")
	s.budget("peak", keptByPDB)
	s.deployment("peak", peakPods, spec)

	s.are(after+2*runWithin, "peak", fitting, peakPods-fitting)
	var stuck, ready time.Time
	for _, l := range s.trail.Of("peak") {
		if l.Stuck.After(stuck) {
			stuck = l.Stuck
		}
		if l.Ready.After(ready) {
			ready = l.Ready
		}
	}
	took := ready.Sub(stuck)
	s.Logf("all %d run %s after the last had been found unschedulable", peakPods, took.Round(10*time.Millisecond))
	if took > after+runWithin {
		s.Errorf("the last pod was Ready %s after it had been found unschedulable, want %s at most", took, after+runWithin)
	}
	s.ever("peak", fitting, peakPods-fitting)
	s.condition("burst", v1alpha1.ConditionBursting, metav1.ConditionTrue)
	s.eventually(duo.Soon, "all are endpoints of the Service", func(ctx context.Context) error {
		if n, err := s.endpoints(ctx, "peak"); err != nil || n != peakPods {
			return errors.Join(err, fmt.Errorf("%d of %d are ready", n, peakPods))
		}
		return nil
	})

	s.eventually(duo.Soon, "the budget counts them", func(ctx context.Context) error { return s.sampleBudget(ctx, "peak") })

	s.trail.Mark("peak")
	broken := s.watchBudget("peak")
	s.scale("ballast", 0)
	freed := time.Now()
	s.are(settleFor+homeWithin, "peak", peakPods, 0)
	s.Logf("all at home %s after the ballast was told to go, of which %s were stabilization", time.Since(freed).Round(10*time.Millisecond), settleFor)
	// 13 pods overflowed and came home once each: the 7 stayed where they were.
	s.ever("peak", peakPods, peakPods-fitting)
	s.always(5*time.Second, "they stay at home", func() error { return s.exactly("peak", peakPods, 0) })
	s.ever("peak", peakPods, peakPods-fitting)
	if samples, err := broken(); err != nil {
		s.Errorf("of %d samples: %v", samples, err)
	} else {
		s.Logf("%d samples of the budget and of the Service's endpoints: never violated", samples)
	}
	if least := s.trail.Least("peak"); least < keptByPDB {
		s.Errorf("at one moment %d pods were Ready, want %d at least", least, keptByPDB)
	}
	s.condition("burst", v1alpha1.ConditionBursting, metav1.ConditionFalse)
}

// burstPolicy lets the pods of peak overflow to west.
func (s *scenario) burstPolicy() {
	s.Helper()
	_, err := s.policies.Create(s.Context(), &v1alpha1.OffloadPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "burst", Namespace: s.ns},
		Spec: v1alpha1.OffloadPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: labelled("peak")}, When: v1alpha1.OffloadBurst,
			Peers: []v1alpha1.PeerChoice{{Name: duo.West}},
			Burst: &v1alpha1.Burst{
				After:    &metav1.Duration{Duration: after},
				ComeHome: v1alpha1.ComeHome{Stabilization: &metav1.Duration{Duration: settleFor}},
			},
		},
	}, metav1.CreateOptions{})
	s.check(err)
	s.eventually(duo.Soon, "the policy is followed", func(ctx context.Context) error {
		p, err := s.policies.Get(ctx, "burst", metav1.GetOptions{})
		if err == nil && p.Status.ObservedGeneration != p.Generation {
			err = fmt.Errorf("its status is about generation %d of %d", p.Status.ObservedGeneration, p.Generation)
		}
		return err
	})
}

// fill makes pods, "ballast", that leave so many thousandths of a core free at home.
func (s *scenario) fill(leave int64) {
	s.Helper()
	node, err := s.Home.CoreV1().Nodes().Get(s.Context(), s.Node, metav1.GetOptions{})
	s.check(err)
	pods, err := s.Home.CoreV1().Pods(metav1.NamespaceAll).List(s.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + s.Node})
	s.check(err)
	free := node.Status.Allocatable.Cpu().MilliValue()
	for _, p := range pods.Items {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, c := range p.Spec.Containers {
			free -= c.Resources.Requests.Cpu().MilliValue()
		}
	}
	if free < peakPods*peakCPU*11/10 {
		s.Fatalf("home has %d thousandths of a core free, too few for %d pods of %d: other pods are in the way", free, peakPods, peakCPU)
	}
	s.deployment("ballast", 2, sleeper(*resource.NewMilliQuantity((free-leave)/2, resource.DecimalSI)))
	s.are(duo.Soon, "ballast", 2, 0)
}

// condition waits until a policy's condition has this status.
func (s *scenario) condition(policy, kind string, want metav1.ConditionStatus) {
	s.Helper()
	s.eventually(duo.Soon, fmt.Sprintf("policy %s says %s=%s", policy, kind, want), func(ctx context.Context) error {
		p, err := s.policies.Get(ctx, policy, metav1.GetOptions{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(p.Status.Conditions, func(c metav1.Condition) bool { return c.Type == kind })
		if i < 0 || p.Status.Conditions[i].Status != want {
			return fmt.Errorf("its conditions are %+v", p.Status.Conditions)
		}
		s.Logf("%s: %s", p.Status.Conditions[i].Reason, p.Status.Conditions[i].Message)
		return nil
	})
}

// endpoints counts those of a Service that are ready.
func (s *scenario) endpoints(ctx context.Context, service string) (int, error) {
	list, err := s.Home.DiscoveryV1().EndpointSlices(s.ns).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, slice := range list.Items {
		for _, e := range slice.Endpoints {
			if ptr.Deref(e.Conditions.Ready, false) {
				n++
			}
		}
	}
	return n, nil
}

// watchBudget looks, every 100 ms, whether a budget and the Service of the same name hold. The function it returns ends that, and says
// how often it looked and what did not hold.
func (s *scenario) watchBudget(name string) func() (samples int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	s.Cleanup(cancel)
	var watched sync.WaitGroup
	var samples int
	var broken []error
	watched.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := s.sampleBudget(ctx, name); err != nil && ctx.Err() == nil {
				broken = append(broken, fmt.Errorf("%s: %w", time.Now().UTC().Format("15:04:05.000"), err))
			}
			samples++
		}
	})
	return func() (int, error) {
		cancel()
		watched.Wait()
		return samples, errors.Join(broken[:min(len(broken), 10)]...)
	}
}

func (s *scenario) sampleBudget(ctx context.Context, name string) error {
	b, err := s.Home.PolicyV1().PodDisruptionBudgets(s.ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if st := b.Status; st.DisruptionsAllowed < 0 || st.CurrentHealthy < st.DesiredHealthy {
		return fmt.Errorf("the budget allows %d disruptions, %d of %d are healthy", st.DisruptionsAllowed, st.CurrentHealthy, st.DesiredHealthy)
	}
	n, err := s.endpoints(ctx, name)
	if err == nil && n < keptByPDB {
		err = fmt.Errorf("%d endpoints of the Service are ready", n)
	}
	return err
}
