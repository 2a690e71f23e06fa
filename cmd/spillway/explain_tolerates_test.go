package main

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestTolerates: the taint's value is the name of the peer; earlier versions gave it none.
func TestTolerates(t *testing.T) {
	west := []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelPeer: "west"}}}}
	for name, row := range map[string]struct {
		toleration corev1.Toleration
		virtual    []corev1.Node
		want       bool
	}{
		"whatever the value":                  {corev1.Toleration{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}, west, true},
		"every taint":                         {corev1.Toleration{Operator: corev1.TolerationOpExists}, west, true},
		"every taint, no node known":          {corev1.Toleration{Operator: corev1.TolerationOpExists}, nil, true},
		"that of the peer":                    {corev1.Toleration{Key: v1alpha1.TaintVirtualNode, Value: "west"}, west, true},
		"that of another peer":                {corev1.Toleration{Key: v1alpha1.TaintVirtualNode, Value: "east"}, west, false},
		"that of a peer, no node known":       {corev1.Toleration{Key: v1alpha1.TaintVirtualNode, Value: "east"}, nil, true},
		"another effect":                      {corev1.Toleration{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}, west, false},
		"another taint":                       {corev1.Toleration{Key: "guests", Operator: corev1.TolerationOpExists}, west, false},
		"another taint, and no node is known": {corev1.Toleration{Key: "guests", Operator: corev1.TolerationOpExists}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := podFacts{pod: &corev1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{row.toleration}}}, virtual: row.virtual}
			if got := f.tolerates(); got != row.want {
				t.Errorf("tolerates: %v", got)
			}
		})
	}
}
