package peering

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/internal/metrics"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

// Finalizers: each is taken off by the controller of the cluster that holds the Peering, and needs nothing of the peer.
const (
	finalizerConsumer = "spillway.dev/consumer" // the virtual node and its pods are to be taken away first
	finalizerProvider = "spillway.dev/provider" // the tenant's namespaces and rights are to be taken away first
)

const (
	// offerEvery is how often a changed offer is written: half of the two seconds within which it must be followed.
	offerEvery = time.Second
	// removeEvery is how often the taking away of a node or tenant is looked at.
	removeEvery = 300 * time.Millisecond
	// wakeAfter is how long a change of a virtual node may wait for others to be looked at together.
	wakeAfter = 50 * time.Millisecond
	// openEvery is how often a new namespace of a tenant is looked at until it is complete.
	openEvery = 50 * time.Millisecond
	// reconcileTimeout bounds one pass.
	reconcileTimeout = 30 * time.Second
)

// Config says for which cluster the controller works.
type Config struct {
	// REST reaches this cluster's API server.
	REST *rest.Config
	// Client is made from REST.
	Client kubernetes.Interface
	// ClusterID of this cluster.
	ClusterID string
	// Nodes shows the peers.
	Nodes VirtualNodes
	// Policies are this cluster's; they run already.
	Policies *Policies
	// Network says what cannot be found about this cluster's network.
	Network NetworkConfig
	Log     *zap.Logger
}

// Controller keeps every Peering of one cluster. Make it with New, then Run it once.
type Controller struct {
	cfg      Config
	client   peeringclient.Peerings
	peerings *live.Cache[*v1alpha1.Peering]
	queue    workqueue.TypedRateLimitingInterface[string]
	caches   *providerCaches
	tenants  *tenants
	network  *network
	far      *farEndpoints

	ctx      context.Context  // of Run
	provider sync.Once        // starts caches
	wg       sync.WaitGroup   // caches and the offer ticker
	links    map[string]*link // by name of the Peering; belongs to the worker
	last     map[string]Node  // by name of the Peering; as handed over last; belongs to the worker
}

// New returns a Controller that does nothing before Run.
func New(cfg Config) (*Controller, error) {
	peerings, err := peeringclient.New(cfg.REST)
	if err != nil {
		return nil, err
	}
	c := &Controller{
		cfg: cfg, client: peerings, links: map[string]*link{}, last: map[string]Node{},
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 10*time.Second),
			workqueue.TypedRateLimitingQueueConfig[string]{Name: "peerings", MetricsProvider: metrics.Queues{}}),
	}
	c.caches = newProviderCaches(cfg.Client, c.wakeProviders, func(before, now *corev1.Node) { c.network.nodeChanged(before, now) })
	c.network = newNetwork(&c.cfg, c.caches, c.wakeTunnels)
	c.far = newFarEndpoints(cfg.Client, cfg.Log)
	c.tenants = &tenants{cfg: &c.cfg, caches: c.caches, made: map[string]*tenantState{}}
	c.peerings = live.New(live.Options[*v1alpha1.Peering]{
		Name: "peerings", ListWatch: live.ListWatch(peerings, peerings, nil), Trim: trimPeering,
		Changed: func(before, now *v1alpha1.Peering) {
			if before == nil || now == nil || !sameWish(before, now) {
				c.queue.Add(nameOf(before, now))
			}
		},
	})
	return c, nil
}

// sameWish says that only the status differs, which this controller wrote itself, but for the paths of the tunnel.
func sameWish(a, b *v1alpha1.Peering) bool {
	return a.UID == b.UID && a.Generation == b.Generation && a.DeletionTimestamp.Equal(b.DeletionTimestamp) &&
		slices.Equal(a.Finalizers, b.Finalizers) && samePaths(a.Status.Tunnel, b.Status.Tunnel)
}

func nameOf(before, now *v1alpha1.Peering) string {
	if now != nil {
		return now.Name
	}
	return before.Name
}

// Wake looks at a Peering again within wakeAfter: a thousand pods that go call it a thousand times, and are looked at
// together. It does not block and may be called before Run.
func (c *Controller) Wake(name string) { c.queue.AddAfter(name, wakeAfter) }

// Run works until ctx ends; it returns when all its goroutines have. Virtual nodes and tenants stay as they are.
func (c *Controller) Run(ctx context.Context) {
	c.ctx = ctx
	defer scraped.Add(c.tell)()
	c.wg.Go(func() { c.peerings.Run(ctx) })
	c.wg.Go(func() { newMisfits(&c.cfg).run(ctx) })
	c.wg.Go(func() {
		for c.work(ctx) {
		}
	})
	<-ctx.Done()
	c.queue.ShutDown()
	c.wg.Wait()
	for _, l := range c.links {
		l.close()
	}
}

