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
	// absences and absenceLasts are the same of kinds that the API server does not serve: looking is cheap, and it serves a new kind soon.
	absences     = 4
	absenceLasts = 5 * time.Second
)

// IfAllowed watches what lw reaches, and nothing while the API server denies the right to it: a Cache then counts as complete and is
// empty, which must mean nothing to those who read it but that they cannot know. It is for objects that one can do without. A right
// that is granted later is seen within a minute; one that is taken away later is an error like any other.
func IfAllowed(lw cache.ListerWatcher) cache.ListerWatcher {
	return &unless{ListerWatcher: lw, inner: cache.ToListerWatcherWithContext(lw), refused: apierrors.IsForbidden, times: denials, lasts: denialLasts}
}

// IfServed is IfAllowed for a kind that the API server may not serve, for example since its CustomResourceDefinition is of an older
// installation. One that is served later is seen within seconds.
func IfServed(lw cache.ListerWatcher) cache.ListerWatcher {
	return &unless{ListerWatcher: lw, inner: cache.ToListerWatcherWithContext(lw), refused: apierrors.IsNotFound, times: absences, lasts: absenceLasts}
}

// unless is a ListerWatcher of nothing while the API server refuses.
type unless struct {
	cache.ListerWatcher
	inner   cache.ListerWatcherWithContext
	refused func(error) bool
	times   int32 // that a refusal must be said before it is believed
	lasts   time.Duration
	count   atomic.Int32 // of refusals in a row
	known   atomic.Bool  // was listed once
}

var _ cache.ListerWatcherWithContext = (*unless)(nil) // what the Reflector uses

// IsWatchListSemanticsUnSupported says what lw says; fakes cannot stream a list.
func (l *unless) IsWatchListSemanticsUnSupported() bool {
	lw, ok := l.ListerWatcher.(interface{ IsWatchListSemanticsUnSupported() bool })
	return ok && lw.IsWatchListSemanticsUnSupported()
}

// ListWithContext lists, or gives an empty list once it has been refused often enough and never was not.
func (l *unless) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	list, err := l.inner.ListWithContext(ctx, o)
	switch {
	case err == nil:
		l.count.Store(0)
		l.known.Store(true)
	case l.refused(err) && !l.known.Load() && l.count.Add(1) >= l.times:
		return &metav1.List{}, nil
	}
	return list, err
}

// WatchWithContext watches; while a refusal is believed it does nothing for a while, and fails.
func (l *unless) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	streamed := o.SendInitialEvents != nil && *o.SendInitialEvents
	if l.count.Load() >= l.times && !streamed {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(l.lasts):
			return nil, apierrors.NewResourceExpired("list again: it may be there by now")
		}
	}
	return l.inner.WatchWithContext(ctx, o)
}
