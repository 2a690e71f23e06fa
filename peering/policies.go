package peering

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

// Policies follows the OffloadPolicies and Migrations of this cluster and answers what they mean. Make it with NewPolicies, then Run
// it once. Safe for concurrent use.
type Policies struct {
	client     func(namespace string) peeringclient.Policies
	cache      *live.Cache[*v1alpha1.OffloadPolicy]
	migrations *live.Cache[*v1alpha1.Migration]

	reading sync.Mutex // held while a set is made of both caches, so that none made of older objects replaces it

	mu      sync.RWMutex
	sets    map[string]governance          // guarded by mu; by namespace; only those that steer pods
	places  map[string]place               // guarded by mu; by name of the virtual node
	changed map[*func(string)]func(string) // guarded by mu; whom to tell
}

// governance is what the policies of a namespace say, read once. Its maps are shared: they are not changed.
type governance struct {
	policy.Set
	all, none map[string]bool
}

// place is a virtual node. sure is false while the peer offers no node: it then tells no labels either, and nothing follows from
// their absence for pods that run.
type place struct {
	policy.Place
	sure bool
}

// NewPolicies returns Policies that know nothing before Run.
func NewPolicies(config *rest.Config) (*Policies, error) {
	client, err := peeringclient.NewPolicies(config)
	if err != nil {
		return nil, err
	}
	migrations, err := peeringclient.NewMigrations(config)
	if err != nil {
		return nil, err
	}
	return newPolicies(client, migrations("")), nil
}

func newPolicies(client func(namespace string) peeringclient.Policies, migrations peeringclient.Migrations) *Policies {
	p := &Policies{
		client: client, sets: map[string]governance{}, places: map[string]place{}, changed: map[*func(string)]func(string){},
	}
	all := client("")
	p.cache = live.New(live.Options[*v1alpha1.OffloadPolicy]{
		Name: "offload policies", ListWatch: live.ListWatch(all, all, nil),
		Indexers: cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc},
		Changed: func(before, now *v1alpha1.OffloadPolicy) {
			if before == nil || now == nil || before.Generation != now.Generation || before.UID != now.UID ||
				before.Annotations[v1alpha1.AnnotationRepatriate] != now.Annotations[v1alpha1.AnnotationRepatriate] {
				p.read(either(now, before).Namespace)
			}
		},
	})
	p.migrations = followMigrations(migrations, p.read)
	return p
}

// followMigrations is a cache of Migrations that tells namespaces in which one has come, gone, or sends pods another way. A cluster
// that has an older installation, without the kind or the right to see it, has none.
func followMigrations(all peeringclient.Migrations, changed func(namespace string)) *live.Cache[*v1alpha1.Migration] {
	return live.New(live.Options[*v1alpha1.Migration]{
		Name: "migrations", ListWatch: live.IfServed(live.IfAllowed(live.ListWatch(all, all, nil))),
		Indexers: cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc},
		Changed: func(before, now *v1alpha1.Migration) {
			if before == nil || now == nil || before.Generation != now.Generation || before.UID != now.UID || !policy.SameCourse(before, now) {
				changed(either(now, before).Namespace)
			}
		},
	})
}

func either[T live.Object](a, b T) T {
	var none T
	if a != none {
		return a
	}
	return b
}

// Run watches until ctx ends.
func (p *Policies) Run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { p.migrations.Run(ctx) })
	p.cache.Run(ctx)
	both.Wait()
}

// Synced says whether all policies and Migrations are known.
func (p *Policies) Synced() bool { return p.cache.HasSynced() && p.migrations.HasSynced() }

// Migrations returns all there are, in no order, those that govern nothing too. Shared: do not change them.
func (p *Policies) Migrations() []*v1alpha1.Migration { return p.migrations.List() }

// Notify has changed called, with the name of the namespace, when its policies have changed, or where its Migrations send pods, until
// the returned function is called. It must not block.
func (p *Policies) Notify(changed func(namespace string)) (stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := &changed
	p.changed[id] = changed
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.changed, id)
	}
}

// read makes the set of a namespace anew.
func (p *Policies) read(namespace string) {
	p.reading.Lock()
	g := governance{Set: policy.NewSet(p.cache.Index(cache.NamespaceIndex, namespace), p.migrations.Index(cache.NamespaceIndex, namespace))}
	g.all, g.none = reach(g.Reflect())
	p.mu.Lock()
	if g.Empty() {
		delete(p.sets, namespace)
	} else {
		p.sets[namespace] = g
	}
	p.mu.Unlock()
	p.reading.Unlock()
	p.tell(namespace)
}

// tell tells everybody that the policies of namespaces mean something else now.
func (p *Policies) tell(namespaces ...string) {
	p.mu.RLock()
	changed := slices.Collect(maps.Values(p.changed))
	p.mu.RUnlock()
	for _, namespace := range namespaces {
		for _, tell := range changed {
			tell(namespace)
		}
	}
}

// Set returns the policies and Migrations of a namespace.
func (p *Policies) Set(namespace string) policy.Set {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.sets[namespace].Set
}

