package placer

import (
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

// defaultTolerated is what the DefaultTolerationSeconds admission gives to pods that say nothing.
const defaultTolerated = 300

// awaitsPlace says whether a pod waits to be told where it goes.
func awaitsPlace(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.GatePlacement })
}

// assignPatch is the merge patch that sends a gated pod to its place and opens the gate. API servers let gated pods be narrowed, not
// widened, so that what the pod demands itself stays in force.
func assignPatch(a placement.Assignment) ([]byte, error) {
	gates := slices.DeleteFunc(slices.Clone(a.Pod.Spec.SchedulingGates), func(g corev1.PodSchedulingGate) bool {
		return g.Name == v1alpha1.GatePlacement
	})
	if gates == nil {
		gates = []corev1.PodSchedulingGate{}
	}
	spec := map[string]any{"schedulingGates": gates}
	if a.To == placement.Home {
		spec["affinity"] = map[string]any{"nodeAffinity": map[string]any{
			"requiredDuringSchedulingIgnoredDuringExecution": stayHome(a.Pod.Spec.Affinity)}}
	} else {
		spec["nodeSelector"] = map[string]string{v1alpha1.LabelPeer: a.To}
		spec["tolerations"] = toleratePeer(a.Pod.Spec.Tolerations, a.To)
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

// toleratePeer adds the toleration of one peer's virtual node, and lets the pod outlast an outage of any length there, where the default
// admission gave it five minutes.
func toleratePeer(list []corev1.Toleration, peer string) []corev1.Toleration {
	out, held := slices.Clone(list), int64(v1alpha1.HeldSeconds)
	for i := range out {
		t := &out[i]
		if (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable) && t.Effect == corev1.TaintEffectNoExecute &&
			t.TolerationSeconds != nil && *t.TolerationSeconds == defaultTolerated {
			t.TolerationSeconds = &held
		}
	}
	own := corev1.Toleration{
		Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpEqual, Value: peer, Effect: corev1.TaintEffectNoSchedule,
	}
	if !slices.Contains(out, own) {
		out = append(out, own)
	}
	return out
}
