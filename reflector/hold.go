package reflector

import (
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// holdPatch makes the local pod tolerate the outage of its virtual node for as long as it takes (translate.HeldSeconds, which
// does not travel: the twin goes on leaving nodes of the provider that fail). The default admission
// gives every pod five minutes; after that the taint manager would delete it, although it runs on in the peer. The API
// server lets the seconds of a toleration change while a pod runs (core/v1 ValidatePodUpdate). JSON merge patch; nil
// when the pod already tolerates it, or when its author chose otherwise by leaving the toleration out.
func holdPatch(local *corev1.Pod) ([]byte, error) {
	limited := func(t corev1.Toleration) bool {
		return t.TolerationSeconds != nil && *t.TolerationSeconds != translate.HeldSeconds && t.Effect == corev1.TaintEffectNoExecute &&
			(t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable)
	}
	if !slices.ContainsFunc(local.Spec.Tolerations, limited) {
		return nil, nil
	}
	tolerations := slices.Clone(local.Spec.Tolerations)
	for i := range tolerations {
		if limited(tolerations[i]) {
			held := int64(translate.HeldSeconds)
			tolerations[i].TolerationSeconds = &held
		}
	}
	return json.Marshal(map[string]any{"spec": map[string]any{"tolerations": tolerations}})
}
