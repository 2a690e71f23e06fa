package placer

import (
	"context"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1/client"
	"github.com/spillway-dev/spillway/provider/placement"
)

const (
	// gatherFor is how long changes are gathered before it is decided again: a Deployment that is scaled up is one decision.
	gatherFor = 200 * time.Millisecond
	// restFor is how many times as long as a pass takes nothing is decided after it, so that a large cluster costs a fifth of a core.
	restFor = 4
	// seenWithin is how long a write may take to be seen in the caches.
	seenWithin = 5 * time.Second
	// refusedRetry and failedRetry are how long a pod is left alone that a PodDisruptionBudget holds, or that could not be written.
	refusedRetry = 2 * time.Second
	failedRetry  = 30 * time.Second
)

// bursts lets the pods of policies with when: Burst overflow and come home. All it does follows from the objects; what it remembers
// (for how long there has been room, what it has just written) it can lose.
type bursts struct {
	cfg    Config
	caches caches
	mover  Mover
	decide func(placement.Input) placement.Outcome
	next   func(placement.Workload, placement.Wish, time.Time) (moves []placement.Move, done bool)
	// sweep ends the pods that were taken from their controllers and have served long enough. It says whether a PodDisruptionBudget
	// does not allow it now.
	sweep func(ctx context.Context) (refused bool, err error)
	bell  *bell // rung when something has changed

	history  placement.History
	requests map[types.UID]counted
	wrote    map[types.UID]write     // what the caches have not shown yet
	later    map[types.UID]time.Time // when to try again
	said     map[types.UID]string    // the last message about a pod that waits
	scaling  refusals
	statuses *statuses
}

// write is a pod as it was before a write of ours.
type write struct {
	resourceVersion string
	at              time.Time
}

func newBursts(cfg Config, policies func(namespace string) client.Policies) *bursts {
	return &bursts{
		cfg: cfg, decide: placement.Decide, next: placement.Next, bell: newBell(),
		requests: map[types.UID]counted{}, wrote: map[types.UID]write{}, later: map[types.UID]time.Time{}, said: map[types.UID]string{},
		statuses: newStatuses(policies),
	}
}

// run decides, whenever something has changed, until ctx ends.
func (b *bursts) run(ctx context.Context) {
	defer b.cfg.Policies.Notify(func(string) { b.bell.ring() })()
	b.bell.ring()
	var next time.Time
	rest := gatherFor
	for b.wait(ctx, next) && b.pause(ctx, rest) {
		select {
		case <-b.bell.rung: // is in the caches
		default:
		}
		began := b.cfg.Clock.Now()
		next = b.pass(ctx)
		passed("burst", b.cfg.Clock.Since(began))
		rest = max(gatherFor, restFor*b.cfg.Clock.Since(began))
	}
}

// wait returns when something has changed, or at a time unless it is zero; false when ctx has ended.
func (b *bursts) wait(ctx context.Context, until time.Time) bool {
	var due <-chan time.Time
	if !until.IsZero() {
		timer := b.cfg.Clock.NewTimer(max(0, until.Sub(b.cfg.Clock.Now())))
		defer timer.Stop()
		due = timer.C()
	}
	select {
	case <-ctx.Done():
		return false
	case <-b.bell.rung:
	case <-due:
	}
	return true
}

func (b *bursts) pause(ctx context.Context, d time.Duration) bool {
	timer := b.cfg.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

// pass decides once and applies it. It returns when to decide again although nothing has changed; zero: only then.
func (b *bursts) pass(ctx context.Context) (again time.Time) {
	now := b.cfg.Clock.Now()
	if !b.cfg.Policies.Synced() || !b.caches.Synced() {
		return now.Add(lookEvery)
	}
	pods := b.caches.Pods()
	b.forget(pods, now)
	if len(b.wrote) > 0 {
		return now.Add(lookEvery) // what has just been decided would be decided again
	}
	w := newWakeup(now)
	b.endMoved(ctx, w)
	g := b.gather(ctx, pods, w)
	out := b.decide(g.input)
	b.history = out.History
	w.at(out.Next)
	b.apply(ctx, g, out.Decisions, w)
	b.report(ctx, g, out.Policies, w)
	return w.next
}

// forget drops what was remembered of writes that the caches show by now, and of pods that are gone.
func (b *bursts) forget(pods []*corev1.Pod, now time.Time) {
	there := make(map[types.UID]*corev1.Pod, len(pods))
	for _, pod := range pods {
		there[pod.UID] = pod
	}
	for uid, w := range b.wrote {
		if pod := there[uid]; pod == nil || pod.ResourceVersion != w.resourceVersion || now.Sub(w.at) >= seenWithin {
			delete(b.wrote, uid)
		}
	}
	for uid := range b.requests {
		if there[uid] == nil {
			delete(b.requests, uid)
		}
	}
	for uid, at := range b.later {
		if there[uid] == nil || !now.Before(at) {
			delete(b.later, uid)
		}
	}
	for uid := range b.said {
		if pod := there[uid]; pod == nil || pod.Spec.NodeName != "" {
			delete(b.said, uid)
		}
	}
}

// endMoved ends what has moved, before anything else moves.
func (b *bursts) endMoved(ctx context.Context, w *wakeup) {
	refused, err := b.sweep(ctx)
	if err != nil && ctx.Err() == nil {
		b.cfg.Log.Warn("pods that have moved not ended", zap.Error(err))
	}
	if refused || err != nil {
		w.in(refusedRetry)
	}
}

// report writes what policies' status says of bursting.
func (b *bursts) report(ctx context.Context, g *gathered, states []placement.State, w *wakeup) {
	now := b.cfg.Clock.Now()
	b.statuses.keep(g.policies, g.others)
	for i, p := range g.policies {
		if i >= len(states) {
			break
		}
		again, err := b.statuses.write(ctx, p, conditions(states[i], g.closed[i]), now)
		b.statusFailed(p.Namespace, p.Name, err, w)
		w.at(again)
	}
	for _, p := range g.others {
		b.statusFailed(p.Namespace, p.Name, b.statuses.clear(ctx, p), w)
	}
}

func (b *bursts) statusFailed(namespace, name string, err error, w *wakeup) {
	if err != nil {
		b.cfg.Log.Warn("status of an OffloadPolicy not written", zap.String("namespace", namespace), zap.String("name", name), zap.Error(err))
		w.in(failedRetry)
	}
}

// wakeup collects when to look again; the earliest counts.
type wakeup struct{ now, next time.Time }

func newWakeup(now time.Time) *wakeup { return &wakeup{now: now} }

// at is never in the past: whoever asks for the same moment again and again is heard a second later.
func (w *wakeup) at(t time.Time) {
	if t.IsZero() {
		return
	}
	if !t.After(w.now) {
		t = w.now.Add(lookEvery)
	}
	if w.next.IsZero() || t.Before(w.next) {
		w.next = t
	}
}

func (w *wakeup) in(d time.Duration) { w.at(w.now.Add(d)) }
