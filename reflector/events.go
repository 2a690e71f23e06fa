package reflector

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

// awaitTwin is how long an Event is kept whose twin is not known: the watch of Events may be ahead of that of pods. Those
// about pods that are gone, or that are not twins, end this way.
const awaitTwin = 10 * time.Second

// eventLoop takes Warnings of peers about twins home, for all pairs. It has a queue and a goroutine of its own: no step of a
// pod waits for an Event.
type eventLoop struct {
	home  *Home
	queue workqueue.TypedRateLimitingInterface[key]

	mu    sync.Mutex
	heard map[key]heardEvent     // guarded by mu; Events of peers until they are told at home
	told  map[types.UID]*toldPod // guarded by mu; by local pod, until it is gone
	since time.Time              // guarded by mu; start of the loop
}

// heardEvent is an Event of a peer that is to be told.
type heardEvent struct {
	event *corev1.Event
	at    time.Time // when it came
}

func newEventLoop(h *Home) *eventLoop {
	return &eventLoop{
		home: h, queue: newQueue("events"), heard: map[key]heardEvent{},
		told: map[types.UID]*toldPod{},
	}
}

// run tells what is heard until ctx ends.
func (l *eventLoop) run(ctx context.Context) {
	l.mu.Lock()
	l.since = time.Now()
	l.mu.Unlock()
	stop := context.AfterFunc(ctx, l.queue.ShutDown)
	defer stop()
	for l.work(ctx) {
	}
}

// watchEvents hears the Warnings about pods in the tenant namespace until ctx ends.
func (s *space) watchEvents(ctx context.Context) {
	client := s.pair.cfg.Remote
	warnings := fields.Set{"type": corev1.EventTypeWarning, "involvedObject.kind": "Pod"}.String()
	lw := live.ListWatch(client, client.CoreV1().Events(s.remote), func(o *metav1.ListOptions) { o.FieldSelector = warnings })
	live.Stream(ctx, "events in "+s.remote, lw, func(e *corev1.Event) { s.pair.home.events.hear(s, e) })
}

// hear keeps an Event, in place of what was said before by the same object, until it is told.
func (l *eventLoop) hear(s *space, e *corev1.Event) {
	e.ManagedFields, e.Labels, e.Annotations, e.Related = nil, nil, nil, nil
	k := key{s.pair.cfg.Node, kindEvent, s.local, e.Name}
	l.mu.Lock()
	l.heard[k] = heardEvent{e, time.Now()}
	l.mu.Unlock()
	l.queue.Add(k)
}

// work takes one key. It returns false when the queue is shut down.
func (l *eventLoop) work(ctx context.Context) bool {
	k, quit := l.queue.Get()
	if quit {
		return false
	}
	defer l.queue.Done(k)
	l.mu.Lock()
	h, ok := l.heard[k]
	l.mu.Unlock()
	if !ok {
		return true
	}
	again, done, err := l.tell(ctx, k, h)
	switch {
	case err != nil && !hopeless(err):
		l.home.cfg.Log.Debug("event is not told yet", zap.String("node", k.node), zap.String("namespace", k.namespace),
			zap.String("name", k.name), zap.Error(err))
		l.queue.AddRateLimited(k)
	case err == nil && !done:
		l.queue.AddAfter(k, again)
	default:
		l.queue.Forget(k)
		l.mu.Lock()
		if l.heard[k] == h {
			delete(l.heard, k)
		}
		l.mu.Unlock()
	}
	return true
}

// hopeless says that home does not take an Event, whatever is tried: its namespace is going, for example.
func hopeless(err error) bool {
	_, refused := refusalReason(err)
	return refused || apierrors.IsNotFound(err)
}

// tell does one step for what was heard, if it is about a twin that there is. It returns whether it is done with, and
// otherwise when to go on.
func (l *eventLoop) tell(ctx context.Context, k key, h heardEvent) (again time.Duration, done bool, err error) {
	p := l.home.pair(k.node)
	if p == nil {
		return 0, true, nil
	}
	s := p.space(k.namespace)
	if s == nil {
		return 0, true, nil
	}
	now := time.Now()
	local := s.localOf(h.event)
	if local == nil {
		waits := !s.ready.Load() || !p.local.HasSynced() || now.Sub(h.at) < awaitTwin
		return time.Second, !waits, nil
	}
	want := translate.Event(h.event, local, s.env())
	if want == nil {
		return 0, true, nil
	}
	todo, again := l.plan(want, now)
	if done = todo == eventNone && again == 0; todo != eventNone {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		err = l.do(ctx, want, todo, now)
	}
	if have, ok := p.local.Get(local.Namespace, local.Name); !ok || have.UID != local.UID {
		l.forget(local.UID) // gone meanwhile, and forgotten
	}
	return again, done, err
}

// localOf is the local pod of the twin that an Event is about; nil when there is none now.
func (s *space) localOf(e *corev1.Event) *corev1.Pod {
	twin, ok := s.twins.Get(s.remote, e.InvolvedObject.Name)
	if !ok || twin.UID != e.InvolvedObject.UID {
		return nil
	}
	local, ok := s.pair.local.Get(s.local, twin.Name)
	if !ok || local.UID != originUID(twin) {
		return nil
	}
	return local
}

// plan decides about an Event from what was told of its pod.
func (l *eventLoop) plan(want *corev1.Event, now time.Time) (todo eventStep, again time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pod := l.told[want.InvolvedObject.UID]
	if pod == nil {
		pod = newToldPod(now)
		l.told[want.InvolvedObject.UID] = pod
	}
	return pod.plan(want, l.since, now)
}

func (l *eventLoop) note(want *corev1.Event, told toldEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pod := l.told[want.InvolvedObject.UID]; pod != nil {
		pod.note(want.Name, told)
	}
}

// forget drops what was told of a local pod that is gone. Its Events go by themselves.
func (l *eventLoop) forget(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.told, uid)
}

// do performs one step, and notes what home has then.
func (l *eventLoop) do(ctx context.Context, want *corev1.Event, todo eventStep, now time.Time) error {
	client := l.home.cfg.Client.CoreV1().Events(want.Namespace)
	told := toldEvent{state: eventKnown}
	var have *corev1.Event
	var err error
	switch todo {
	case eventLook:
		have, err = client.Get(ctx, want.Name, metav1.GetOptions{})
	case eventCreate:
		have, err = client.Create(ctx, want, metav1.CreateOptions{FieldManager: fieldManager})
		told.wrote = now
	case eventPatch:
		var patch []byte
		if patch, err = eventPatchOf(want); err == nil {
			have, err = client.Patch(ctx, want.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
		}
		told.wrote = now
	}
	switch {
	case err == nil:
		told.count, told.last = have.Count, have.LastTimestamp.Time
	case apierrors.IsAlreadyExists(err):
		told = toldEvent{state: eventThere}
	case apierrors.IsNotFound(err) && todo != eventCreate: // Events live for an hour or so
		told = toldEvent{state: eventAbsent}
	default:
		return fmt.Errorf("%s event %s/%s: %w", todo, want.Namespace, want.Name, err)
	}
	l.note(want, told)
	return nil
}
