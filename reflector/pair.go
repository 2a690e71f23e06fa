package reflector

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

// holdStatus is how long an intermediate status of a twin is held, so that the next one can be merged into the same
// write. Final ones (Ready, ended) are written at once.
const holdStatus = 75 * time.Millisecond

// PairConfig says which virtual node stands for which peer.
type PairConfig struct {
	// Node is the name of the virtual node.
	Node string
	// Peer is the name of the peer, the value of translate.LabelPeer on the virtual node. Volumes stay at a peer, whichever of
	// its nodes a pod is on.
	Peer string
	// Remote reaches the peer's API server with rights inside the tenant namespaces only. It must have no rate limit.
	Remote kubernetes.Interface
	// NodeIPs are the addresses of the virtual node, best first: the pods on it show them as hostIP and hostIPs. None: they show none.
	NodeIPs []netip.Addr
	// WantedChanged is called when Wanted may have changed. It must not block. May be nil.
	WantedChanged func()
}

// Pair keeps the twins behind one virtual node equal with the local pods bound to it. Safe for concurrent use.
type Pair struct {
	home  *Home
	cfg   PairConfig
	local *live.Cache[*corev1.Pod]

	measures *measures
	changes  *changes
	ways     *ways

	lost  atomic.Bool
	since atomic.Pointer[time.Time]      // while lost: when the peer answered last
	seen  atomic.Pointer[address.Table]  // how the peer's addresses are seen here; nil: as they are
	own   atomic.Pointer[address.Table]  // how addresses of here are seen by the peer; nil: as they are
	dns   atomic.Pointer[translate.DNS]  // what answers twins under the names of home; nil: nothing
	api   atomic.Value                   // netip.AddrPort; where twins reach this cluster's API server
	pods  atomic.Pointer[[]netip.Prefix] // in which nobody but pods of here has addresses

	ingress atomic.Pointer[string] // the class by which the peer serves Ingresses of here; nil or empty: none

	mu      sync.RWMutex
	ctx     context.Context      // guarded by mu; that of Run, nil before it
	spaces  map[string]*space    // guarded by mu; by local namespace
	gone    map[types.UID]bool   // guarded by mu; local UIDs whose twin was seen deleted, until the local pod is gone
	taken   map[key]string       // guarded by mu; objects whose name a foreign object holds at the peer, with the words
	made    map[key]time.Time    // guarded by mu; when the twins of objects were made that the caches do not show yet
	done    map[key]doneStep     // guarded by mu; the last step of each pod, until it is gone
	refused map[key]refusedTwin  // guarded by mu; the last twin of each pod that the provider did not take, until the pod is gone
	sent    map[sentTo]sentPatch // guarded by mu; the last patch sent to each twin, until its local pod is gone
	wg      sync.WaitGroup       // the caches of spaces
}

func newPair(h *Home, cfg PairConfig) *Pair {
	p := &Pair{home: h, cfg: cfg, measures: newMeasures(cfg.Peer), changes: newChanges(), spaces: map[string]*space{}, gone: map[types.UID]bool{}, taken: map[key]string{},
		refused: map[key]refusedTwin{}, sent: map[sentTo]sentPatch{}, done: map[key]doneStep{}, made: map[key]time.Time{}}
	p.ways = newWays(p)
	p.local = live.New(live.Options[*corev1.Pod]{
		Name: "pods on " + cfg.Node,
		ListWatch: live.ListWatch(h.cfg.Client, h.cfg.Client.CoreV1().Pods(""), func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", cfg.Node).String()
		}),
		Indexers: cache.Indexers{
			cache.NamespaceIndex:  cache.MetaNamespaceIndexFunc,
			string(kindConfigMap): referenceIndex(func(configMaps, _ []string) []string { return configMaps }),
			string(kindSecret):    referenceIndex(func(_, secrets []string) []string { return secrets }),
			string(kindToken):     tokenIndex,
			string(kindClaim):     claimIndex,
		},
		Changed: p.localChanged,
	})
	return p
}

// referenceIndex files pods under namespace/name of the ConfigMaps or Secrets they refer to.
func referenceIndex(pick func(configMaps, secrets []string) []string) cache.IndexFunc {
	return func(obj any) ([]string, error) {
		pod := obj.(*corev1.Pod)
		names := pick(translate.References(&pod.Spec))
		keys := make([]string, len(names))
		for i, name := range names {
			keys[i] = pod.Namespace + "/" + name
		}
		return keys, nil
	}
}

// claimIndex files pods under namespace/name of the claims they mount.
func claimIndex(obj any) ([]string, error) {
	pod := obj.(*corev1.Pod)
	keys := translate.Claims(&pod.Spec)
	for i := range keys {
		keys[i] = pod.Namespace + "/" + keys[i]
	}
	return keys, nil
}

