// Package live keeps a copy of the objects of one watch and tells what changed.
//
// It is a thin layer over client-go's Reflector: the store is an Indexer, and each change is handed to one function
// that usually puts a key on a queue. Compared with a SharedInformer it holds no second copy in a DeltaFIFO, needs one
// goroutine instead of three, and reconnects within two seconds after an outage (the informer factory does not expose
// the Reflector's backoff, kubernetes#136943). It knows nothing of what the objects mean.
//
//	pods := live.New(live.Options[*corev1.Pod]{
//		Name: "pods", ListWatch: lw, Changed: func(old, new *corev1.Pod) { queue.Add(key(old, new)) },
//	})
//	go pods.Run(ctx)
//	<-pods.Synced()
package live

import (
	"context"
	"fmt"
	"reflect"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
)

// Object is a pointer to an API type, for example *corev1.Pod.
type Object interface {
	comparable
	metav1.Object
	runtime.Object
}

// Options says what a Cache watches.
type Options[T Object] struct {
	// Name is used in log lines, for example "twins in shop-1f2e".
	Name string
	// ListWatch reaches the objects. Wrap fakes with cache.ToListWatcherWithWatchListSemantics.
	ListWatch cache.ListerWatcher
	// Trim drops, in place, what nobody will read, before the object is stored. It may be called twice on an object.
	// Default: DropManagedFields.
	Trim func(T)
	// Indexers are those of cache.Indexer. May be nil.
	Indexers cache.Indexers
	// Changed is called after each change with what was stored before and what is now; the zero value stands for
	// absent. Calls come in order from one goroutine and must not block. The objects must not be changed.
	Changed func(before, now T)
}

// Cache is a copy of the objects of one watch. Objects it returns are shared: copy before changing them.
// Safe for concurrent use.
type Cache[T Object] struct {
	opts    Options[T]
	indexer cache.Indexer
	synced  chan struct{}
}

// New returns a Cache that is empty until Run.
func New[T Object](opts Options[T]) *Cache[T] {
	if opts.Indexers == nil {
		opts.Indexers = cache.Indexers{}
	}
	if opts.Trim == nil {
		opts.Trim = DropManagedFields[T]
	}
	return &Cache[T]{
		opts:    opts,
		indexer: cache.NewIndexer(cache.MetaNamespaceKeyFunc, opts.Indexers),
		synced:  make(chan struct{}),
	}
}

// DropManagedFields forgets who wrote which field: about half of an object's memory.
func DropManagedFields[T Object](o T) { o.SetManagedFields(nil) }

// Run lists and watches until ctx ends. Errors of the API server are logged and retried for ever. Call it once.
func (c *Cache[T]) Run(ctx context.Context) {
	var example T
	example = reflect.New(reflect.TypeOf(example).Elem()).Interface().(T)
	cache.NewReflectorWithOptions(c.opts.ListWatch, example, (*store[T])(c), cache.ReflectorOptions{
		Name:    c.opts.Name,
		Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Cap: 2 * time.Second, Steps: 20, Factor: 2, Jitter: 0.5},
	}).RunWithContext(ctx)
}

// Synced is closed once the first complete list is stored and has been handed to Changed.
func (c *Cache[T]) Synced() <-chan struct{} { return c.synced }

// HasSynced says whether Synced is closed.
func (c *Cache[T]) HasSynced() bool {
	select {
	case <-c.synced:
		return true
	default:
		return false
	}
}

// Get returns the object, or false. The namespace is empty for cluster-scoped objects.
func (c *Cache[T]) Get(namespace, name string) (T, bool) {
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	return c.byKey(key)
}

// List returns all objects in no order.
func (c *Cache[T]) List() []T { return typed[T](c.indexer.List()) }

// Index returns the objects that the named indexer filed under value. It panics when there is no such indexer.
func (c *Cache[T]) Index(indexer, value string) []T {
	objs, err := c.indexer.ByIndex(indexer, value)
	if err != nil {
		panic(fmt.Sprintf("live cache %s: %v", c.opts.Name, err)) // the name of an indexer is fixed in the program
	}
	return typed[T](objs)
}

// Len is the number of objects.
func (c *Cache[T]) Len() int { return len(c.indexer.ListKeys()) }

func (c *Cache[T]) byKey(key string) (T, bool) {
	var none T
	obj, ok, err := c.indexer.GetByKey(key)
	if err != nil || !ok {
		return none, false
	}
	return obj.(T), true
}

func typed[T Object](objs []any) []T {
	out := make([]T, len(objs))
	for i, obj := range objs {
		out[i] = obj.(T)
	}
	return out
}

// store is the side of a Cache that the Reflector writes to, from one goroutine.
type store[T Object] Cache[T]

var _ cache.TransformingStore = (*store[*metav1.PartialObjectMetadata])(nil)

// Transformer makes the Reflector trim the objects of a streaming list too.
func (s *store[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		if o, ok := obj.(T); ok {
			s.trim(o)
		}
		return obj, nil
	}
}

func (s *store[T]) Add(obj any) error    { return s.put(obj) }
func (s *store[T]) Update(obj any) error { return s.put(obj) }
func (s *store[T]) Resync() error        { return nil }

func (s *store[T]) Delete(obj any) error {
	o, ok := obj.(T)
	if !ok {
		return fmt.Errorf("delete from cache %s: unexpected %T", s.opts.Name, obj)
	}
	var none T
	if err := s.indexer.Delete(o); err != nil {
		return err
	}
	s.changed(o, none)
	return nil
}

// Replace takes the complete list and tells the differences only.
func (s *store[T]) Replace(objs []any, _ string) error {
	c := (*Cache[T])(s)
	before := make(map[string]T, c.Len())
	for _, o := range c.List() {
		before[cache.MetaObjectToName(o).String()] = o
	}
	now := make([]T, 0, len(objs))
	for _, obj := range objs {
		o, ok := obj.(T)
		if !ok {
			return fmt.Errorf("list into cache %s: unexpected %T", s.opts.Name, obj)
		}
		s.trim(o)
		now = append(now, o)
	}
	if err := s.indexer.Replace(objs, ""); err != nil {
		return err
	}
	var none T
	for _, o := range now {
		key := cache.MetaObjectToName(o).String()
		if old, ok := before[key]; !ok {
			s.changed(none, o)
		} else if old.GetResourceVersion() != o.GetResourceVersion() {
			s.changed(old, o)
		}
		delete(before, key)
	}
	for _, old := range before {
		s.changed(old, none)
	}
	if !c.HasSynced() {
		close(s.synced)
	}
	return nil
}

func (s *store[T]) put(obj any) error {
	o, ok := obj.(T)
	if !ok {
		return fmt.Errorf("put into cache %s: unexpected %T", s.opts.Name, obj)
	}
	s.trim(o)
	old, _ := (*Cache[T])(s).byKey(cache.MetaObjectToName(o).String())
	if err := s.indexer.Add(o); err != nil {
		return err
	}
	s.changed(old, o)
	return nil
}

func (s *store[T]) trim(o T) {
	s.opts.Trim(o)
}

func (s *store[T]) changed(before, now T) {
	if s.opts.Changed != nil {
		s.opts.Changed(before, now)
	}
}
