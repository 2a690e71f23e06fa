package reflector

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/internal/tracing"
)

// coarse is how exact the times in the API are: whole seconds. What was seen within it is more exact.
const coarse = 2 * time.Second

// way is that of a pod from its binding until it is Ready at home for the first time.
type way struct {
	bound   time.Time // to the virtual node
	created time.Time // the twin; zero before
	placed  time.Time // the twin was seen on a node of the peer; zero before
	ready   time.Time // the twin was seen Ready; zero before
	trace   *tracing.Way
}

// ways are those that pods are on, by the UID of the local pod. A pod that is there leaves them with its first Ready, its end, or its object.
type ways struct {
	pair   *Pair
	tracer *tracing.Tracer

	mu   sync.Mutex
	open map[types.UID]*way // guarded by mu
}

func newWays(p *Pair) *ways {
	return &ways{pair: p, tracer: tracing.Current(), open: map[types.UID]*way{}}
}

// begin is called when a local pod came.
func (w *ways) begin(local *corev1.Pod) {
	if started(local) || terminal(local) || local.DeletionTimestamp != nil {
		return
	}
	now := time.Now()
	bound := boundAt(local, now)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open[local.UID] != nil {
		return
	}
	w.open[local.UID] = &way{bound: bound, trace: w.trace(local, bound)}
}

// trace begins that of a way; nil when it is not to be traced.
func (w *ways) trace(local *corev1.Pod, bound time.Time) *tracing.Way {
	if w.tracer == nil {
		return nil
	}
	w.pair.mu.RLock()
	ctx := w.pair.ctx
	w.pair.mu.RUnlock()
	if ctx == nil {
		return nil
	}
	return w.tracer.Begin(ctx, string(local.UID), "offload pod", bound,
		tracing.Text("k8s.pod.name", local.Name), tracing.Text("k8s.namespace.name", local.Namespace),
		tracing.Text("k8s.pod.uid", string(local.UID)), tracing.Text("k8s.node.name", w.pair.cfg.Node),
		tracing.Text("spillway.peer", w.pair.cfg.Peer))
}

// boundAt is when a pod was bound: the moment it was seen unless the API says that it was well before.
func boundAt(local *corev1.Pod, now time.Time) time.Time {
	if c := condition(local, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionTrue && now.Sub(c.LastTransitionTime.Time) > coarse {
		return c.LastTransitionTime.Time
	}
	return now
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// into makes API requests with the context steps of a pod's way.
func (w *ways) into(ctx context.Context, local *corev1.Pod) context.Context {
	if w.tracer == nil || local == nil {
		return ctx
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if this := w.open[local.UID]; this != nil {
		return this.trace.Into(ctx)
	}
	return ctx
}

// made is called when the provider has taken the twin.
func (w *ways) made(local types.UID, namespace string) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if this := w.open[local]; this != nil {
		this.trace.Step("create twin", this.bound, now, tracing.Text("spillway.remote.namespace", namespace))
		this.created = now
	}
}

// sawTwin is called when a twin came or changed.
func (w *ways) sawTwin(twin *corev1.Pod) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	this := w.open[originUID(twin)]
	if this == nil {
		return
	}
	if this.placed.IsZero() && twin.Spec.NodeName != "" {
		this.placed = now
		this.trace.Step("schedule at peer", this.created, now, tracing.Text("spillway.remote.node", twin.Spec.NodeName))
	}
	if c := condition(twin, corev1.PodReady); this.ready.IsZero() && c != nil && c.Status == corev1.ConditionTrue {
		this.ready = now
		this.trace.Step("start containers", this.placed, now)
	}
}

// told is called when the status of a local pod was written as that of its twin, which may be nil.
func (w *ways) told(local, twin *corev1.Pod) {
	if twin == nil {
		return
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	this := w.open[local.UID]
	switch {
	case this == nil:
		return
	case terminal(twin):
		this.trace.Step("report", this.ready, now)
		this.trace.Note("ended", now, tracing.Text("k8s.pod.phase", string(twin.Status.Phase)))
	case this.ready.IsZero():
		return
	default:
		this.trace.Step("report", this.ready, now)
		w.pair.measures.ready.Observe(now.Sub(this.bound).Seconds())
	}
	this.trace.End(now)
	delete(w.open, local.UID)
}

// tookStep says on the way of a pod that a step was done.
func (p *Pair) tookStep(todo step, local, twin *corev1.Pod) {
	switch todo.kind {
	case stepCreate:
		p.ways.made(local.UID, todo.twin.Namespace)
	case stepSetStatus:
		p.ways.told(local, twin)
	}
}

// end is called when a local pod is gone.
func (w *ways) end(local types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if this := w.open[local]; this != nil {
		this.trace.Break(time.Now(), "the pod is gone before it was Ready")
		delete(w.open, local)
	}
}
