package live

import (
	"context"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

const (
	// denials is how often the right to list must be denied in a row before it is believed: one that was just granted takes a moment.
	denials = 8
	// denialLasts is how long a denial that was believed is not looked at again.
	denialLasts = time.Minute
)

// IfAllowed watches what lw reaches, and nothing while the API server denies the right to it: a Cache then counts as complete and is
// empty, which must mean nothing to those who read it but that they cannot know. It is for objects that one can do without. A right
// that is granted later is seen within a minute; one that is taken away later is an error like any other.
func IfAllowed(lw cache.ListerWatcher) cache.ListerWatcher {
	return &ifAllowed{ListerWatcher: lw, inner: cache.ToListerWatcherWithContext(lw)}
}

type ifAllowed struct {
	cache.ListerWatcher
	inner  cache.ListerWatcherWithContext
	denied atomic.Int32 // in a row
	known  atomic.Bool  // was listed once
}

var _ cache.ListerWatcherWithContext = (*ifAllowed)(nil) // what the Reflector uses

// IsWatchListSemanticsUnSupported says what lw says; fakes cannot stream a list.
func (l *ifAllowed) IsWatchListSemanticsUnSupported() bool {
	lw, ok := l.ListerWatcher.(interface{ IsWatchListSemanticsUnSupported() bool })
	return ok && lw.IsWatchListSemanticsUnSupported()
}

// ListWithContext lists, or gives an empty list once it has been denied often enough and was never granted.
func (l *ifAllowed) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	list, err := l.inner.ListWithContext(ctx, o)
	switch {
	case err == nil:
		l.denied.Store(0)
		l.known.Store(true)
	case apierrors.IsForbidden(err) && !l.known.Load() && l.denied.Add(1) >= denials:
		return &metav1.List{}, nil
	}
	return list, err
}

// WatchWithContext watches; while the right is denied it does nothing for a while, and fails.
func (l *ifAllowed) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	streamed := o.SendInitialEvents != nil && *o.SendInitialEvents
	if l.denied.Load() >= denials && !streamed {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(denialLasts):
			return nil, apierrors.NewResourceExpired("list again: the right may have been granted")
		}
	}
	return l.inner.WatchWithContext(ctx, o)
}
