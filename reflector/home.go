package reflector

import (
	"context"
	"maps"
	"sync"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"github.com/spillway-dev/spillway/internal/live"
)

// workers is how many keys are worked on at once, over all virtual nodes. A worker mostly waits for an API server: with
// 200 ms of round trip 64 of them still start 300 pods a second.
const workers = 64

// HomeConfig says which cluster is the consumer.
type HomeConfig struct {
	// Client reaches the consumer's API server.
	Client kubernetes.Interface
	// Origin is the consumer's cluster id, the value of the origin label on everything made in a peer.
	Origin string
	// Rules says what may leave the cluster.
	Rules Rules
	// VolumeNamespace is where the claims are made behind volumes whose first pod stays at home. Empty: there are none.
	VolumeNamespace string
	// Events receives what the user must act on.
	Events record.EventRecorder
	Log    *zap.Logger
}

// Home is the consumer's side of all pairs: what they share. Safe for concurrent use.
type Home struct {
	cfg   HomeConfig
	queue workqueue.TypedRateLimitingInterface[key]

	namespaces *live.Cache[*corev1.Namespace]
	loops      map[kind]objectLoop // never changed
	events     *eventLoop
	policies   *typedLoop[*networkingv1.NetworkPolicy]
	pods       *homePods // of the real nodes
	volumes    *volumes

	mu    sync.RWMutex // guards pairs
	pairs map[string]*Pair
}

// NewHome returns a Home without pairs. Nothing happens before Run.
func NewHome(cfg HomeConfig) *Home {
	h := &Home{
		cfg:   cfg,
		queue: newQueue("twins"),
		pairs: map[string]*Pair{},
	}
	core := cfg.Client.CoreV1()
	h.namespaces = live.New(live.Options[*corev1.Namespace]{
		Name: "namespaces", ListWatch: live.ListWatch(cfg.Client, core.Namespaces(), nil),
		Trim: func(ns *corev1.Namespace) { ns.Annotations, ns.ManagedFields = nil, nil }, Changed: h.namespaceChanged,
	})
	h.pods, h.policies = newHomePods(h), newObjectLoop(h, h.networkPolicies())
	h.volumes = newVolumes(h)
	h.loops = map[kind]objectLoop{
		kindConfigMap: newObjectLoop(h, configMaps()), kindSecret: newObjectLoop(h, secrets()),
		kindService: newObjectLoop(h, services()), kindEndpointSlice: newObjectLoop(h, endpointSlices()),
		kindIngress:       newObjectLoop(h, ingresses()),
		kindNetworkPolicy: h.policies,
		kindClaim:         h.volumes.claims,
	}
	h.events = newEventLoop(h)
	return h
}

// Run watches and works until ctx ends; it returns when all its goroutines have.
func (h *Home) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { h.namespaces.Run(ctx) })
	wg.Go(func() { h.pods.run(ctx) })
	wg.Go(func() { h.volumes.pvs.Run(ctx) })
	for _, l := range h.loops {
		wg.Go(func() { l.run(ctx) })
	}
	wg.Go(func() { h.events.run(ctx) })
	for range workers {
		wg.Go(func() {
			for h.work(ctx) {
			}
		})
	}
	<-ctx.Done()
	h.queue.ShutDown()
	wg.Wait()
}

// Attach adds the pair of a virtual node. It panics when the node already has one. The pair is idle until its Run.
func (h *Home) Attach(cfg PairConfig) *Pair {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.pairs[cfg.Node]; ok {
		panic("reflector: node " + cfg.Node + " attached twice")
	}
	p := newPair(h, cfg)
	h.pairs[cfg.Node] = p
	return p
}

// Detach forgets the pair of a virtual node, after its Run has returned.
func (h *Home) Detach(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.pairs[node]; p != nil {
		for _, pod := range p.local.List() {
			h.events.forget(pod.UID)
		}
	}
	delete(h.pairs, node)
}

func (h *Home) pair(node string) *Pair {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.pairs[node]
}

func (h *Home) eachPair(do func(*Pair)) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, p := range h.pairs {
		do(p)
	}
}

// synced says whether the caches of this side are complete.
func (h *Home) synced() bool {
	for _, l := range h.loops {
		if !l.synced() {
			return false
		}
	}
	return h.namespaces.HasSynced() && h.volumes.pvs.HasSynced() && h.cfg.Rules.Synced()
}

func (h *Home) namespaceChanged(before, now *corev1.Namespace) {
	if before != nil && now != nil && maps.Equal(before.Labels, now.Labels) {
		return
	}
	h.namespaceNamed(anyPolicy)
	name := firstSet(now, before).Name
	h.eachPair(func(p *Pair) {
		p.enqueueNamespace(name)
		p.noteWanted()
	})
}

func (h *Home) allowed(ns *corev1.Namespace) bool {
	return h.cfg.Rules.Namespace(ns).Refusal == ""
}

// work takes one key and does one step. It returns false when the queue is shut down.
func (h *Home) work(ctx context.Context) bool {
	k, quit := h.queue.Get()
	if quit {
		return false
	}
	defer h.queue.Done(k)
	sync := h.volumes.sync // of no node
	if k.node != "" {
		p := h.pair(k.node)
		if p == nil {
			h.queue.Forget(k)
			return true
		}
		sync = p.sync
	}
	if ctx.Err() != nil {
		return true
	}
	after, err := sync(ctx, k)
	switch {
	case err != nil:
		h.cfg.Log.Debug("step did not succeed", zap.String("node", k.node), zap.String("kind", string(k.kind)),
			zap.String("namespace", k.namespace), zap.String("name", k.name),
			zap.Int("attempt", h.queue.NumRequeues(k)), zap.Error(err))
		h.queue.AddRateLimited(k)
	case after > 0:
		h.queue.AddAfter(k, after)
	default:
		h.queue.Forget(k)
	}
	return true
}

func firstSet[T comparable](a, b T) T {
	var none T
	if a != none {
		return a
	}
	return b
}
