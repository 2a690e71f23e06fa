package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// forceAway does without a controller what r asks for: for when none will come back.
func (u *unpeerRun) forceAway(ctx context.Context, r removal) error {
	u.steps.changed = true
	if r.borrow {
		nodes, err := virtualNodes(ctx, r.cluster, r.peering.Name)
		if err != nil {
			return err
		}
		for i := range nodes {
			if err := forceNodeAway(ctx, r.cluster, &nodes[i]); err != nil {
				return err
			}
		}
	}
	if r.share {
		if err := forceTenantAway(ctx, r.cluster, r.peering.Spec.ClusterID); err != nil {
			return err
		}
	}
	if _, err := u.begin(ctx, r); err != nil {
		return err
	}
	if err := dropFinalizers(ctx, r); err != nil {
		return err
	}
	if r.borrow {
		return removeSecret(ctx, r)
	}
	return nil
}

// forceNodeAway cordons node, deletes its pods without waiting for anybody, then node and its Lease.
func forceNodeAway(ctx context.Context, c *cluster, node *corev1.Node) error {
	nodes := c.kube.CoreV1().Nodes()
	_, err := nodes.Patch(ctx, node.Name, types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{FieldManager: managerBorrow})
	if err != nil && !apierrors.IsNotFound(err) {
		return explain(c, "cordon node "+node.Name, err)
	}
	pods, err := c.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, onNode(node.Name))
	if err != nil {
		return explain(c, "list the pods on node "+node.Name, err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		now := metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID))}
		err := c.kube.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, now)
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return explain(c, fmt.Sprintf("delete pod %s/%s", pod.Namespace, pod.Name), err)
		}
	}
	err = nodes.Delete(ctx, node.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(node.UID))})
	if err != nil && !apierrors.IsNotFound(err) {
		return explain(c, "delete node "+node.Name, err)
	}
	err = c.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Delete(ctx, node.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return explain(c, "delete the Lease of node "+node.Name, err)
	}
	return nil
}

// forceTenantAway deletes everything that carries the label of the tenant with this cluster id, cluster-wide and in Spillway's own
// namespace; what is in the tenant's namespaces goes with them.
func forceTenantAway(ctx context.Context, c *cluster, id string) error {
	ofTenant := metav1.ListOptions{LabelSelector: v1alpha1.LabelTenant + "=" + id}
	namespaces, err := c.kube.CoreV1().Namespaces().List(ctx, ofTenant)
	if err != nil {
		return explain(c, "list the namespaces of the tenant", err)
	}
	for i := range namespaces.Items {
		namespace := &namespaces.Items[i]
		err := c.kube.CoreV1().Namespaces().Delete(ctx, namespace.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(namespace.UID))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return explain(c, "delete namespace "+namespace.Name, err)
		}
	}
	rbac := c.kube.RbacV1()
	if err := rbac.ClusterRoleBindings().DeleteCollection(ctx, metav1.DeleteOptions{}, ofTenant); err != nil {
		return explain(c, "delete the ClusterRoleBindings of the tenant", err)
	}
	if err := rbac.RoleBindings(v1alpha1.SystemNamespace).DeleteCollection(ctx, metav1.DeleteOptions{}, ofTenant); err != nil {
		return explain(c, "delete the RoleBindings of the tenant", err)
	}
	return explain(c, "delete the ClusterRoles of the tenant", rbac.ClusterRoles().DeleteCollection(ctx, metav1.DeleteOptions{}, ofTenant))
}

// dropFinalizers takes the controllers' finalizers off what r removes.
func dropFinalizers(ctx context.Context, r removal) error {
	now, err := r.cluster.peerings.Get(ctx, r.peering.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && now.UID != r.peering.UID {
		return nil
	}
	if err != nil {
		return explain(r.cluster, "read Peering "+r.peering.Name, err)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers": r.keptFinalizers(now.Finalizers), "resourceVersion": now.ResourceVersion,
	}})
	if err != nil {
		return fmt.Errorf("encode finalizers of Peering %s: %w", now.Name, err)
	}
	_, err = r.cluster.peerings.Patch(ctx, now.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: managerBorrow})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return explain(r.cluster, "take the finalizers off Peering "+now.Name, err)
}

// keptFinalizers are those of finalizers that r leaves: all that are not Spillway's, and those of a part that stays.
func (r removal) keptFinalizers(finalizers []string) []string {
	kept := []string{}
	for _, finalizer := range finalizers {
		stays := finalizer == finalizerConsumer && !r.borrow && r.peering.Spec.Borrow != nil ||
			finalizer == finalizerProvider && !r.share && r.peering.Spec.Share != nil
		if stays || !strings.HasPrefix(finalizer, finalizerPrefix) {
			kept = append(kept, finalizer)
		}
	}
	return kept
}