// Governed returns the sets of all namespaces in which pods are steered, by a policy or a Migration, or will be once it begins, by
// namespace.
func (p *Policies) Governed() map[string]policy.Set {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := make(map[string]policy.Set, len(p.sets))
	for namespace, g := range p.sets {
		out[namespace] = g.Set
	}
	return out
}

// setPlace says what the virtual node of a peer is, to those who ask where pods may be.
func (p *Policies) setPlace(n Node, sure bool) {
	labels := map[string]string{corev1.LabelHostname: n.NodeName, corev1.LabelOSStable: "linux"}
	maps.Copy(labels, n.Labels)
	labels[v1alpha1.LabelPeer] = n.Peer
	p.mu.Lock()
	before, known := p.places[n.NodeName]
	p.places[n.NodeName] = place{policy.Place{Peer: n.Peer, Labels: labels}, sure}
	governed := slices.Collect(maps.Keys(p.sets))
	p.mu.Unlock()
	if !known || !maps.Equal(before.Labels, labels) {
		p.tell(governed...)
	}
}

// dropPlace forgets a virtual node that is gone.
func (p *Policies) dropPlace(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.places, node)
}

// judge says what the policies say about a pod on a virtual node. sure is false while too little is known of the node to hold its
// labels against a pod that runs.
func (p *Policies) judge(namespace *corev1.Namespace, pod *corev1.Pod, node string) (verdict policy.Verdict, sure bool) {
	p.mu.RLock()
	g, at := p.sets[namespace.Name], p.places[node]
	p.mu.RUnlock()
	return g.Judge(namespace, pod, at.Place), at.sure
}

// NamespaceRules says what of a namespace may leave this cluster. Kinds are in lower case. Shared: do not change its maps.
type NamespaceRules struct {
	Refusal   string
	All, None map[string]bool
}

// Namespace says what of a namespace may leave this cluster.
func (p *Policies) Namespace(ns *corev1.Namespace) NamespaceRules {
	p.mu.RLock()
	g := p.sets[ns.Name]
	p.mu.RUnlock()
	return NamespaceRules{Refusal: g.Closed(ns), All: g.all, None: g.none}
}

// reach names the kinds of which everything, and those of which nothing follows.
func reach(r v1alpha1.Reflect) (all, none map[string]bool) {
	all, none = map[string]bool{}, map[string]bool{}
	for kind, what := range map[string]v1alpha1.ReflectWhat{"configmap": r.ConfigMaps, "secret": r.Secrets} {
		all[kind] = what == v1alpha1.ReflectAll
	}
	for kind, what := range map[string]v1alpha1.ReflectWhat{
		"service": r.Services, "endpointslice": r.Services, "ingress": r.Ingresses, "networkpolicy": r.NetworkPolicies,
	} {
		none[kind] = what == v1alpha1.ReflectNone
	}
	return all, none
}

// PodRules says whether a pod may run on a virtual node, and what follows from its being there. What it points at is shared: do
// not change it.
type PodRules struct {
	Refusal          string
	NodeSelector     map[string]string
	Tolerations      []corev1.Toleration
	RuntimeClassName *string
	RecreateAfter    time.Duration
}

// Pod says whether a pod of a namespace may run on a virtual node, and what follows from its being there.
func (p *Policies) Pod(ns *corev1.Namespace, pod *corev1.Pod, node string) PodRules {
	v, _ := p.judge(ns, pod, node) // the scheduler went by the labels that the node has
	rules := PodRules{Refusal: v.Refusal, RecreateAfter: v.RecreateAfter}
	if v.Patch != nil {
		rules.NodeSelector, rules.Tolerations = v.Patch.NodeSelector, v.Patch.Tolerations
		rules.RuntimeClassName = v.Patch.RuntimeClassName
	}
	return rules
}

// StorageClass is the peer's class for claims of a namespace whose volumes are made at a virtual node; empty when no policy says.
func (p *Policies) StorageClass(namespace, node string) string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.sets[namespace].StorageClass(p.places[node].Place)
}

// wishes says how the namespaces that a peer is asked for want to be called there.
func (p *Policies) wishes(namespaces []string) map[string]string {
	out := make(map[string]string, len(namespaces))
	for _, name := range namespaces {
		out[name] = wish(p.Set(name).Remote())
	}
	return out
}

// chosen separates, in a wish, the naming from the name.
const chosen = string(v1alpha1.RemoteNamingChosen) + "/"

// wish is how a namespace's naming is told to the provider; empty: as the provider likes.
func wish(remote *v1alpha1.RemoteNamespace) string {
	switch {
	case remote == nil:
		return ""
	case remote.Naming == v1alpha1.RemoteNamingChosen:
		return chosen + remote.Name
	}
	return string(remote.Naming)
}

// wishedName is the name that a consumer wishes for a namespace here; empty when it is to have a suffix.
func wishedName(local, wish string) string {
	if name, ok := strings.CutPrefix(wish, chosen); ok {
		return name
	}
	if wish == string(v1alpha1.RemoteNamingSuffixed) {
		return ""
	}
	return local
}