// Run watches the local pods, and the peer's tenant namespaces as SetNamespaces names them, until ctx ends. It returns
// when all its goroutines have. Call it once.
func (p *Pair) Run(ctx context.Context) {
	p.mu.Lock()
	p.ctx = ctx
	for _, s := range p.spaces {
		p.start(s)
	}
	p.mu.Unlock()

	p.local.Run(ctx)

	p.mu.Lock()
	p.ctx = nil
	for _, s := range p.spaces {
		s.stop()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// SetNamespaces hands over the whole mapping from local namespaces to their tenant namespaces at the peer.
func (p *Pair) SetNamespaces(mapping map[string]string) {
	if p.setNamespaces(mapping) {
		p.home.namespaceNamed(anyPolicy) // they say how namespaces are called at the peer
	}
}

func (p *Pair) setNamespaces(mapping map[string]string) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for local, s := range p.spaces {
		if mapping[local] != s.remote {
			s.stop()
			delete(p.spaces, local)
			changed = true
		}
	}
	for local, remote := range mapping {
		if p.spaces[local] == nil {
			s := newSpace(p, local, remote)
			p.spaces[local] = s
			changed = true
			if p.ctx != nil {
				p.start(s)
			}
		}
	}
	return changed
}

// start runs the caches of a space. mu is held and ctx is set.
func (p *Pair) start(s *space) {
	ctx, cancel := context.WithCancel(p.ctx)
	s.stop = cancel
	p.wg.Go(func() { s.twins.Run(ctx) })
	synced := []<-chan struct{}{s.twins.Synced()}
	for _, copies := range s.copies {
		p.wg.Go(func() { copies.Run(ctx) })
		synced = append(synced, copies.Synced())
	}
	p.wg.Go(func() { s.watchEvents(ctx) }) // nothing waits for it
	p.wg.Go(func() {
		for _, synced := range synced {
			select {
			case <-synced:
			case <-ctx.Done():
				return
			}
		}
		s.ready.Store(true)
		p.enqueueNamespace(s.local)
	})
}

// SetLost says whether the peer is lost (true after the node's hysteresis) or answers, and when it answered last. When it
// answers again, everything that waited is looked at at once.
func (p *Pair) SetLost(lost bool, since time.Time) {
	p.since.Store(&since)
	if p.lost.Swap(lost) == lost {
		return
	}
	for _, pod := range p.local.List() {
		k := p.podKey(pod.Namespace, pod.Name)
		p.home.queue.Forget(k)
		p.home.queue.Add(k)
		p.enqueueReferences(pod)
	}
	for _, s := range p.readySpaces() {
		s.enqueueAll()
	}
}

// SetAddresses says as what the peer's addresses are seen here; what the table does not map is not shown. Nil: as they
// are. Statuses and NetworkPolicies that show another address are written again.
func (p *Pair) SetAddresses(seen *address.Table) {
	if p.seen.Swap(seen).Equal(seen) {
		return
	}
	for _, pod := range p.local.List() {
		p.home.queue.Add(p.podKey(pod.Namespace, pod.Name))
	}
	for _, s := range p.readySpaces() {
		s.enqueueFollowers(kindNetworkPolicy)
	}
}

// SetOwnAddresses says as what addresses of this cluster are seen by the peer; what the table does not map is not shown
// there. Nil: as they are. EndpointSlices and NetworkPolicies at the peer that show another address are written again.
func (p *Pair) SetOwnAddresses(own *address.Table) {
	if p.own.Swap(own).Equal(own) {
		return
	}
	for _, s := range p.readySpaces() {
		s.enqueueFollowers(kindEndpointSlice)
		s.enqueueFollowers(kindNetworkPolicy)
	}
}

// SetHomeAPI says where twins reach this cluster's API server; the zero value when they do not. Twins that are there already
// keep what they were made with.
func (p *Pair) SetHomeAPI(at netip.AddrPort) {
	if before, _ := p.api.Swap(at).(netip.AddrPort); before == at {
		return
	}
	for _, s := range p.readySpaces() {
		p.enqueueNamespace(s.local)
	}
}

// SetDNS says which nameservers of the peer answer under the names of home, and the domain of the peer's Services. Without
// nameservers twins ask the peer's own DNS. Twins that are there already keep what they were made with: the API lets nobody
// change it.
func (p *Pair) SetDNS(nameservers []netip.Addr, domain string) {
	before := p.dns.Swap(&translate.DNS{Nameservers: nameservers, Domain: domain})
	if before != nil && slices.Equal(before.Nameservers, nameservers) {
		return
	}
	for _, s := range p.readySpaces() {
		s.enqueueFollowers(kindNetworkPolicy) // who may ask for names may ask them
	}
}

// Wanted lists, sorted, the local namespaces that need a tenant namespace at the peer: those that allow offloading, and
// those that still have pods here or anything there. Nil while the caches are not complete.
func (p *Pair) Wanted() []string {
	if !p.home.synced() || !p.local.HasSynced() {
		return nil
	}
	wanted := map[string]bool{}
	for _, ns := range p.home.namespaces.List() {
		if ns.DeletionTimestamp == nil && p.home.allowed(ns) {
			wanted[ns.Name] = true
		}
	}
	for _, pod := range p.local.List() {
		wanted[pod.Namespace] = true
	}
	for _, pv := range p.home.volumes.of(p.cfg.Peer) {
		if namespace := claimOf(pv).Namespace; namespace != "" {
			wanted[namespace] = true // what is in it would be lost with it
		}
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	for local, s := range p.spaces {
		if !s.ready.Load() || s.twins.Len() > 0 {
			wanted[local] = true
		}
	}
	return append([]string{}, slices.Sorted(maps.Keys(wanted))...)
}

// Pods lists the local pods bound to the node, shared: do not change them. The second result is false while the cache
// is not complete.
func (p *Pair) Pods() ([]*corev1.Pod, bool) { return p.local.List(), p.local.HasSynced() }

// Pod gives one of them; false when there is none of that name. Shared: do not change it.
func (p *Pair) Pod(namespace, name string) (*corev1.Pod, bool) { return p.local.Get(namespace, name) }

// RemoteNamespace is the tenant namespace of a local one, where the twins of its pods are; false while there is none.
func (p *Pair) RemoteNamespace(local string) (remote string, ok bool) {
	if s := p.space(local); s != nil {
		return s.remote, true
	}
	return "", false
}

// Absent says that a pod has no twin at the peer: a pod of its name there is that of an earlier one, or somebody else's. False while
// the peer's pods are not known.
func (p *Pair) Absent(pod *corev1.Pod) bool {
	s := p.space(pod.Namespace)
	if s == nil || !s.twins.HasSynced() {
		return false
	}
	twin, ok := s.twins.Get(s.remote, pod.Name)
	return !ok || originUID(twin) != pod.UID
}

// Twins is how many twins there are at the peer, as far as its tenant namespaces are known and synced.
func (p *Pair) Twins() int {
	n := 0
	for _, s := range p.readySpaces() {
		n += s.twins.Len()
	}
	return n
}

func (p *Pair) noteWanted() {
	if p.cfg.WantedChanged != nil {
		p.cfg.WantedChanged()
	}
}

func (p *Pair) space(namespace string) *space {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.spaces[namespace]
}

func (p *Pair) readySpaces() []*space {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var out []*space
	for _, s := range p.spaces {
		if s.ready.Load() {
			out = append(out, s)
		}
	}
	return out
}

// users are the local pods on the node that refer to an object. Nothing says which pods use a Service.
func (p *Pair) users(k kind, namespace, name string) []*corev1.Pod {
	if k != kindConfigMap && k != kindSecret && k != kindClaim {
		return nil
	}
	return p.local.Index(string(k), namespace+"/"+name)
}

func (p *Pair) podKey(namespace, name string) key {
	return key{p.cfg.Node, kindPod, namespace, name}
}

// enqueueNamespace looks again at every pod of a local namespace and at everything in its tenant namespace.
func (p *Pair) enqueueNamespace(namespace string) {
	for _, pod := range p.local.Index(cache.NamespaceIndex, namespace) {
		p.home.queue.Add(p.podKey(pod.Namespace, pod.Name))
		p.enqueueReferences(pod)
	}
	if s := p.space(namespace); s != nil {
		s.enqueueAll()
	}
}

func (p *Pair) localChanged(before, now *corev1.Pod) {
	pod := firstSet(now, before)
	if before != nil && (now == nil || before.UID != now.UID) {
		p.forget(before)
		p.enqueueReferences(before)
	}
	if before == nil {
		p.enqueueReferences(now)
		p.ways.begin(now)
	}
	k := p.podKey(pod.Namespace, pod.Name)
	p.changes.noted(k, atHome)
	p.home.queue.Add(k)
	if before == nil || now == nil {
		if s := p.space(pod.Namespace); s == nil || now == nil {
			p.noteWanted()
		}
	}
}

func (p *Pair) enqueueReferences(pod *corev1.Pod) {
	eachReference(pod, func(k kind, name string) { p.home.queue.Add(key{p.cfg.Node, k, pod.Namespace, name}) })
	if len(translate.Tokens(&pod.Spec)) > 0 {
		p.home.queue.Add(key{p.cfg.Node, kindToken, pod.Namespace, translate.TokenSecretName(pod.UID)})
	}
}
