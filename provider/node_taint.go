package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// nameTaint gives the taint of a Node that is there already the name of its peering: the NodeController writes the spec of a Node only
// when it makes one, and those of earlier versions have no value. Other taints, and whether it is cordoned, stay.
func (n *node) nameTaint(ctx context.Context) error {
	nodes := n.client.CoreV1().Nodes()
	seen, err := nodes.Get(ctx, n.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // it is made with the taint
	}
	if err != nil {
		return fmt.Errorf("get node %s: %w", n.name, err)
	}
	taints, differs := namedTaints(seen.Spec.Taints, n.object().Spec.Taints[0])
	if !differs {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": seen.ResourceVersion}, // a taint added meanwhile is not lost
		"spec":     map[string]any{"taints": taints},
	})
	if err != nil {
		return err
	}
	if _, err := nodes.Patch(ctx, n.name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "spillway"}); err != nil {
		return fmt.Errorf("name the taint of node %s: %w", n.name, err)
	}
	return nil
}

// namedTaints returns the taints with the value that ours should have; false when it has it, or when somebody took ours away.
func namedTaints(taints []corev1.Taint, ours corev1.Taint) (named []corev1.Taint, differs bool) {
	named = slices.Clone(taints)
	for i := range named {
		if named[i].Key == ours.Key && named[i].Effect == ours.Effect && named[i].Value != ours.Value {
			named[i].Value, differs = ours.Value, true
		}
	}
	return named, differs
}