// work takes one Peering. One worker serves all: a pass does not wait for a peer, only for this cluster's API server.
func (c *Controller) work(ctx context.Context) bool {
	name, quit := c.queue.Get()
	if quit {
		return false
	}
	defer c.queue.Done(name)
	if !c.peerings.HasSynced() {
		c.queue.AddAfter(name, removeEvery)
		return true
	}
	bounded, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	after, err := c.reconcile(bounded, name)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.cfg.Log.Warn("peering not reconciled", zap.String("peer", name), zap.Error(err),
			zap.Int("attempt", c.queue.NumRequeues(name)))
		c.queue.AddRateLimited(name)
	default:
		c.queue.Forget(name)
		if after > 0 {
			c.queue.AddAfter(name, after)
		}
	}
	return true
}

// reconcile does one pass over a Peering. It returns when to look again although nothing changed (0: not by time).
func (c *Controller) reconcile(ctx context.Context, name string) (time.Duration, error) {
	p, ok := c.peerings.Get("", name)
	if !ok {
		c.closeLink(name)
		metrics.ForgetPeer(name)
		delete(c.network.seen, name)
		return 0, nil
	}
	deleting := p.DeletionTimestamp != nil
	borrows, shares := p.Spec.Borrow != nil && !deleting, p.Spec.Share != nil && !deleting
	if added, err := c.addFinalizers(ctx, p, borrows, shares); err != nil || added {
		return 0, err // the change comes back as an event
	}
	p, agreed, err := c.agree(ctx, p)
	if err != nil {
		return wakeAfter, nil // somebody wrote at the same time
	}
	status := p.Status.DeepCopy()
	status.ObservedGeneration, status.ClusterID = p.Generation, c.cfg.ClusterID
	seen := observation{spec: p.Spec, generation: p.Generation, self: c.cfg.ClusterID, paths: paths(status)}
	var after time.Duration
	if !deleting {
		c.tunnelStatus(ctx, p, &agreed, status)
	}
	seen.tunnel = agreed
	if shares {
		after = c.share(ctx, p, status, &seen)
	}
	if borrows {
		c.borrow(ctx, p, status, &seen)
	}
	removing, err := c.removeUnwanted(ctx, p, borrows, shares, status)
	if err != nil || deleting {
		return removing, err
	}
	if seen.settling(time.Now()) && judged(p.Status.Conditions, p.Generation) {
		return soonest(after, seen.tunnel.after(), settleWithin), nil
	}
	after = soonest(after, seen.tunnel.after())
	status.Conditions = conditions(p.Status.Conditions, seen)
	if shares {
		c.far.set(p.Spec.ClusterID, tunnelDown(status.Conditions))
	}
	return max(after, removing), c.writeStatus(ctx, p, status)
}

// share is the provider's half of a pass.
func (c *Controller) share(ctx context.Context, p *v1alpha1.Peering, status *v1alpha1.PeeringStatus, seen *observation) time.Duration {
	c.provider.Do(func() {
		c.wg.Go(func() { c.caches.run(c.ctx) })
		c.wg.Go(func() { c.followOffers(c.ctx) })
		c.wg.Go(func() { c.far.run(c.ctx) })
	})
	if !c.caches.synced() {
		seen.tenantErr = fmt.Errorf("reading the cluster's nodes and pods")
		return removeEvery
	}
	var waiting bool
	if waiting, seen.tenantErr = c.tenants.ensure(ctx, p, status, time.Now()); seen.tenantErr != nil {
		c.cfg.Log.Warn("tenant not in place", zap.String("peer", p.Name), zap.Error(seen.tenantErr))
		return time.Second
	}
	if waiting {
		return openEvery
	}
	return 0
}

// borrow is the consumer's half of a pass.
func (c *Controller) borrow(ctx context.Context, p *v1alpha1.Peering, status *v1alpha1.PeeringStatus, seen *observation) {
	l, err := c.ensureLink(ctx, p)
	if err != nil {
		seen.linkErr = err
		c.queue.AddAfter(p.Name, 2*time.Second)
		return
	}
	l.through(apiAddress(&p.Spec))
	if status.Tunnel != nil && status.Tunnel.Local != nil {
		l.hand(status.Tunnel.Local)
	}
	seen.link = l.state()
	if seen.link.remote != nil && wrongCluster(*seen) {
		return
	}
	if err := c.ensureNode(ctx, p, l, seen.link); err != nil {
		seen.linkErr = err
	}
	seen.node, seen.hasNode = c.cfg.Nodes.State(p.Name)
	if seen.hasNode {
		status.Nodes = []v1alpha1.VirtualNode{{Name: nodeName(p.Spec.Borrow, p.Name)}}
	}
	if seen.node.Wanted != nil && seen.link.answered && seen.link.err == nil {
		if err := l.request(ctx, c.cfg.Policies.wishes(seen.node.Wanted)); err != nil {
			c.cfg.Log.Warn("namespaces not asked for", zap.String("peer", p.Name), zap.Error(err))
			c.queue.AddAfter(p.Name, time.Second)
		}
	}
}

