package policy

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// defaultTolerationSeconds is what the DefaultTolerationSeconds admission gives to pods that say nothing.
const defaultTolerationSeconds = 300

const (
	// autoscalerDelay is how the Kubernetes cluster autoscaler is told to leave a new pod alone for a time.
	autoscalerDelay = "cluster-autoscaler.kubernetes.io/pod-scale-up-delay"
	// defaultAutoscalerWait is how long the one who goes second waits.
	defaultAutoscalerWait = 2 * time.Minute
)

// Steered is what admission changes on a pod. Lists and objects are whole and share nothing with the pod.
type Steered struct {
	Policy      string // that steers it; empty: a Migration does
	Tolerations []corev1.Toleration
	Affinity    *corev1.Affinity
	Gates       []corev1.PodSchedulingGate
	Annotations map[string]string // those that are added, beside the policy's name
}

// Steer says how a new pod must differ so that the stock scheduler places it as its Migration says, or else its policy; a policy that
// keeps it at home has the first word. The second result is false when the pod stays as it is: nothing governs it, it is its
// DaemonSet's business, or it is a static pod's mirror. What the pod itself demands of its node stays in force: steering narrows, it
// never widens.
func (s Set) Steer(pod *corev1.Pod) (Steered, bool) {
	if bound(pod) {
		return Steered{}, false
	}
	r := s.rule(pod.Labels)
	if c, ok := s.Course(pod); ok && !r.never() {
		return c.steer(pod), true
	}
	if r == nil {
		return Steered{}, false
	}
	return r.steer(pod)
}

// unsteered is what a pod has.
func unsteered(pod *corev1.Pod) Steered {
	return Steered{Tolerations: slices.Clone(pod.Spec.Tolerations), Affinity: pod.Spec.Affinity.DeepCopy()}
}

func (r *rule) never() bool { return r != nil && r.policy.Spec.When == v1alpha1.OffloadNever }

func (r *rule) steer(pod *corev1.Pod) (Steered, bool) {
	out := unsteered(pod)
	out.Policy = r.policy.Name
	toleration := corev1.Toleration{
		Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule,
	}
	tolerated := slices.ContainsFunc(pod.Spec.Tolerations, toleratesVirtualNodes)
	if r.policy.Spec.When == v1alpha1.OffloadBurst && !tolerated {
		r.await(pod, &out)
		return out, true
	}
	if r.never() {
		if !tolerated {
			return Steered{}, false
		}
		out.Affinity = narrow(out.Affinity, []corev1.NodeSelectorTerm{{MatchExpressions: isVirtual(corev1.NodeSelectorOpDoesNotExist)}})
		return out, true
	}
	if !slices.ContainsFunc(pod.Spec.Tolerations, toleratesAll) {
		out.Tolerations = append(out.Tolerations, toleration)
	}
	terms := r.terms()
	if r.policy.Spec.When == v1alpha1.OffloadAlways || r.policy.Spec.When == "" {
		hold(out.Tolerations)
		out.Affinity = narrow(out.Affinity, terms)
	} else if len(r.policy.Spec.Peers) > 0 {
		home := corev1.NodeSelectorTerm{MatchExpressions: isVirtual(corev1.NodeSelectorOpDoesNotExist)}
		out.Affinity = narrow(out.Affinity, append(slices.Clone(terms), home))
	}
	if len(r.policy.Spec.Peers) > 1 {
		out.Affinity = prefer(out.Affinity, terms)
	}
	return out, true
}

// await leaves a pod to home's nodes: it gets the toleration of a peer when it has found no room for a while. One that counts against a
// threshold waits until it was counted, and a cluster autoscaler waits where it is to see what peers leave.
func (r *rule) await(pod *corev1.Pod, out *Steered) {
	burst := r.policy.Spec.Burst
	if burst == nil {
		return
	}
	if burst.Threshold != nil {
		out.Gates = gated(pod)
	}
	if _, said := pod.Annotations[autoscalerDelay]; burst.ClusterAutoscaler == v1alpha1.AutoscalerLast && !said {
		wait := defaultAutoscalerWait
		if burst.AutoscalerWait != nil {
			wait = burst.AutoscalerWait.Duration
		}
		out.Annotations = map[string]string{autoscalerDelay: wait.String()}
	}
}

// gated are the gates of a pod that waits to be told its place.
func gated(pod *corev1.Pod) []corev1.PodSchedulingGate {
	gate := corev1.PodSchedulingGate{Name: v1alpha1.GatePlacement}
	if slices.Contains(pod.Spec.SchedulingGates, gate) {
		return slices.Clone(pod.Spec.SchedulingGates)
	}
	return append(slices.Clone(pod.Spec.SchedulingGates), gate)
}

// hold makes pods that live on virtual nodes only outlast an outage of any length, also one in which no controller runs: where
// the default admission gave them five minutes. What their author said stays.
func hold(list []corev1.Toleration) {
	for i := range list {
		t := &list[i]
		if (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable) && t.Effect == corev1.TaintEffectNoExecute &&
			t.TolerationSeconds != nil && *t.TolerationSeconds == defaultTolerationSeconds {
			held := int64(v1alpha1.HeldSeconds)
			t.TolerationSeconds = &held
		}
	}
}

// bound says that something else has chosen the pod's node.
func bound(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return pod.Spec.NodeName != "" || mirror || owner != nil && owner.Kind == "DaemonSet"
}

