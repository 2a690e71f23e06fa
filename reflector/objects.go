package reflector

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

// objectLoop keeps the objects of one kind equal in all tenant namespaces. There is one per kind and Home.
type objectLoop interface {
	// run watches the kind at home until ctx ends.
	run(ctx context.Context)
	// synced says whether that watch is complete.
	synced() bool
	// missing says whether an object is at home, and has not reached the peer.
	missing(s *space, name string) bool
	// open returns the copies of the kind in a tenant namespace. They do not run yet.
	open(s *space) objectCopies
	// sync does the one next step for an object.
	sync(ctx context.Context, s *space, k key) (time.Duration, error)
	// names are those of the objects of a local namespace that follow to a peer, whatever its pods refer to.
	names(namespace string) []string
	// named are the Secrets that these objects name.
	named(namespace string) []string
	// naming says whether one of these objects names a Secret.
	naming(namespace, secret string) bool
}

// objectCopies are the objects of one kind in one tenant namespace.
type objectCopies interface {
	Run(ctx context.Context)
	Synced() <-chan struct{}
	has(name string) bool
	names() []string
}

// objectKind says how one kind follows. T is a pointer to its API type; the zero value stands for absent.
type objectKind[T live.Object] struct {
	kind kind
	// byItself: every object of an offloaded namespace follows. Otherwise those that pods on the virtual node refer to do.
	byItself bool
	// watch reaches the objects of a namespace; of all for the empty name.
	watch func(client kubernetes.Interface, namespace string, tweak func(*metav1.ListOptions)) cache.ListerWatcher
	// atHome narrows the watch at home. May be nil.
	atHome func(*metav1.ListOptions)
	// mark is a label that all twins have beside the origin: where the peer copies labels to objects of its own, these are not
	// twins. May be nil.
	mark   labels.Set
	client func(client kubernetes.Interface, namespace string) objectClient[T]
	// index adds to the indexes at home. May be nil.
	index cache.Indexers
	// noted is told what changes at home, after the queue was. It must not block. May be nil.
	noted func(before, now T)
	// ready says whether what twin rests on beside the object is known. Nil: it rests on nothing that is not.
	ready func(local T) bool
	// twin is what the peer should have; the zero value: nothing.
	twin func(local T, env translate.Env) T
	// equal says that have needs no write to be want; replace, that the API refuses such a write.
	equal, replace func(want, have T) bool
	// keep takes into want what the peer's API server has given have. May be nil.
	keep func(want, have T)
	// secrets are the names of the Secrets that go with an object that follows by itself. May be nil.
	secrets func(T) []string
	// trim drops from a copy what nobody reads. managedFields of our own must stay.
	trim func(T)
	// spare: pods can do without the kind where the peer does not let us see it, as one whose installation is older than the kind
	// does.
	spare bool
	// own are rules of this kind in the place of the loop's. May be nil.
	own *ownRules[T]
}

// ownRules are those of a kind whose objects do not go because nobody uses them: they hold data.
type ownRules[T live.Object] struct {
	// indexers of the copy at home.
	indexers cache.Indexers
	// changed is told of each change at home, and told of each at the peer.
	changed func(before, now T)
	told    func(s *space, before, now T)
	// follows says whether an object of home belongs to the peer of a pair.
	follows func(p *Pair, local T) bool
	// wanted is what the peer should have; leave: nothing is to be done. An error is shown to the user as a refusal.
	wanted func(s *space, local, have T) (want T, leave bool, err error)
	// missing says whether a pod has to wait for the object, given the copy there is at the peer.
	missing func(p *Pair, local, have T) bool
}

// objectClient is the part of a typed client that keeps a reflected object equal.
type objectClient[T any] interface {
	Get(context.Context, string, metav1.GetOptions) (T, error)
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}

// typedLoop is the objectLoop of every kind.
type typedLoop[T live.Object] struct {
	objectKind[T]
	home *Home
	here *live.Cache[T]
}

func newObjectLoop[T live.Object](h *Home, of objectKind[T]) *typedLoop[T] {
	l := &typedLoop[T]{objectKind: of, home: h}
	indexers := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
	maps.Copy(indexers, of.index)
	if of.own != nil {
		maps.Copy(indexers, of.own.indexers)
	}
	if of.secrets != nil {
		indexers[indexSecrets] = l.indexSecrets
	}
	l.here = live.New(live.Options[T]{
		Name: string(of.kind) + "s", ListWatch: of.watch(h.cfg.Client, "", of.atHome), Changed: l.changed,
		Indexers: indexers,
	})
	return l
}

func (l *typedLoop[T]) run(ctx context.Context) { l.here.Run(ctx) }

func (l *typedLoop[T]) synced() bool { return l.here.HasSynced() }

func (l *typedLoop[T]) missing(s *space, name string) bool {
	local, ok := l.here.Get(s.local, name)
	if !ok {
		return false
	}
	have, there := s.copies[l.kind].(*typedCopies[T]).Get(s.remote, name)
	if l.own != nil {
		return l.own.missing(s.pair, local, have)
	}
	return !there
}

