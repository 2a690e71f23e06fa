package placement

import (
	"cmp"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// endingSlack is how long after its grace period a pod that ends counts as on its way: in a peer that does not answer it may take for
// ever, and the others have to get away from there.
const endingSlack = 15 * time.Second

// moveView is a workload, sorted by what can be done with its pods.
type moveView struct {
	Workload
	wish Wish
	now  time.Time

	arrived  []Member // owned, at the place they should be at
	leaving  []Member // owned, and may leave: the first one first
	staying  []Member // owned, elsewhere, not among Wish.Only
	unplaced []Member // owned, waiting for Spillway to say where they go
	released []Member // let go of, and not ended yet: the first one that goes first
	ending   int      // being deleted, within their time
	// anyEnding says that a pod is being deleted, however long: its name is not free yet.
	anyEnding bool
}

// lookAt sorts the members. The order in which they are given does not matter.
func lookAt(w Workload, wish Wish, now time.Time) *moveView {
	v := &moveView{Workload: w, wish: wish, now: now}
	for _, m := range w.Members {
		switch {
		case m.Status.Phase == corev1.PodSucceeded || m.Status.Phase == corev1.PodFailed:
		case m.DeletionTimestamp != nil:
			v.anyEnding = true
			if now.Before(m.DeletionTimestamp.Add(endingSlack)) {
				v.ending++
			}
		case m.Labels[v1alpha1.LabelMoving] != "":
			v.released = append(v.released, m)
		case Gated(m.Pod):
			v.unplaced = append(v.unplaced, m)
		case m.Place == wish.To:
			v.arrived = append(v.arrived, m)
		case wish.Only != nil && !slices.Contains(wish.Only, m.UID):
			v.staying = append(v.staying, m)
		default:
			v.leaving = append(v.leaving, m)
		}
	}
	slices.SortFunc(v.leaving, v.leavesBefore)
	slices.SortFunc(v.released, v.goesBefore)
	return v
}

// leavesBefore orders those that may leave: what serves nobody first, then as Wish.Only says, then the newest.
func (v *moveView) leavesBefore(a, b Member) int {
	if ra, rb := Ready(a.Pod), Ready(b.Pod); ra != rb {
		if rb {
			return -1
		}
		return 1
	}
	if v.Kind == kindStatefulSet {
		return cmp.Compare(ordinal(b.Name), ordinal(a.Name))
	}
	return cmp.Or(
		cmp.Compare(slices.Index(v.wish.Only, a.UID), slices.Index(v.wish.Only, b.UID)),
		b.CreationTimestamp.Compare(a.CreationTimestamp.Time),
		cmp.Compare(a.Name, b.Name),
	)
}

// goesBefore orders those that were let go of: what is where it should be last, since it may yet stay.
func (v *moveView) goesBefore(a, b Member) int {
	if at := a.Place == v.wish.To; at != (b.Place == v.wish.To) {
		if at {
			return 1
		}
		return -1
	}
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// owned is how many pods the controller has that are not being deleted, and how many of them are Ready.
func (v *moveView) owned() (all, ready int) {
	for _, some := range [][]Member{v.arrived, v.leaving, v.staying, v.unplaced} {
		all += len(some)
		ready += countReady(some)
	}
	return all, ready
}

// want is how many pods should be where the wish says.
func (v *moveView) want() int { return min(v.wish.Count, int(v.Replicas)) }

// need is how many more pods should leave for the place of the wish. What has yet to be made, and what has yet to be placed, goes there
// as long as it is needed there: the webhook and the loop see to it.
func (v *moveView) need() int {
	owned, _ := v.owned()
	missing := max(0, int(v.Replicas)-owned)
	return v.want() - len(v.arrived) - len(v.unplaced) - missing
}

// template is the hash of the template that the pods are of. They are of more than one while their controller replaces them, and a
// second hand would not help.
func (v *moveView) template() (hash string, one bool) {
	one = true
	for i, m := range slices.Concat(v.arrived, v.leaving, v.staying, v.unplaced) {
		h := m.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
		one = one && (i == 0 || h == hash)
		hash = h
	}
	return hash, one
}

func countReady(some []Member) int {
	n := 0
	for _, m := range some {
		if Ready(m.Pod) {
			n++
		}
	}
	return n
}

// Ready says that a pod serves: its condition Ready is True, and nobody has deleted it.
func Ready(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// Gated says that a pod waits for Spillway to say where it goes, before the scheduler sees it.
func Gated(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.GatePlacement })
}

// PlaceOf says where a pod runs or is sent to. peerOf returns the peer that a virtual node stands for; empty: a node of this cluster.
func PlaceOf(pod *corev1.Pod, peerOf func(node string) string) string {
	if pod.Spec.NodeName != "" {
		return peerOf(pod.Spec.NodeName)
	}
	if peer := pod.Spec.NodeSelector[v1alpha1.LabelPeer]; peer != "" {
		return peer
	}
	if place, ok := placeByAffinity(pod); ok {
		return place
	}
	sent := pod.Annotations[v1alpha1.AnnotationBurst]
	last := sent[strings.LastIndexByte(sent, ',')+1:]
	peer, _, _ := strings.Cut(strings.TrimSpace(last), "=")
	return peer // Home when there is no such annotation
}

// placeByAffinity is the place that a required node affinity leaves, if it is one: a single peer, or home.
func placeByAffinity(pod *corev1.Pod) (string, bool) {
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return "", false
	}
	terms := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	place, known := "", false
	for i, term := range terms { // one of them has to match
		p, ok := placeByTerm(term)
		if !ok || i > 0 && p != place {
			return "", false
		}
		place, known = p, true
	}
	return place, known
}

func placeByTerm(term corev1.NodeSelectorTerm) (string, bool) {
	for _, e := range term.MatchExpressions { // all have to match
		switch {
		case e.Key != v1alpha1.LabelPeer:
		case e.Operator == corev1.NodeSelectorOpDoesNotExist:
			return Home, true
		case e.Operator == corev1.NodeSelectorOpIn && len(e.Values) == 1:
			return e.Values[0], true
		}
	}
	return "", false
}
