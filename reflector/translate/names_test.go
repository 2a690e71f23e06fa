package translate

import (
	"testing"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func TestNames_AreThoseOfTheAPI(t *testing.T) {
	for ours, api := range map[string]string{
		LabelOrigin:               v1alpha1.LabelOrigin,
		LabelNode:                 v1alpha1.LabelNode,
		LabelPeer:                 v1alpha1.LabelPeer,
		LabelIsolated:             v1alpha1.LabelIsolated,
		IsolatedIngress:           v1alpha1.IsolatedIngress,
		AnnotationOriginUID:       v1alpha1.AnnotationOriginUID,
		AnnotationEndpointsSaid:   v1alpha1.AnnotationEndpointsSaid,
		ManagedBySpillway:         v1alpha1.ManagedBySpillway,
		AnnotationOriginNamespace: v1alpha1.AnnotationOriginNamespace,
		FieldManager:              v1alpha1.FieldManager,
		tokenSecretPrefix:         v1alpha1.TokenSecretPrefix,
	} {
		if ours != api {
			t.Errorf("%q is %q in peering/v1alpha1", ours, api)
		}
	}
	if HeldSeconds != v1alpha1.HeldSeconds {
		t.Errorf("HeldSeconds %d is %d in peering/v1alpha1", HeldSeconds, v1alpha1.HeldSeconds)
	}
	if TaintVirtualNode != v1alpha1.TaintVirtualNode {
		t.Errorf("taint %q is %q in peering/v1alpha1", TaintVirtualNode, v1alpha1.TaintVirtualNode)
	}
}