// toleratesVirtualNodes says that the pod's author has thought of virtual nodes: of some peers, or all.
func toleratesVirtualNodes(t corev1.Toleration) bool {
	return (t.Key == v1alpha1.TaintVirtualNode || t.Key == "" && t.Operator == corev1.TolerationOpExists) &&
		(t.Effect == "" || t.Effect == corev1.TaintEffectNoSchedule)
}

// ToleratePeer returns tolerations, of a new list, with that of one peer's virtual nodes, and lets the pod outlast an outage of any length
// there. API servers let a pod that exists tolerate more, and for another time, and no less.
func ToleratePeer(list []corev1.Toleration, peer string) []corev1.Toleration {
	out := slices.Clone(list)
	hold(out)
	toleration := corev1.Toleration{
		Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpEqual, Value: peer, Effect: corev1.TaintEffectNoSchedule,
	}
	if !slices.ContainsFunc(out, func(t corev1.Toleration) bool { return toleratesAll(t) || t == toleration }) {
		out = append(out, toleration)
	}
	return out
}

// toleratesAll says that a toleration means the virtual nodes of every peer: one with a value means one peer.
func toleratesAll(t corev1.Toleration) bool {
	return toleratesVirtualNodes(t) && t.Operator == corev1.TolerationOpExists
}

func isVirtual(op corev1.NodeSelectorOperator) []corev1.NodeSelectorRequirement {
	return []corev1.NodeSelectorRequirement{{Key: v1alpha1.LabelPeer, Operator: op}}
}

// terms says, one term for each entry of spec.peers, which nodes it means; any virtual node when there is no entry.
func (r *rule) terms() []corev1.NodeSelectorTerm {
	if len(r.policy.Spec.Peers) == 0 {
		return []corev1.NodeSelectorTerm{{MatchExpressions: isVirtual(corev1.NodeSelectorOpExists)}}
	}
	var terms []corev1.NodeSelectorTerm
	for i := range r.policy.Spec.Peers {
		c := &r.policy.Spec.Peers[i]
		requirements := isVirtual(corev1.NodeSelectorOpExists)
		if c.Name != "" {
			requirements[0].Operator, requirements[0].Values = corev1.NodeSelectorOpIn, []string{c.Name}
		}
		terms = append(terms, corev1.NodeSelectorTerm{MatchExpressions: append(requirements, r.requirements(i)...)})
	}
	return terms
}

// requirements is the selector of an entry of spec.peers as a node affinity has it.
func (r *rule) requirements(i int) []corev1.NodeSelectorRequirement {
	c := r.policy.Spec.Peers[i].Selector
	if c == nil {
		return nil
	}
	if selectsNothing, _ := r.peers[i].Requirements(); len(selectsNothing) == 0 && len(c.MatchLabels)+len(c.MatchExpressions) > 0 {
		// It cannot be read, and means no node.
		return isVirtual(corev1.NodeSelectorOpDoesNotExist)
	}
	var out []corev1.NodeSelectorRequirement
	for _, key := range slices.Sorted(maps.Keys(c.MatchLabels)) {
		out = append(out, corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{c.MatchLabels[key]}})
	}
	for _, e := range c.MatchExpressions {
		out = append(out, corev1.NodeSelectorRequirement{
			Key: e.Key, Operator: corev1.NodeSelectorOperator(e.Operator), Values: slices.Clone(e.Values), // the same words
		})
	}
	return out
}

// narrow demands one of the terms beside what the affinity demands already. Terms are alternatives: each of one list goes
// with each of the other.
func narrow(affinity *corev1.Affinity, terms []corev1.NodeSelectorTerm) *corev1.Affinity {
	node := nodeAffinity(&affinity)
	if node.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		node.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: terms}
		return affinity
	}
	required := node.RequiredDuringSchedulingIgnoredDuringExecution
	var both []corev1.NodeSelectorTerm
	for _, own := range required.NodeSelectorTerms {
		if len(own.MatchExpressions)+len(own.MatchFields) == 0 {
			continue // an empty term means no node
		}
		for _, term := range terms {
			both = append(both, corev1.NodeSelectorTerm{
				MatchExpressions: slices.Concat(own.MatchExpressions, term.MatchExpressions),
				MatchFields:      slices.Clone(own.MatchFields),
			})
		}
	}
	if len(both) > 0 {
		required.NodeSelectorTerms = both
	}
	return affinity
}

// prefer gives the terms weights, the first the greatest.
func prefer(affinity *corev1.Affinity, terms []corev1.NodeSelectorTerm) *corev1.Affinity {
	node := nodeAffinity(&affinity)
	for i, term := range terms {
		node.PreferredDuringSchedulingIgnoredDuringExecution = append(node.PreferredDuringSchedulingIgnoredDuringExecution,
			corev1.PreferredSchedulingTerm{Weight: int32(100 - i*99/len(terms)), Preference: *term.DeepCopy()})
	}
	return affinity
}

func nodeAffinity(affinity **corev1.Affinity) *corev1.NodeAffinity {
	if *affinity == nil {
		*affinity = &corev1.Affinity{}
	}
	if (*affinity).NodeAffinity == nil {
		(*affinity).NodeAffinity = &corev1.NodeAffinity{}
	}
	return (*affinity).NodeAffinity
}
