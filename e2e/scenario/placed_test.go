package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/e2e/trail"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

const (
	burstPods    = 20
	burstFits    = 8 // of them, at home beside the ballast: two on each node
	migratedPods = 10
)

// TestKilledDuringBurstAndMigration: spillwayd of the consumer is killed at 20 random moments while one Deployment overflows and comes
// home, and another one moves to the peer and back. The end is the same as without that, and nothing moved twice.
func TestKilledDuringBurstAndMigration(t *testing.T) {
	s := begin(t)
	random := s.dice(2)
	seen := s.trail()
	s.burstPolicy()
	s.ballast()
	s.atHome("site", migratedPods, "10m")
	s.placed(seen, "site", migratedPods, 0)

	s.requesting("peak", burstPods, "1")
	s.migrate("forward", v1alpha1.MigrationSpec{To: v1alpha1.Destination{Peer: west}, Steps: []int32{10, 50, 100}})
	s.kill(random, kills/2)
	s.phase("forward", v1alpha1.MigrationCompleted)
	s.placed(seen, "site", 0, migratedPods)
	s.placed(seen, "peak", burstFits, burstPods-burstFits)
	s.everPlaced(seen, "site", migratedPods, migratedPods)
	s.everPlaced(seen, "peak", burstFits, burstPods-burstFits)

	s.check(s.scale("ballast", 0))
	s.migrate("back", v1alpha1.MigrationSpec{To: v1alpha1.Destination{Home: true}, Steps: []int32{10, 50, 100}})
	s.kill(random, kills-kills/2)
	s.phase("back", v1alpha1.MigrationCompleted)
	s.placed(seen, "site", migratedPods, 0)
	s.placed(seen, "peak", burstPods, 0)
	s.always(3*time.Second, "they stay", func(context.Context) error {
		return errors.Join(exactly(seen, "site", migratedPods, 0), exactly(seen, "peak", burstPods, 0))
	})
	s.everPlaced(seen, "site", 2*migratedPods, migratedPods)
	s.everPlaced(seen, "peak", burstPods, burstPods-burstFits)
	s.eventually(soon, "no twin is left", func(ctx context.Context) error {
		twins, err := s.twins(ctx)
		if err == nil && len(twins) > 0 {
			err = fmt.Errorf("there are %d", len(twins))
		}
		return err
	})
}

// kill kills spillwayd of the consumer at random moments, and starts it again.
func (s *scenario) kill(random *rand.Rand, times int) {
	s.Helper()
	for range times {
		s.pass(time.Duration(random.IntN(3000)) * time.Millisecond)
		s.check(s.consumer.spillwayd.Restart())
	}
	s.keepSpillwaydRunning(s.consumer)
}

// trail writes down what becomes of the pods of the namespace, and tells it with all the rest when the test fails.
func (s *scenario) trail() *trail.Trail {
	s.Helper()
	seen := trail.New(s.consumer.kube, s.ns)
	s.follow(seen.Run, seen.Synced())
	s.Cleanup(func() {
		if s.Failed() {
			s.Log(seen.String() + trail.Explain(s.ctx, s.consumer.Config(), s.ns))
		}
	})
	return seen
}

// burstPolicy lets the pods of peak overflow, and keeps pods of the namespace from being made while nobody can steer them: one that a
// Migration is to send to the peer would be made at home then, and have to move a second time.
func (s *scenario) burstPolicy() {
	s.Helper()
	client := s.policies()
	_, err := client.Create(s.ctx, &v1alpha1.OffloadPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "burst", Namespace: s.ns},
		Spec: v1alpha1.OffloadPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "peak"}}, When: v1alpha1.OffloadBurst,
			Peers: []v1alpha1.PeerChoice{{Name: west}}, FailurePolicy: v1alpha1.FailurePolicyFail,
			Burst: &v1alpha1.Burst{
				After: &metav1.Duration{Duration: time.Second},
				ComeHome: v1alpha1.ComeHome{
					Stabilization: &metav1.Duration{Duration: time.Second}, MaxConcurrent: ptr.To[int32](3),
				},
			},
		},
	}, metav1.CreateOptions{})
	s.check(err)
	s.eventually(soon, "the policy is followed", func(ctx context.Context) error {
		p, err := client.Get(ctx, "burst", getOptions())
		if err == nil && p.Status.ObservedGeneration != p.Generation {
			err = fmt.Errorf("its status is about generation %d of %d", p.Status.ObservedGeneration, p.Generation)
		}
		return err
	})
}

