package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// keptVolumes says, in words that begin with a comma, which volumes keep a node from going; empty when none does, or when the user
// may not know.
func keptVolumes(ctx context.Context, c *cluster, node *corev1.Node) string {
	peer := node.Labels[v1alpha1.LabelPeer]
	if peer == "" {
		return ""
	}
	list, err := c.kube.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelPeer + "=" + peer})
	if err != nil {
		return ""
	}
	return sayKept(list.Items)
}

func sayKept(volumes []corev1.PersistentVolume) string {
	var names []string
	for i := range volumes {
		if ref := volumes[i].Spec.ClaimRef; ref != nil {
			names = append(names, ref.Namespace+"/"+ref.Name)
		} else {
			names = append(names, volumes[i].Name)
		}
	}
	slices.Sort(names)
	switch n := len(names); {
	case n == 0:
		return ""
	case n > 5:
		names = append(names[:5], "…")
	}
	return fmt.Sprintf(", since its peer keeps data: delete these PersistentVolumeClaims, or the volumes they have left, first: %s",
		strings.Join(names, ", "))
}
