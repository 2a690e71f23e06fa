package placer

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

// otherGates are the gates of a pod that are not Spillway's; nil, which as a merge patch takes the list away, when there are none.
func otherGates(pod *corev1.Pod) []corev1.PodSchedulingGate {
	var left []corev1.PodSchedulingGate
	for _, g := range pod.Spec.SchedulingGates {
		if g.Name != v1alpha1.GatePlacement {
			left = append(left, g)
		}
	}
	return left
}

// assignPatch is the merge patch that sends a gated pod to its place and opens the gate. API servers let gated pods be narrowed, not
// widened, so that what the pod demands itself stays in force.
func assignPatch(a placement.Assignment) ([]byte, error) {
	spec := map[string]any{"schedulingGates": otherGates(a.Pod)}
	if a.To == placement.Home {
		spec["affinity"] = map[string]any{"nodeAffinity": map[string]any{
			"requiredDuringSchedulingIgnoredDuringExecution": stayHome(a.Pod.Spec.Affinity)}}
	} else {
		spec["nodeSelector"] = map[string]string{v1alpha1.LabelPeer: a.To}
		spec["tolerations"] = policy.ToleratePeer(a.Pod.Spec.Tolerations, a.To)
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{
			"uid": a.Pod.UID, "resourceVersion": a.Pod.ResourceVersion,
			"annotations": map[string]string{v1alpha1.AnnotationPlacement: a.Why},
		},
		"spec": spec,
	})
}

// stayHome demands, in each alternative that a pod's node affinity has, that the node is none of a peer.
func stayHome(affinity *corev1.Affinity) *corev1.NodeSelector {
	home := corev1.NodeSelectorRequirement{Key: v1alpha1.LabelPeer, Operator: corev1.NodeSelectorOpDoesNotExist}
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{home}}}}
	}
	out := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.DeepCopy()
	for i := range out.NodeSelectorTerms {
		t := &out.NodeSelectorTerms[i]
		if len(t.MatchExpressions)+len(t.MatchFields) > 0 { // an empty term means no node
			t.MatchExpressions = append(t.MatchExpressions, home)
		}
	}
	return out
}
