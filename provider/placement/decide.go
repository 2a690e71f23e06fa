package placement

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Decide says which pods overflow, which come home, and why others do neither.
//
// Pods of a higher priority are asked first, then older ones. Room and limits that a pod takes are taken for all that follow: the
// decisions of one pass can be applied together.
func Decide(in Input) Outcome {
	p := &pass{in: in, board: newBoard(in)}
	p.rules = newRules(p)
	p.gather()
	for _, c := range p.claims {
		p.place(c)
	}
	p.comeHome()
	for _, r := range p.rules {
		p.out.Policies = append(p.out.Policies, r.said())
	}
	return p.out
}

// pass is one run of Decide.
type pass struct {
	in     Input
	board  *board
	room   *room
	rules  []*rule
	claims []*claim // the pods that count, in the order in which they are asked
	out    Outcome
}

// spot is where a pod is.
type spot int

const (
	atHome  spot = iota // bound to an own node
	atPeer              // bound to a virtual node
	toPeer              // sent to a peer, not bound yet
	waiting             // not bound, and sent nowhere
	gated               // waits for a decision before the scheduler sees it
	nowhere             // bound to a node that is not known
)

// claim is a pod and what it takes.
type claim struct {
	Pod
	rule  *rule // nil: none
	spot  spot
	peer  string // of atPeer and toPeer
	sent  []Sent
	shape *shape
}

// gather finds out where pods are, and takes what they have.
func (p *pass) gather() {
	for i := range p.in.Pods {
		pod := &p.in.Pods[i]
		if pod.Pod != nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			p.claims = append(p.claims, p.claim(*pod))
		}
	}
	slices.SortFunc(p.claims, first)
	p.room = newRoom(p.board)
	for _, c := range p.claims {
		if i, known := p.board.byName[c.Spec.NodeName]; known {
			p.room.take(i, c.shape.needs)
		}
	}
	for _, c := range p.claims {
		if c.spot == toPeer {
			if i := p.room.among(p.board.access(c.shape.class, c.peer).nodes, c.shape.needs); i >= 0 {
				p.room.take(i, c.shape.needs)
			}
		}
		if c.rule != nil {
			c.rule.count(c)
		}
	}
}

func (p *pass) claim(pod Pod) *claim {
	c := &claim{Pod: pod, sent: ParseBurst(pod.Annotations[v1alpha1.AnnotationBurst])}
	if pod.Policy >= 0 && pod.Policy < len(p.rules) {
		c.rule = p.rules[pod.Policy]
	}
	c.shape = p.board.shape(pod.Pod, p.board.needs(pod), false)
	i, known := p.board.byName[pod.Spec.NodeName]
	switch {
	case known && p.board.nodes[i].peer != Home:
		c.spot, c.peer = atPeer, p.board.nodes[i].peer
	case known:
		c.spot = atHome
	case pod.Spec.NodeName != "":
		c.spot = nowhere
	case Gated(pod.Pod):
		c.spot = gated
	default:
		if c.rule == nil || c.Migrating {
			c.peer = pod.Spec.NodeSelector[v1alpha1.LabelPeer]
		}
		if len(c.sent) > 0 {
			c.peer = c.sent[len(c.sent)-1].Peer
		}
		c.spot = toPeer
		if c.peer == "" {
			c.spot = waiting
		}
	}
	return c
}

// first orders pods as they are asked: those of a higher priority first, then older ones.
func first(a, b *claim) int {
	return cmp.Or(
		cmp.Compare(priority(b.Pod.Pod), priority(a.Pod.Pod)),
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
}

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

func (c *claim) ending() bool { return c.DeletionTimestamp != nil }

// released says that its controller was made to let go of it.
func (c *claim) released() bool { return c.Labels[v1alpha1.LabelMoving] != "" }

// owner is the controller that makes another one when this one goes.
func (c *claim) owner() types.UID {
	if uid := c.Labels[v1alpha1.LabelMoving]; uid != "" {
		return types.UID(uid)
	}
	for i := range c.OwnerReferences {
		if o := &c.OwnerReferences[i]; o.Controller != nil && *o.Controller {
			return o.UID
		}
	}
	return c.UID
}

// unschedulable is the scheduler's word that a pod found no node; nil when it did not say so.
func (c *claim) unschedulable() *corev1.PodCondition {
	for i := range c.Status.Conditions {
		cond := &c.Status.Conditions[i]
		if cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse && cond.Reason == corev1.PodReasonUnschedulable {
			return cond
		}
	}
	return nil
}

// again has Decide run again at a time that is still to come.
func (p *pass) again(at time.Time) {
	if at.After(p.in.Now) && (p.out.Next.IsZero() || at.Before(p.out.Next)) {
		p.out.Next = at
	}
}

func (p *pass) decide(c *claim, action Action, peer, reason, message string) {
	p.out.Decisions = append(p.out.Decisions, Decision{Pod: c.Pod.Pod, Action: action, Peer: peer, Reason: reason, Message: message})
}
