package reflector

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-dev/spillway/internal/metrics"
)

var (
	reflected = metrics.NewHistogram(metrics.Spec{
		Name: "spillway_reflection_duration_seconds",
		Help: "From when a change was seen until the other cluster answered the write that follows from it. Direction to_peer: a local change " +
			"until the twin is written; to_home: a remote one until the local status is.",
		In: metrics.Controller, Labels: []string{"peer", "direction", "kind"},
	})
	podReady = metrics.NewHistogram(metrics.Spec{
		Name: "spillway_pod_ready_duration_seconds",
		Help: "From when a pod was bound to a virtual node until its status at home said Ready for the first time.",
		In:   metrics.Controller, Labels: []string{"peer"}, Buckets: []float64{.25, .5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600},
	})
	podSteps = metrics.NewCounter(metrics.Spec{
		Name: "spillway_pod_steps_total",
		Help: "Steps of the pod loop: none, create, patch, delete_twin, set_status, delete_local, hold. Result done, failed (tried again), " +
			"refused by the provider, or put_off: not tried, because the peer is lost or has just refused it.",
		In: metrics.Controller, Labels: []string{"peer", "step", "result"},
	})
	objectSteps = metrics.NewCounter(metrics.Spec{
		Name: "spillway_object_steps_total",
		Help: "Steps for objects that follow pods: none, create, patch, delete_twin, by kind. Result done, failed or refused.",
		In:   metrics.Controller, Labels: []string{"peer", "kind", "step", "result"},
	})
)

// How a step went.
const (
	resultDone    = "done"
	resultFailed  = "failed"
	resultRefused = "refused"
	resultPutOff  = "put_off"
)

// measures are those of one pair, looked up once: the pod loop counts without a search. The maps are never changed.
type measures struct {
	peer   string
	steps  map[stepKind]*stepCounts
	toPeer map[kind]prometheus.Observer
	toHome prometheus.Observer // of pods
	ready  prometheus.Observer
}

// stepCounts count one step by how it went.
type stepCounts struct{ done, failed, refused, putOff prometheus.Counter }

func newMeasures(peer string) *measures {
	m := &measures{
		peer: peer, steps: map[stepKind]*stepCounts{}, toPeer: map[kind]prometheus.Observer{},
		toHome: reflected.WithLabelValues(peer, "to_home", string(kindPod)), ready: podReady.WithLabelValues(peer),
	}
	for _, s := range []stepKind{stepNone, stepCreate, stepPatch, stepDeleteTwin, stepSetStatus, stepDeleteLocal, stepHold} {
		of := podSteps.MustCurryWith(prometheus.Labels{"peer": peer, "step": stepLabel(s)})
		m.steps[s] = &stepCounts{of.WithLabelValues(resultDone), of.WithLabelValues(resultFailed), of.WithLabelValues(resultRefused), of.WithLabelValues(resultPutOff)}
	}
	for _, k := range []kind{kindPod, kindConfigMap, kindSecret, kindService, kindEndpointSlice, kindNetworkPolicy, kindIngress, kindClaim} {
		m.toPeer[k] = reflected.WithLabelValues(peer, "to_peer", string(k))
	}
	return m
}

// PeerGone ends what is measured of a peer, because it is no peer any more.
func PeerGone(peer string) {
	of := prometheus.Labels{"peer": peer}
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{reflected, podReady, podSteps, objectSteps} {
		v.DeletePartialMatch(of)
	}
}

func stepLabel(s stepKind) string { return strings.ReplaceAll(string(s), " ", "_") }

// stepped counts a step for a pod that was tried, and how long the change took that it follows from.
func (p *Pair) stepped(k key, todo step, err error) {
	counts := p.measures.steps[todo.kind]
	if err != nil {
		if _, refused := refusalReason(err); refused {
			counts.refused.Inc()
		} else {
			counts.failed.Inc()
		}
		return
	}
	counts.done.Inc()
	switch todo.kind {
	case stepCreate, stepPatch, stepDeleteTwin:
		p.changes.answered(k, atHome, p.measures.toPeer[kindPod])
	case stepSetStatus, stepDeleteLocal:
		p.changes.answered(k, atPeer, p.measures.toHome)
	}
}

// steppedObject does the same for an object that follows pods.
func (p *Pair) steppedObject(k key, todo stepKind, err error) {
	result := resultDone
	if err != nil {
		result = resultFailed
		if _, refused := refusalReason(err); refused {
			result = resultRefused
		}
	}
	objectSteps.WithLabelValues(p.measures.peer, string(k.kind), stepLabel(todo), result).Inc()
	switch {
	case err != nil:
	case todo == stepNone:
		p.changes.settled(k)
	case p.measures.toPeer[k.kind] != nil:
		p.changes.answered(k, atHome, p.measures.toPeer[k.kind])
	}
}

// side of a pair.
type side int

const (
	atHome side = iota
	atPeer
	sides
)

// changes are those that were seen and not answered by a write yet: the first of each object and side. An object that needs no write
// drops out with its next step.
type changes struct {
	mu   sync.Mutex
	seen map[key][sides]time.Time // guarded by mu; zero: none
}

func newChanges() *changes { return &changes{seen: map[key][sides]time.Time{}} }

// noted keeps that an object changed.
func (c *changes) noted(k key, at side) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.seen[k]
	if seen[at].IsZero() {
		seen[at] = now
		c.seen[k] = seen
	}
}

// answered observes how long the change of one side took, where one was seen.
func (c *changes) answered(k key, at side, took prometheus.Observer) {
	c.mu.Lock()
	seen := c.seen[k]
	since := seen[at]
	if !since.IsZero() {
		seen[at] = time.Time{}
		if seen == [sides]time.Time{} {
			delete(c.seen, k)
		} else {
			c.seen[k] = seen
		}
	}
	c.mu.Unlock()
	if !since.IsZero() {
		took.Observe(time.Since(since).Seconds())
	}
}

// settled forgets changes that nothing follows from.
func (c *changes) settled(k key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, k)
}
