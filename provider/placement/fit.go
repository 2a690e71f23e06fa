package placement

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	schedulingcorev1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// board is the nodes and what pods need of them, read once: vectors instead of maps, and pods that are alike share a shape.
type board struct {
	units  units
	single []single         // of units, the last ones
	nodes  []node           // in the order of their names
	home   []int            // own nodes that take pods
	peers  map[string][]int // virtual nodes, by peer
	byName map[string]int
	kinds  map[string]*class
	shapes map[string]*shape
}

// node is a Node. refusal says why it takes no pods; empty when it does.
type node struct {
	*corev1.Node
	peer    string
	refusal string
	alloc   vector
}

// class is what pods demand of a node but room.
type class struct {
	id          int
	affinity    nodeaffinity.RequiredNodeAffinity
	tolerations []corev1.Toleration
	home        []int             // own nodes that it may run on
	total       vector            // what those have together
	peers       map[string]access // filled as it is asked for
}

// access is the virtual nodes of a peer that a class may run on; none: why says why.
type access struct {
	nodes []int
	why   string
}

// shape is what pods demand of a node.
type shape struct {
	*class
	needs vector
}

func newBoard(in Input) *board {
	b := &board{
		single: newSingles(in.Pods), peers: map[string][]int{}, byName: map[string]int{}, kinds: map[string]*class{}, shapes: map[string]*shape{},
	}
	b.units = newUnits(in.Pods, b.single)
	nodes := slices.SortedFunc(slices.Values(in.Nodes), func(a, c *corev1.Node) int { return cmp.Compare(a.Name, c.Name) })
	for i, n := range nodes {
		peer := n.Labels[v1alpha1.LabelPeer]
		b.nodes = append(b.nodes, node{n, peer, refusal(n), b.has(n)})
		b.byName[n.Name] = i
		if peer != Home {
			b.peers[peer] = append(b.peers[peer], i)
		} else if b.nodes[i].refusal == "" {
			b.home = append(b.home, i)
		}
	}
	return b
}

// has is what a node can give to pods.
func (b *board) has(n *corev1.Node) vector {
	v := b.units.have(n.Status.Allocatable)
	for i := b.common(); i < len(v); i++ {
		v[i] = 1
	}
	return v
}

// needs is what a pod takes of its node.
func (b *board) needs(pod Pod) vector {
	v := b.units.have(pod.Requests)
	v[0] = 1
	for i, s := range b.single {
		if s.taken(pod.Pod) {
			v[b.common()+i] = 1
		}
	}
	return v
}

// common is how many of the units are resources.
func (b *board) common() int { return len(b.units) - len(b.single) }

// refusal says why a node takes no pods; empty when it does.
func refusal(n *corev1.Node) string {
	if n.Spec.Unschedulable {
		return "is cordoned"
	}
	ready := slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	if !ready || n.DeletionTimestamp != nil {
		return "is not Ready"
	}
	return ""
}

// shape returns the shape of a pod. away leaves aside that it may have been bound to a peer: it is the shape of the pod that its
// controller makes instead.
func (b *board) shape(pod *corev1.Pod, needs vector, away bool) *shape {
	if _, bound := pod.Spec.NodeSelector[v1alpha1.LabelPeer]; bound && away {
		pod = &corev1.Pod{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}
		pod.Spec.NodeSelector = maps.Clone(pod.Spec.NodeSelector)
		delete(pod.Spec.NodeSelector, v1alpha1.LabelPeer)
	}
	kind := b.kind(pod)
	key := make([]byte, 0, 8*(len(needs)+1))
	for _, n := range append(vector{int64(kind.id)}, needs...) {
		key = binary.BigEndian.AppendUint64(key, uint64(n))
	}
	s := b.shapes[string(key)]
	if s == nil {
		s = &shape{kind, needs}
		b.shapes[string(key)] = s
	}
	return s
}

func (b *board) kind(pod *corev1.Pod) *class {
	key := demands(pod)
	c := b.kinds[key]
	if c == nil {
		c = &class{
			id: len(b.kinds), affinity: nodeaffinity.GetRequiredNodeAffinity(pod), tolerations: pod.Spec.Tolerations, peers: map[string]access{},
			total: make(vector, len(b.units)),
		}
		for _, i := range b.home {
			if b.denies(c, i) == "" {
				c.home = append(c.home, i)
				c.total.add(b.nodes[i].alloc, 1)
			}
		}
		b.kinds[key] = c
	}
	return c
}

// demands is equal for pods that may run on the same nodes.
func demands(pod *corev1.Pod) string {
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(pod.Spec.NodeSelector)) {
		fmt.Fprintf(&key, "%s=%s,", name, pod.Spec.NodeSelector[name])
	}
	for _, t := range pod.Spec.Tolerations {
		key.WriteString("|" + t.Key + "," + string(t.Operator) + "," + t.Value + "," + string(t.Effect))
	}
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		raw, err := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.Marshal()
		if err != nil {
			raw = []byte(pod.UID) // alike with nobody
		}
		key.WriteString("|" + string(raw))
	}
	return key.String()
}

// denies says why a class may not run on a node, room apart. The toleration of virtual nodes is taken for given: it comes with being sent.
func (b *board) denies(c *class, i int) string {
	n := b.nodes[i]
	if ok, err := c.affinity.Match(n.Node); err != nil || !ok {
		return "is not among the nodes that the pod selects"
	}
	counts := func(t *corev1.Taint) bool {
		return (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) &&
			(n.peer == Home || t.Key != v1alpha1.TaintVirtualNode)
	}
	taint, untolerated := schedulingcorev1.FindMatchingUntoleratedTaint(logr.Discard(), n.Spec.Taints, c.tolerations, counts, true)
	if untolerated {
		return "has the taint " + taint.Key + ", which the pod does not tolerate"
	}
	return ""
}

// access says on which virtual nodes of a peer a class may run.
func (b *board) access(c *class, peer string) access {
	a, known := c.peers[peer]
	if known {
		return a
	}
	a.why = "has no node here"
	for _, i := range b.peers[peer] {
		why := cmp.Or(b.nodes[i].refusal, b.denies(c, i))
		if why == "" {
			a.nodes = append(a.nodes, i)
		} else {
			a.why = why
		}
	}
	if len(a.nodes) > 0 {
		a.why = ""
	}
	c.peers[peer] = a
	return a
}
