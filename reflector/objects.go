package reflector

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	// twin is what the peer should have; the zero value: nothing.
	twin func(local T, env translate.Env) T
	// equal says that have needs no write to be want; replace, that the API refuses such a write.
	equal, replace func(want, have T) bool
	// keep takes into want what the peer's API server has given have. May be nil.
	keep func(want, have T)
	// trim drops from a copy what nobody reads. managedFields of our own must stay.
	trim func(T)
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
	if of.own != nil {
		maps.Copy(indexers, of.own.indexers)
	}
	l.here = live.New(live.Options[T]{
		Name: string(of.kind) + "s", ListWatch: of.watch(h.cfg.Client, "", of.atHome), Changed: l.changed, Indexers: indexers,
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
	l.home.eachPair(func(p *Pair) {
		if l.follows(p, o) {
			l.home.queue.Add(key{p.cfg.Node, l.kind, o.GetNamespace(), o.GetName()})
		}
	})
	if l.own != nil {
		l.own.changed(before, now)
	}
}

func (l *typedLoop[T]) follows(p *Pair, o T) bool {
	if l.own != nil {
		return l.own.follows(p, o)
	}
	if l.byItself {
		return p.space(o.GetNamespace()) != nil
	}
	return len(p.users(l.kind, o.GetNamespace(), o.GetName())) > 0
}

func (l *typedLoop[T]) names(namespace string) []string {
	if !l.byItself && l.own == nil {
		return nil
	}
	var names []string
	for _, o := range l.here.Index(cache.NamespaceIndex, namespace) {
		names = append(names, o.GetName())
	}
	return names
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
	return &typedCopies[T]{namespace: s.remote, Cache: live.New(live.Options[T]{
		Name: string(l.kind) + "s in " + s.remote, Trim: l.trim,
		ListWatch: l.watch(s.pair.cfg.Remote, s.remote, s.ours(l.mark)),
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
		o.local = local
		o.want = l.twin(local, s.env())
	}
	return doObject(ctx, s, k, o)
}

// objectPair is one object, here and at the peer. The zero value of T stands for absent.
type objectPair[T live.Object] struct {
	objectKind[T]
	local      T     // at home
	want, have T     // the wanted twin and the twin there is
	leave      bool  // nothing is to be done
	err        error // why nothing can be done
}

// planObject decides the one next step for a reflected object: none, create, patch (by update) or delete twin.
func planObject[T live.Object](o objectPair[T]) stepKind {
	var none T
	switch {
	case o.leave, o.err != nil, o.want == none && o.have == none:
		return stepNone
	case o.want == none:
		return stepDeleteTwin
	case o.have == none:
		return stepCreate
	case o.have.GetDeletionTimestamp() != nil || o.equal(o.want, o.have):
		return stepNone
	case o.replace(o.want, o.have):
		return stepDeleteTwin // made again when it is gone
	default:
		return stepPatch
	}
}

func (p *Pair) syncObject(ctx context.Context, k key) (time.Duration, error) {
	s := p.space(k.namespace)
	if s == nil || !s.ready.Load() || p.lost.Load() {
		return 0, nil // both come back through enqueueAll
	}
	return p.home.loops[k.kind].sync(ctx, s, k)
}

// doObject performs the one step of a reflected object.
func doObject[T live.Object](ctx context.Context, s *space, k key, o objectPair[T]) (time.Duration, error) {
	err := o.err
	p, client := s.pair, o.client(s.pair.cfg.Remote, s.remote)
	todo := planObject(o)
	if todo != stepCreate {
		p.forgetMade(k)
	} else if p.madeLately(k) {
		return echoWithin, nil
	}
	switch todo {
	case stepCreate:
		_, err = client.Create(ctx, o.want, metav1.CreateOptions{FieldManager: fieldManager})
		if apierrors.IsAlreadyExists(err) {
			err = errForeign // ours would be in the cache, or will be when this is tried again
		}
		if err == nil {
			p.noteMade(k)
		}
	case stepPatch:
		o.want.SetUID(o.have.GetUID())
		o.want.SetResourceVersion(o.have.GetResourceVersion())
		if o.keep != nil {
			o.keep(o.want, o.have)
		}
		_, err = client.Update(ctx, o.want, metav1.UpdateOptions{FieldManager: fieldManager})
	case stepDeleteTwin:
		err = client.Delete(ctx, k.name, metav1.DeleteOptions{
			Preconditions: metav1.NewUIDPreconditions(string(o.have.GetUID())),
		})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			err = nil
		}
	}
	if err == nil {
		p.noteTaken(k, "")
		return 0, nil
	}
	err = fmt.Errorf("%s %s %s/%s on %s: %w", todo, k.kind, k.namespace, k.name, p.cfg.Node, err)
	if reason, refused := refusalReason(err); refused && p.home.queue.NumRequeues(k) >= quickRetries {
		words := fmt.Sprintf("%s %s cannot follow to %s: %s", k.kind, k.name, p.cfg.Node, rootMessage(err))
		var none T
		if p.noteTaken(k, words) && (o.byItself || o.own != nil) && o.local != none {
			p.home.cfg.Events.Event(o.local, corev1.EventTypeWarning, reason, words)
		}
		return retryRefused, nil
	}
	return 0, err
}

// noteTaken keeps why an object cannot follow, so that its pods can say so; empty words clear it. It says whether that
// is news.
func (p *Pair) noteTaken(k key, words string) (news bool) {
	p.mu.Lock()
	before := p.taken[k]
	if words == "" {
		delete(p.taken, k)
	} else {
		p.taken[k] = words
	}
	p.mu.Unlock()
	if before == words {
		return false
	}
	for _, pod := range p.users(k.kind, k.namespace, k.name) {
		p.home.queue.Add(p.podKey(pod.Namespace, pod.Name))
	}
	return true
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
