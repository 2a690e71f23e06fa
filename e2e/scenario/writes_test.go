package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/internal/live"
)

// writes are the writing requests of one program to one cluster, since a moment.
type writes struct {
	side   *side
	client string
	since  []lab.RequestCount
}

func (s *scenario) countWrites(on *side, client string) *writes {
	s.Helper()
	now, err := on.Requests(s.ctx)
	s.check(err)
	return &writes{side: on, client: client, since: now}
}

// read gives the writes since then, by "verb resource[/subresource]". A review of rights and a request for a token write
// nothing.
func (w *writes) read(ctx context.Context) (map[string]int64, error) {
	now, err := w.side.Requests(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, r := range lab.DiffRequests(w.since, now) {
		if !r.Write() || r.Client != w.client || r.Group == "authorization.k8s.io" || r.Subresource == "token" {
			continue
		}
		name := r.Verb + " " + r.Resource
		if r.Subresource != "" {
			name += "/" + r.Subresource
		}
		out[name] += r.Count
	}
	return out, nil
}

// TestWriteBudget: what starting and ending 100 pods costs in API writes, what a restart of spillwayd costs, and what an
// idle minute.
func TestWriteBudget(t *testing.T) {
	s := begin(t)
	s.startAndEnd(100)
	s.restartWritesNothing(20)
	s.idleMinute()
}

// deployment runs pods on the virtual node.
func (s *scenario) deployment(name string, replicas int32) *appsv1.Deployment {
	s.Helper()
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: remoteSpec()},
		},
	}
	made, err := s.consumer.kube.AppsV1().Deployments(s.ns).Create(s.ctx, d, metav1.CreateOptions{})
	s.check(err)
	return made
}

func (s *scenario) scale(name string, replicas int32) error {
	_, err := s.consumer.kube.AppsV1().Deployments(s.ns).Patch(s.ctx, name, types.MergePatchType,
		fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas), metav1.PatchOptions{})
	return err
}

// scaled says why a Deployment has not these Ready pods and no others; nil when it has.
func (s *scenario) scaled(ctx context.Context, name string, replicas int32) error {
	d, err := s.consumer.kube.AppsV1().Deployments(s.ns).Get(ctx, name, getOptions())
	if err != nil {
		return err
	}
	st := d.Status
	if st.ObservedGeneration < d.Generation || st.ReadyReplicas != replicas || st.Replicas != replicas {
		return fmt.Errorf("deployment %s, generation %d (observed %d), has %d of %d pods Ready, want %d",
			name, d.Generation, st.ObservedGeneration, st.ReadyReplicas, st.Replicas, replicas)
	}
	return nil
}

// empty says which pods and twins there still are; nil when there are none.
func (s *scenario) empty(ctx context.Context) error {
	pods, err := s.localPods(ctx)
	if err != nil {
		return err
	}
	twins, err := s.twins(ctx)
	if err != nil {
		return err
	}
	if len(pods)+len(twins) > 0 {
		return fmt.Errorf("%d pods and %d twins are still there", len(pods), len(twins))
	}
	return nil
}

func (s *scenario) startAndEnd(pods int64) {
	s.Helper()
	atProvider, atConsumer := s.countWrites(s.provider, "spillwayd"), s.countWrites(s.consumer, "spillwayd")
	s.deployment("budget", int32(pods))
	s.eventually(2*time.Minute, "all pods are Ready", func(ctx context.Context) error { return s.scaled(ctx, "budget", int32(pods)) })
	s.check(s.scale("budget", 0))
	s.eventually(2*time.Minute, "all pods and twins are gone", s.empty)

	remote, err := atProvider.read(s.ctx)
	s.check(err)
	home, err := atConsumer.read(s.ctx)
	s.check(err)
	s.Logf("writes for %d pods: provider %v, consumer %v", pods, remote, home)
	s.exactly(remote, "provider", map[string]int64{"create pods": pods, "delete pods": pods})
	s.atMost(home, "consumer", map[string]int64{"patch pods/status": 2 * pods, "delete pods": pods})
}

// exactly fails the test unless the writes that have to do with pods are these.
func (s *scenario) exactly(got map[string]int64, where string, want map[string]int64) {
	s.Helper()
	s.atMost(got, where, want)
	for name, n := range want {
		if got[name] != n {
			s.Errorf("%s: %d × %s, want %d", where, got[name], name, n)
		}
	}
}

