package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// drainFacts is everything by which it is judged what draining a peer does. Plain values; what the user may not read is absent.
type drainFacts struct {
	peer       string
	pods       []corev1.Pod                 // on the peer's virtual nodes
	others     []corev1.Node                // virtual nodes of other peers
	namespaces map[string]governedNamespace // of the pods
	migrations []v1alpha1.Migration         // of all namespaces
	budgets    []policyv1.PodDisruptionBudget
}

// governedNamespace is a namespace and what its OffloadPolicies say.
type governedNamespace struct {
	object   *corev1.Namespace
	policies policy.Set
}

// drainPlan is what draining does to each pod. Sorted by namespace and name.
type drainPlan struct {
	evict   []*corev1.Pod // all that are to go
	ignored int           // of DaemonSets and nodes themselves: they go with the node
	jobs    []string      // of evict: of Jobs, which start them anew
	scratch int           // of evict: those with an emptyDir, which is lost
	bare    []string      // of evict: nothing makes them anew
	stuck   []strandedPod // of evict: the next one could go nowhere else
}

// strandedPod is a pod whose successor could go nowhere but to the peer that is drained.
type strandedPod struct {
	Pod string `json:"pod"`
	Why string `json:"why"`
}

// planDrain says what draining the peer of f does.
func planDrain(f drainFacts) drainPlan {
	var p drainPlan
	for i := range f.pods {
		pod := &f.pods[i]
		owner := metav1.GetControllerOf(pod)
		over := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
		name := pod.Namespace + "/" + pod.Name
		if mirror || owner != nil && owner.Kind == "DaemonSet" && !over {
			p.ignored++
			continue
		}
		p.evict = append(p.evict, pod)
		if over {
			continue
		}
		if slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.EmptyDir != nil }) {
			p.scratch++
		}
		switch {
		case pod.Labels[v1alpha1.LabelMoving] != "": // let go of by its controller, which makes another
			continue
		case owner == nil:
			p.bare = append(p.bare, name)
			continue
		case owner.Kind == "Job":
			p.jobs = append(p.jobs, name)
		}
		if why := f.stranded(pod); why != "" && pod.DeletionTimestamp == nil {
			p.stuck = append(p.stuck, strandedPod{name, why})
		}
	}
	slices.SortFunc(p.evict, func(a, b *corev1.Pod) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	slices.SortFunc(p.stuck, func(a, b strandedPod) int { return strings.Compare(a.Pod, b.Pod) })
	slices.Sort(p.bare)
	slices.Sort(p.jobs)
	return p
}

// stranded says why the successor of a pod could only go to the peer that is drained; empty when it could go elsewhere, as far as
// policies and Migrations say: whether there is room is for the scheduler.
func (f drainFacts) stranded(pod *corev1.Pod) string {
	ns := f.namespaces[pod.Namespace]
	if c, ok := ns.policies.Course(pod); ok && !c.Divided {
		if c.Place == f.peer {
			return fmt.Sprintf("the Migration %s keeps its pods there", c.Migration.Name)
		}
		return ""
	}
	rule := ns.policies.For(pod.Labels)
	if rule == nil || rule.Spec.When != v1alpha1.OffloadAlways && rule.Spec.When != "" {
		return "" // home is open to it
	}
	for i := range f.others {
		node := &f.others[i]
		if node.Spec.Unschedulable {
			continue
		}
		at := policy.Place{Peer: node.Labels[v1alpha1.LabelPeer], Labels: node.Labels}
		if ns.policies.Judge(ns.open(pod.Namespace), pod, at).Refusal == "" {
			return ""
		}
	}
	return fmt.Sprintf("the OffloadPolicy %s lets its pods run in no other peer that is open, and not at home", rule.Name)
}

// open is the namespace; one that may not be read is taken to let its pods leave, since they have.
func (n governedNamespace) open(name string) *corev1.Namespace {
	if n.object != nil {
		return n.object
	}
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelOffload: v1alpha1.OffloadEnabled}}}
}

// lines tell p to people.
func (p drainPlan) lines() []string {
	lines := []string{plural(len(p.evict), "pod") + " will go, under their budgets; their controllers make others elsewhere."}
	if len(p.evict) == 0 {
		lines = []string{"No pods are there that would have to go."}
	}
	if p.ignored > 0 {
		lines = append(lines, "Left alone: "+plural(p.ignored, "pod")+" of DaemonSets or of the node itself")
	}
	if len(p.jobs) > 0 {
		lines = append(lines, fmt.Sprintf("%s of Jobs will be started anew: %s", plural(len(p.jobs), "pod"), shortened(p.jobs, 5)))
	}
	if p.scratch > 0 {
		lines = append(lines, plural(p.scratch, "pod")+" will lose what is in their emptyDir volumes")
	}
	if len(p.bare) > 0 {
		lines = append(lines, fmt.Sprintf("%s without a controller will be lost: %s", plural(len(p.bare), "pod"), shortened(p.bare, 5)))
	}
	for _, s := range p.stuck[:min(len(p.stuck), 5)] {
		lines = append(lines, fmt.Sprintf("The next %s would stay Pending: %s", s.Pod, s.Why))
	}
	if more := len(p.stuck) - 5; more > 0 {
		lines = append(lines, plural(more, "other pod")+" likewise")
	}
	return lines
}

// refusal says why p is not done without --force; nil when it is.
func (p drainPlan) refusal(peer string) error {
	const do = "Nothing was evicted. Mend that, or take it with --force."
	switch {
	case len(p.bare) > 0:
		return problemf(do, "%s on %s would be lost, since no controller makes them anew: %s", plural(len(p.bare), "pod"), peer, shortened(p.bare, 10))
	case len(p.stuck) > 0:
		var names []string
		for _, s := range p.stuck {
			names = append(names, s.Pod)
		}
		return problemf(do, "the successors of %s could go nowhere but to %s: %s (%s)", plural(len(names), "pod"), peer, shortened(names, 5), p.stuck[0].Why)
	}
	return nil
}

// budgetOf names the PodDisruptionBudgets that hold a pod.
func (f drainFacts) budgetOf(pod *corev1.Pod) string {
	var names []string
	for i := range f.budgets {
		b := &f.budgets[i]
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && b.Namespace == pod.Namespace && selector.Matches(labels.Set(pod.Labels)) {
			names = append(names, b.Name)
		}
	}
	return cmp.Or(strings.Join(names, " and "), "of "+pod.Namespace)
}