// ensureNode hands over the virtual node as the peer's word, or the last known, calls for it.
func (c *Controller) ensureNode(ctx context.Context, p *v1alpha1.Peering, l *link, s linkState) error {
	last, known := c.last[p.Name]
	switch {
	case hasOffer(s.remote) && s.answered:
		last = wantedNode(p, l, s)
	case known && s.answered && l.peering.HasSynced():
		last.Lost, last.Since, last.Reason, last.Message = true, s.last, v1alpha1.ReasonNoOffer, "the provider no longer offers anything"
	case !known && s.lost && len(p.Status.Nodes) > 0:
		node, err := c.cfg.Client.CoreV1().Nodes().Get(ctx, nodeName(p.Spec.Borrow, p.Name), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the virtual node of peer %s: %w", p.Name, err)
		}
		last = lastKnown(p, l, node, s)
	default:
		return nil
	}
	last.Addresses, last.OwnAddresses = seenAs(&p.Spec), ownSeenAs(&p.Spec)
	last.OwnPods, last.HomeAPI = ownPods(p), ownAPI(p, last.OwnAddresses)
	c.last[p.Name] = last
	c.cfg.Policies.setPlace(last, s.remote == nil || len(s.remote.Status.NodeLabels) > 0) // else the Node itself was read
	c.cfg.Nodes.Ensure(last)
	return nil
}

// ensureLink returns the link of a Peering, made anew when the Peering means another.
func (c *Controller) ensureLink(ctx context.Context, p *v1alpha1.Peering) (*link, error) {
	if l := c.links[p.Name]; l != nil {
		rejected := apierrors.IsUnauthorized(l.state().err)
		if l.same(p.Spec.API) && !rejected {
			return l, nil
		}
		renewal, err := renewalToken(ctx, c.cfg.Client, p.Spec.API)
		if err != nil || l.same(p.Spec.API) && renewal == l.renewal {
			return l, nil // nothing better to try
		}
		c.closeLink(p.Name)
	}
	renewal, err := renewalToken(ctx, c.cfg.Client, p.Spec.API)
	if err != nil {
		return nil, err
	}
	l, err := dial(c.ctx, p, renewal, c.cfg.Log, func() { c.queue.Add(p.Name) })
	if err != nil {
		return nil, err
	}
	c.links[p.Name] = l
	return l, nil
}

func (c *Controller) closeLink(name string) {
	if l := c.links[name]; l != nil {
		l.close()
		delete(c.links, name)
	}
}

// writeStatus writes the status if it differs, as a merge patch of the difference.
func (c *Controller) writeStatus(ctx context.Context, p *v1alpha1.Peering, status *v1alpha1.PeeringStatus) error {
	if apiequality.Semantic.DeepEqual(&p.Status, status) {
		return nil
	}
	before, err := json.Marshal(v1alpha1.Peering{Status: p.Status})
	if err != nil {
		return err
	}
	after, err := json.Marshal(v1alpha1.Peering{Status: *status})
	if err != nil {
		return err
	}
	patch, err := jsonpatch.CreateMergePatch(before, after)
	if err != nil || reflect.DeepEqual(patch, []byte("{}")) {
		return err
	}
	_, err = c.client.Patch(ctx, p.Name, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: v1alpha1.FieldManager}, "status")
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of Peering %s: %w", p.Name, err)
	}
	return nil
}

// followOffers looks at the offers again when the cluster's nodes or pods changed, at most once per offerEvery.
func (c *Controller) followOffers(ctx context.Context) {
	ticker := time.NewTicker(offerEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if c.caches.ledger.takeChanged() {
				c.wakeProviders()
			}
		}
	}
}

// wakeTunnels looks again at every Peering with a tunnel.
func (c *Controller) wakeTunnels() {
	for _, p := range c.peerings.List() {
		if joined(&p.Spec) {
			c.queue.Add(p.Name)
		}
	}
}

// wakeProviders looks again at every Peering that shares.
func (c *Controller) wakeProviders() {
	for _, p := range c.peerings.List() {
		if p.Spec.Share != nil {
			c.queue.Add(p.Name)
		}
	}
}