// atMost fails the test when there are more of these writes, or others that have to do with pods.
func (s *scenario) atMost(got map[string]int64, where string, want map[string]int64) {
	s.Helper()
	for name, n := range got {
		_, what, _ := strings.Cut(name, " ")
		switch kind, _, _ := strings.Cut(what, "/"); kind {
		case "pods", "events", "configmaps", "secrets", "namespaces", "serviceaccounts":
			if n > want[name] {
				s.Errorf("%s: %d × %s, want at most %d", where, n, name, want[name])
			}
		}
	}
}

// restartWritesNothing: a new process finds everything as it should be.
func (s *scenario) restartWritesNothing(pods int32) {
	s.Helper()
	s.deployment("kept", pods)
	s.eventually(time.Minute, "the pods are Ready", func(ctx context.Context) error { return s.scaled(ctx, "kept", pods) })
	atProvider, atConsumer := s.countWrites(s.provider, "spillwayd"), s.countWrites(s.consumer, "spillwayd")
	s.check(s.consumer.spillwayd.Restart())
	s.create(s.remotePod("canary")) // when it runs, the new process knows all pods
	s.running("canary")

	remote, err := atProvider.read(s.ctx)
	s.check(err)
	home, err := atConsumer.read(s.ctx)
	s.check(err)
	s.Logf("writes of a restart and one new pod: provider %v, consumer %v", remote, home)
	s.exactly(remote, "provider", map[string]int64{"create pods": 1})
	s.atMost(home, "consumer", map[string]int64{"patch pods/status": 2})
}

// idleMinute: six renewals of the node's Lease, at most one write of the node, and the Lease of the leader election.
func (s *scenario) idleMinute() {
	s.Helper()
	leases := s.consumer.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	renewals := newCounter()
	lease := live.New(live.Options[*coordinationv1.Lease]{
		Name: "lease of the virtual node",
		ListWatch: live.ListWatch(s.consumer.kube, leases, func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", nodeName).String()
		}),
		Changed: func(before, now *coordinationv1.Lease) { renewals.add(before != nil && now != nil) },
	})
	s.follow(lease.Run, lease.Synced())
	atProvider, atConsumer := s.countWrites(s.provider, "spillwayd"), s.countWrites(s.consumer, "spillwayd")
	renewals.reset()
	_, _ = poll(s.ctx, time.Minute, func(context.Context) error { return errors.New("the minute is not over") })
	renewed := renewals.read()
	remote, err := atProvider.read(s.ctx)
	s.check(err)
	home, err := atConsumer.read(s.ctx)
	s.check(err)

	s.Logf("writes of an idle minute: %d of the node's Lease; provider %v, consumer %v", renewed, remote, home)
	if renewed < 5 || renewed > 7 {
		s.Errorf("the node's Lease was renewed %d times in a minute, want 6", renewed)
	}
	if n := home["patch nodes/status"] + home["patch nodes"]; n > 1 {
		s.Errorf("the node was written %d times in an idle minute, want at most 1", n)
	}
	for name, n := range home {
		if name != "update leases" && name != "patch nodes/status" {
			s.Errorf("consumer: %d × %s in an idle minute, want none", n, name)
		}
	}
	for name, n := range remote {
		// Its own leader election; and every five minutes what tenants have is applied again, which changes nothing unless somebody
		// took it away.
		if verb, _, _ := strings.Cut(name, " "); name != "update leases" && verb != "apply" {
			s.Errorf("provider: %d × %s in an idle minute, want none", n, name)
		}
	}
}

// follow runs a watch until the test is over, and returns when it is complete.
func (s *scenario) follow(run func(context.Context), synced <-chan struct{}) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	var done sync.WaitGroup
	done.Go(func() { run(ctx) })
	s.Cleanup(func() { cancel(); done.Wait() })
	select {
	case <-synced:
	case <-time.After(soon):
		s.Fatal("the watch does not start")
	}
}

// counter counts. Safe for concurrent use.
type counter struct {
	mu sync.Mutex
	n  int // guarded by mu
}

func newCounter() *counter { return &counter{} }

func (c *counter) add(one bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one {
		c.n++
	}
}

func (c *counter) reset() { c.mu.Lock(); defer c.mu.Unlock(); c.n = 0 }

func (c *counter) read() int { c.mu.Lock(); defer c.mu.Unlock(); return c.n }
