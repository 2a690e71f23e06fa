package live

import (
	"context"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
)

// streamRetryMax is the longest pause between tries of a stream that the API server does not serve. Nobody waits for a
// stream, so it is longer than that of a Cache.
const streamRetryMax = time.Minute

// Stream hands every object of a watch to seen and keeps none of them: first those that are there, then each that comes or
// changes. After a watch that broke they may all come again. seen gets the object for itself, is called from one goroutine
// and must not block. Stream returns when ctx ends; errors of the API server are logged and retried for ever.
func Stream[T Object](ctx context.Context, name string, lw cache.ListerWatcher, seen func(T)) {
	var example T
	example = reflect.New(reflect.TypeOf(example).Elem()).Interface().(T)
	cache.NewReflectorWithOptions(lw, example, sink[T](seen), cache.ReflectorOptions{
		Name:    name,
		Backoff: &wait.Backoff{Duration: 500 * time.Millisecond, Cap: streamRetryMax, Steps: 20, Factor: 2, Jitter: 0.5},
	}).RunWithContext(ctx)
}

// sink is a store that keeps nothing.
type sink[T Object] func(T)

func (s sink[T]) Add(obj any) error    { return s.Replace([]any{obj}, "") }
func (s sink[T]) Update(obj any) error { return s.Replace([]any{obj}, "") }
func (s sink[T]) Delete(any) error     { return nil }
func (s sink[T]) Resync() error        { return nil }

func (s sink[T]) Replace(objs []any, _ string) error {
	for _, obj := range objs {
		if o, ok := obj.(T); ok {
			s(o)
		}
	}
	return nil
}
