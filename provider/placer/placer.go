package placer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/peering/v1alpha1/client"
	"github.com/spillway-dev/spillway/provider/placement"
)

const (
	// lookEvery is how often it is asked whether the policies are known by now, and whether the last look at the pods succeeds.
	lookEvery = time.Second
	// pageSize is how many pods are listed at once in the look for what an earlier process left.
	pageSize = 1000
)

// Config says in which cluster pods are placed.
type Config struct {
	// Client reaches this cluster's API server. It must have no rate limit.
	Client kubernetes.Interface
	// REST reaches it for the kinds of spillway.dev.
	REST *rest.Config
	// Policies of this cluster.
	Policies Policies
	// Closed says why no pod of a namespace may leave; empty when pods may. Nil: nobody keeps them.
	Closed func(namespace string) string
	// Unsteered says why nobody steers new pods, a sentence, so that no Migration can begin; empty: somebody does.
	Unsteered string
	Events    record.EventRecorder
	Log       *zap.Logger
	// Clock is the real one when nil.
	Clock clock.Clock
}

// caches is what the loops read; Caches is the real one.
type caches interface {
	Workloads
	Run(ctx context.Context)
	Synced() bool
	// Pods and Nodes of the cluster. Shared: they are not changed.
	Pods() []*corev1.Pod
	Nodes() []*corev1.Node
}

// Placer runs the loops that place pods. Make it with New, then Run it once.
type Placer struct {
	cfg    Config
	client func(namespace string) client.Policies
}

// New returns a Placer that does nothing before Run.
func New(cfg Config) (*Placer, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Closed == nil {
		cfg.Closed = func(string) string { return "" }
	}
	policies, err := client.NewPolicies(cfg.REST)
	if err != nil {
		return nil, err
	}
	return &Placer{cfg: cfg, client: policies}, nil
}

// Run places pods until ctx ends, and waits for its goroutines. It watches the cluster's pods once there is a policy with when: Burst,
// a Migration, or something that an earlier process has begun; a cluster without them pays nothing.
func (p *Placer) Run(ctx context.Context) {
	changed := newBell()
	stop := p.cfg.Policies.Notify(func(string) { changed.ring() })
	begin := p.await(ctx, changed)
	stop()
	if !begin {
		return
	}
	b := newBursts(p.cfg, p.client)
	seen := NewCaches(p.cfg.Client, b.bell.ring)
	mover := NewMover(p.cfg.Client, p.cfg.Events)
	b.caches, b.mover = seen, mover
	m := newMigrations(p.cfg, seen, mover)
	b.sweep = func(ctx context.Context) (bool, error) { return Sweep(ctx, seen, noting{b}, m.wished) }
	var wg sync.WaitGroup
	for _, run := range []func(context.Context){seen.Run, b.run, m.run} {
		wg.Go(func() { run(ctx) })
	}
	wg.Wait()
}

// await returns true once there is something to place, and false when ctx has ended.
func (p *Placer) await(ctx context.Context, changed *bell) bool {
	looked := false
	for {
		if p.cfg.Policies.Synced() {
			if wanted(p.cfg.Policies.Governed()) {
				return true
			}
			if !looked {
				left, err := leftBehind(ctx, p.cfg.Client)
				if err != nil && ctx.Err() == nil {
					p.cfg.Log.Warn("pods not looked at", zap.Error(err))
				}
				if left {
					return true
				}
				looked = err == nil
			}
		}
		var retry <-chan time.Time
		if !looked {
			retry = p.cfg.Clock.After(lookEvery)
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed.rung:
		case <-retry:
		}
	}
}

// wanted says whether a namespace has pods to place.
func wanted(sets map[string]policy.Set) bool {
	for _, set := range sets {
		if len(set.Bursts()) > 0 || len(set.Migrations()) > 0 {
			return true
		}
	}
	return false
}

// leftBehind says whether pods wait for Spillway, or were taken from their controllers by it: by an earlier process, for a policy or
// Migration that is gone by now.
func leftBehind(ctx context.Context, client kubernetes.Interface) (bool, error) {
	opts := metav1.ListOptions{Limit: pageSize}
	for {
		pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, opts)
		if err != nil {
			return false, fmt.Errorf("list pods: %w", err)
		}
		for i := range pods.Items {
			if _, released := pods.Items[i].Labels[v1alpha1.LabelMoving]; released || placement.Gated(&pods.Items[i]) {
				return true, nil
			}
		}
		if opts.Continue = pods.Continue; opts.Continue == "" {
			return false, nil
		}
	}
}

// bell wakes one who waits; ringing it twice wakes him once.
type bell struct{ rung chan struct{} }

func newBell() *bell { return &bell{rung: make(chan struct{}, 1)} }

// ring does not block.
func (b *bell) ring() {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}
