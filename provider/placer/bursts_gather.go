package placer

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

// gathered is what one pass decides on.
type gathered struct {
	input    placement.Input
	policies []*v1alpha1.OffloadPolicy // those of input.Policies
	closed   []string                  // why no pod of theirs may leave; empty: they may
	others   []*v1alpha1.OffloadPolicy // those of another kind, which say nothing of bursting
	index    map[types.NamespacedName]int
	peers    map[string]string // of virtual nodes, by their names
	settled  map[types.UID]bool
}

// counted is what a pod requests, as long as it is the same object.
type counted struct {
	pod      *corev1.Pod
	requests corev1.ResourceList
}

func (b *bursts) gather(ctx context.Context, pods []*corev1.Pod, w *wakeup) *gathered {
	nodes := b.caches.Nodes()
	g := &gathered{
		index: map[types.NamespacedName]int{}, peers: map[string]string{}, settled: map[types.UID]bool{},
		input: placement.Input{Now: w.now, Nodes: nodes, History: b.history},
	}
	var places []policy.Place
	for _, n := range nodes {
		if peer := n.Labels[v1alpha1.LabelPeer]; peer != "" {
			g.peers[n.Name] = peer
			places = append(places, policy.Place{Peer: peer, Labels: n.Labels})
		}
	}
	slices.SortFunc(places, func(a, b policy.Place) int { return cmp.Compare(a.Peer, b.Peer) })
	sets := b.cfg.Policies.Governed()
	for _, namespace := range slices.Sorted(maps.Keys(sets)) {
		set := sets[namespace]
		g.others = append(g.others, set.Others()...)
		for _, p := range set.Bursts() {
			g.addPolicy(p, b.cfg.Closed(namespace), set.Chosen(p.Name, places))
		}
	}
	for _, pod := range pods {
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			b.addPod(g, pod, sets[pod.Namespace])
		}
	}
	b.scaling.look(ctx, b.cfg, g, w)
	return g
}

// addPolicy adds a policy and the peers that it means.
func (g *gathered) addPolicy(p *v1alpha1.OffloadPolicy, closed string, chosen []policy.Chosen) {
	out := placement.Policy{Namespace: p.Namespace, Name: p.Name}
	if p.Spec.Burst != nil {
		out.Burst = *p.Spec.Burst
	}
	if at, err := time.Parse(time.RFC3339, p.Annotations[v1alpha1.AnnotationRepatriate]); err == nil {
		out.Repatriate = at
	}
	if closed != "" {
		chosen = nil
	}
	for _, c := range chosen {
		peer := placement.Peer{Name: c.Peer, Weight: 1}
		if c.Choice != nil {
			peer.MaxPods, peer.MaxRequests = c.Choice.MaxPods, c.Choice.MaxRequests
			if c.Choice.Weight != nil {
				peer.Weight = max(1, *c.Choice.Weight)
			}
		}
		out.Peers = append(out.Peers, peer)
	}
	g.index[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = len(g.policies)
	g.policies, g.closed = append(g.policies, p), append(g.closed, closed)
	g.input.Policies = append(g.input.Policies, out)
}

// addPod adds a pod, whoever it belongs to: it takes room where it is.
func (b *bursts) addPod(g *gathered, pod *corev1.Pod, set policy.Set) {
	out := placement.Pod{Pod: pod, Policy: -1, Requests: b.requestsOf(pod)}
	out.Migrating = set.Migration(pod) != nil
	if p := set.For(pod.Labels); p != nil && !elsewhere(pod) {
		if i, ok := g.index[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}]; ok {
			out.Policy = i
		}
	}
	if _, sent := pod.Annotations[v1alpha1.AnnotationBurst]; sent && out.Policy >= 0 && !out.Migrating && g.peers[pod.Spec.NodeName] != "" {
		out.Movable, out.Settled = b.movable(g, pod)
	}
	g.input.Pods = append(g.input.Pods, out)
}

func (b *bursts) requestsOf(pod *corev1.Pod) corev1.ResourceList {
	if c, ok := b.requests[pod.UID]; ok && c.pod == pod {
		return c.requests
	}
	c := counted{pod, resource.PodRequests(pod, resource.PodResourcesOptions{UseStatusResources: true})}
	b.requests[pod.UID] = c
	return c.requests
}

// elsewhere says that something else has chosen the pod's node.
func elsewhere(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror || owner != nil && owner.Kind == "DaemonSet"
}

// movable says whether a controller makes another pod when this one goes, and whether it can do without one now.
func (b *bursts) movable(g *gathered, pod *corev1.Pod) (movable, settled bool) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != "ReplicaSet" && owner.Kind != "StatefulSet" || claims(pod) {
		return false, false
	}
	settled, known := g.settled[owner.UID]
	if known {
		return true, settled
	}
	w, ok := b.caches.Of(pod)
	if !ok {
		return false, false
	}
	settled = whole(w)
	g.settled[owner.UID] = settled
	return true, settled
}

// claims says whether a pod has a volume that outlives it: it is where the pod is, and would draw the next one there.
func claims(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.PersistentVolumeClaim != nil })
}

// whole says whether a workload has as many Ready pods as it should. Those that it was made to let go of serve too, until others are
// Ready instead: so as many as maxConcurrent are on their way all the time, and not in steps.
func whole(w placement.Workload) bool {
	serving := int32(0)
	for _, m := range w.Members {
		if placement.Ready(m.Pod) {
			serving++
		}
	}
	return serving >= w.Replicas
}

// unschedulable says whether the scheduler has found no node for a pod.
func unschedulable(pod *corev1.Pod) bool {
	c := conditionOf(pod, corev1.PodScheduled)
	return pod.Spec.NodeName == "" && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
}

func conditionOf(pod *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}