// changed tells every pair that an object follows to.
func (l *typedLoop[T]) changed(before, now T) {
	o := firstSet(now, before)
	secrets := l.secretsOf(before, now)
	l.home.eachPair(func(p *Pair) {
		if !l.follows(p, o) {
			return
		}
		k := key{p.cfg.Node, l.kind, o.GetNamespace(), o.GetName()}
		p.changes.noted(k, atHome)
		l.home.queue.Add(k)
		for _, name := range secrets {
			l.home.queue.Add(key{p.cfg.Node, kindSecret, o.GetNamespace(), name})
		}
	})
	if l.noted != nil {
		l.noted(before, now)
	}
	if l.own != nil {
		l.own.changed(before, now)
	}
}

func (l *typedLoop[T]) follows(p *Pair, o T) bool {
	if l.own != nil {
		return l.own.follows(p, o)
	}
	namespace, name := o.GetNamespace(), o.GetName()
	all, none := l.home.reach(l.kind, namespace)
	if all || l.byItself {
		return !none && p.space(namespace) != nil
	}
	return len(p.users(l.kind, namespace, name)) > 0 || l.kind == kindSecret && p.namedByIngress(namespace, name)
}

func (l *typedLoop[T]) names(namespace string) []string {
	if all, _ := l.home.reach(l.kind, namespace); !all && !l.byItself && l.own == nil {
		return nil
	}
	var names []string
	for _, o := range l.here.Index(cache.NamespaceIndex, namespace) {
		names = append(names, o.GetName())
	}
	return names
}

// indexSecrets is the index of the objects at home by namespace/name of the Secrets that they name.
const indexSecrets = "secrets"

func (l *typedLoop[T]) indexSecrets(obj any) ([]string, error) {
	o := obj.(T)
	names := l.secrets(o)
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = o.GetNamespace() + "/" + name
	}
	return keys, nil
}

// secretsOf are the Secrets that any of the objects names, those that are absent left out.
func (l *typedLoop[T]) secretsOf(objects ...T) []string {
	var none T
	var names []string
	for _, o := range objects {
		if o != none && l.secrets != nil {
			names = append(names, l.secrets(o)...)
		}
	}
	return names
}

func (l *typedLoop[T]) named(namespace string) []string {
	if l.secrets == nil {
		return nil
	}
	return l.secretsOf(l.here.Index(cache.NamespaceIndex, namespace)...)
}

func (l *typedLoop[T]) naming(namespace, secret string) bool {
	return l.secrets != nil && len(l.here.Index(indexSecrets, namespace+"/"+secret)) > 0
}

// typedCopies are the objectCopies of every kind.
type typedCopies[T live.Object] struct {
	*live.Cache[T]
	namespace string
}

func (c *typedCopies[T]) has(name string) bool {
	_, ok := c.Get(c.namespace, name)
	return ok
}

func (c *typedCopies[T]) names() []string {
	var names []string
	for _, o := range c.List() {
		names = append(names, o.GetName())
	}
	return names
}

func (l *typedLoop[T]) open(s *space) objectCopies {
	lw := l.watch(s.pair.cfg.Remote, s.remote, s.ours(l.mark))
	if l.spare {
		lw = live.IfAllowed(lw)
	}
	return &typedCopies[T]{namespace: s.remote, Cache: live.New(live.Options[T]{
		Name: string(l.kind) + "s in " + s.remote, Trim: l.trim,
		ListWatch: lw,
		Changed: func(before, now T) {
			s.objectChanged(l.kind, firstSet(now, before))
			if l.own != nil {
				l.own.told(s, before, now)
			}
		},
	})}
}

func (l *typedLoop[T]) sync(ctx context.Context, s *space, k key) (time.Duration, error) {
	o := objectPair[T]{objectKind: l.objectKind}
	local, ok := l.here.Get(k.namespace, k.name)
	o.have, _ = s.copies[l.kind].(*typedCopies[T]).Get(s.remote, k.name)
	switch {
	case l.own != nil:
		o.local = local
		o.want, o.leave, o.err = l.own.wanted(s, local, o.have)
	case ok && l.follows(s.pair, local):
		if l.ready != nil && !l.ready(local) {
			return time.Second / 10, nil
		}
		o.local = local
		o.want = l.twin(local, s.env())
	}
	return doObject(ctx, s, k, o)
}

// missingReference names an object the pod refers to that exists at home and has not reached the peer; empty when
// there is none. One that is missing at home too does not count: the twin's kubelet then shows the usual reason.
func (p *Pair) missingReference(s *space, local *corev1.Pod) (missing string) {
	eachReference(local, func(k kind, name string) {
		if p.home.loops[k].missing(s, name) {
			missing = fmt.Sprintf("%s %s", k, name)
		}
	})
	return missing
}

// takenReference says, in words, which reference of the pod the provider does not take; empty when there is none.
func (p *Pair) takenReference(local *corev1.Pod) (words string) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if len(p.taken) == 0 {
		return ""
	}
	eachReference(local, func(k kind, name string) {
		if w := p.taken[key{p.cfg.Node, k, local.Namespace, name}]; w != "" {
			words = w
		}
	})
	return words
}

// eachReference calls do for everything that a pod refers to.
func eachReference(pod *corev1.Pod, do func(k kind, name string)) {
	configMaps, secrets := translate.References(&pod.Spec)
	for _, name := range configMaps {
		do(kindConfigMap, name)
	}
	for _, name := range secrets {
		do(kindSecret, name)
	}
	for _, name := range translate.Claims(&pod.Spec) {
		do(kindClaim, name)
	}
}