// ballast leaves 2 of the 32 cores of each node of home.
func (s *scenario) ballast() {
	s.Helper()
	s.requesting("ballast", len(s.realNodes()), "29900m") // no two fit on one node
	s.eventually(soon, "the ballast runs", func(ctx context.Context) error { return s.scaled(ctx, "ballast", int32(len(s.realNodes()))) })
}

// realNodes are the names of home's own.
func (s *scenario) realNodes() []string {
	s.Helper()
	list, err := s.consumer.kube.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{LabelSelector: "!" + v1alpha1.LabelPeer})
	s.check(err)
	var names []string
	for _, n := range list.Items {
		names = append(names, n.Name)
	}
	return names
}

// requesting makes a Deployment whose pods say nothing of virtual nodes.
func (s *scenario) requesting(name string, replicas int, cpu string) {
	s.Helper()
	s.requestingWith(name, replicas, cpu, func(*corev1.PodSpec) {})
}

func (s *scenario) requestingWith(name string, replicas int, cpu string, change func(*corev1.PodSpec)) {
	s.Helper()
	labels, spec := map[string]string{"app": name}, remoteSpec()
	spec.NodeSelector, spec.Tolerations = nil, nil
	spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse(cpu)
	change(&spec)
	_, err := s.consumer.kube.AppsV1().Deployments(s.ns).Create(s.ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(int32(replicas)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	s.check(err)
}

// atHome makes one and waits until its pods run.
func (s *scenario) atHome(name string, replicas int, cpu string) {
	s.Helper()
	s.requesting(name, replicas, cpu)
	s.eventually(soon, name+" runs", func(ctx context.Context) error { return s.scaled(ctx, name, int32(replicas)) })
}

// migrations reaches those of the scenario's namespace.
func (s *scenario) migrations() peeringclient.Migrations {
	s.Helper()
	client, err := peeringclient.NewMigrations(s.consumer.Config())
	s.check(err)
	return client(s.ns)
}

// migrate makes a Migration, of Deployment site unless it says otherwise, that soaks for a second.
func (s *scenario) migrate(name string, spec v1alpha1.MigrationSpec) {
	s.Helper()
	if spec.Workloads.Names == nil {
		spec.Workloads.Names = []v1alpha1.WorkloadName{{Kind: v1alpha1.WorkloadDeployment, Name: "site"}}
	}
	spec.Gate.Soak = &metav1.Duration{Duration: time.Second}
	_, err := s.migrations().Create(s.ctx, &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns}, Spec: spec}, metav1.CreateOptions{})
	s.check(err)
}

// phase waits until a Migration has ended, which has to be in this phase.
func (s *scenario) phase(name string, want v1alpha1.MigrationPhase) *v1alpha1.Migration {
	s.Helper()
	var m *v1alpha1.Migration
	final := []v1alpha1.MigrationPhase{v1alpha1.MigrationRefused, v1alpha1.MigrationRolledBack, v1alpha1.MigrationCompleted, v1alpha1.MigrationPaused}
	s.eventually(2*time.Minute, "Migration "+name+" ends", func(ctx context.Context) (err error) {
		if m, err = s.migrations().Get(ctx, name, getOptions()); err != nil || slices.Contains(final, m.Status.Phase) {
			return err
		}
		return fmt.Errorf("it is %q, share %d, moved %s: %s", m.Status.Phase, m.Status.Share, m.Status.Moved, m.Status.Message)
	})
	if m.Status.Phase != want {
		s.Fatalf("Migration %s is %s, want %s: %s", name, m.Status.Phase, want, m.Status.Message)
	}
	return m
}

func exactly(seen *trail.Trail, app string, home, away int) error {
	if h, a, others := seen.Now(app); h != home || a != away || others > 0 {
		return fmt.Errorf("%d Ready pods of %s are at home and %d in the peer, want %d and %d; %d others wait, begin or end", h, app, a, home, away, others)
	}
	return nil
}

// placed waits until an app has these Ready pods and no others.
func (s *scenario) placed(seen *trail.Trail, app string, home, away int) {
	s.Helper()
	s.eventually(time.Minute, fmt.Sprintf("%d pods of %s at home, %d in the peer", home, app, away), func(context.Context) error {
		return exactly(seen, app, home, away)
	})
}

// everPlaced fails the test unless there were, over all the time, this many pods: each move makes one.
func (s *scenario) everPlaced(seen *trail.Trail, app string, home, away int) {
	s.Helper()
	if made, h, a := seen.Count(app); made != home+away || h != home || a != away {
		s.Errorf("of %s there were %d pods in all, %d at home and %d in the peer; want %d: %d and %d", app, made, h, a, home+away, home, away)
	}
}
