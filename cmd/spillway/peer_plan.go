package main

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// nodePrefix and a Peering's name make the default name of its virtual node.
const nodePrefix = "spillway-"

// conflict says why a Peering of this name with the cluster id cannot be written beside those that c has. c is for
// the words only; flag is the one that sets the name.
func conflict(c *cluster, flag string, existing []v1alpha1.Peering, name, id string) error {
	for i := range existing {
		p := &existing[i]
		switch {
		case p.Name == name && p.Spec.ClusterID != id:
			return problemf(fmt.Sprintf("Choose another name with %s, or remove that one first: spillway unpeer --context %s %s", flag, c.context, name),
				"%s already has a Peering %q, with another cluster (id %s, not %s)", c.title(), name, p.Spec.ClusterID, id)
		case p.Name != name && p.Spec.ClusterID == id:
			return problemf(fmt.Sprintf("Two clusters have one Peering: use %s %s to change that one, or remove it first: spillway unpeer --context %s %s", flag, p.Name, c.context, p.Name),
				"%s is already peered with that cluster, under the name %q", c.title(), p.Name)
		case p.Name == name && p.DeletionTimestamp != nil:
			return problemf(fmt.Sprintf("Wait until it is gone (spillway unpeer --context %s %s shows how far it is), then try again.", c.context, name),
				"the Peering %q of %s is being removed", name, c.title())
		}
	}
	return nil
}

// find returns the Peering of this name among existing, or nil.
func find(existing []v1alpha1.Peering, name string) *v1alpha1.Peering {
	for i := range existing {
		if existing[i].Name == name {
			return &existing[i]
		}
	}
	return nil
}

// wantShare is what the provider is to share: what it shares already, with what the wish says put over it.
func wantShare(existing *v1alpha1.Peering, wish peerWish) *v1alpha1.Share {
	share := &v1alpha1.Share{}
	if existing != nil && existing.Spec.Share != nil {
		share = existing.Spec.Share.DeepCopy()
	}
	if wish.percent != nil {
		share.Percent = *wish.percent
	}
	if wish.resources != nil {
		share.Resources = *wish.resources
	}
	if wish.nodeSelector != nil {
		share.NodeSelector = wish.nodeSelector
	}
	if wish.podSecurity != nil {
		share.PodSecurity = *wish.podSecurity
	}
	if wish.namespaceNames != nil {
		share.NamespaceNames = *wish.namespaceNames
	}
	if wish.ingressClass != nil {
		share.IngressClassName = *wish.ingressClass
	}
	return share
}

// wantBorrow is what the consumer is to borrow: what it borrows already, with what the wish says put over it.
func wantBorrow(existing *v1alpha1.Peering, name string, wish peerWish) *v1alpha1.Borrow {
	borrow := &v1alpha1.Borrow{NodeName: nodePrefix + name}
	if existing != nil && existing.Spec.Borrow != nil {
		borrow = existing.Spec.Borrow.DeepCopy()
	}
	if wish.nodeName != "" && wish.nodeName != nodeNameOf(name, borrow) {
		borrow.NodeName = wish.nodeName
	}
	if wish.nodeLabels != nil {
		borrow.Labels = wish.nodeLabels
	}
	return borrow
}

// nodeNameOf is the name of the virtual node of the Peering called name.
func nodeNameOf(name string, borrow *v1alpha1.Borrow) string {
	if borrow == nil || borrow.NodeName == "" {
		return nodePrefix + name
	}
	return borrow.NodeName
}

// wantServer is the address at which the consumer is to reach the provider. An existing one that works stays when
// nothing else is said: it may have been chosen with --remote-server, and the kubeconfig's need not work from pods.
func wantServer(existing *v1alpha1.Peering, wish peerWish, kubeconfig string) string {
	switch {
	case wish.remoteServer != "":
		return wish.remoteServer
	case existing != nil && existing.Spec.API != nil && meta.IsStatusConditionTrue(existing.Status.Conditions, v1alpha1.ConditionAuthenticated):
		return existing.Spec.API.Server
	}
	return kubeconfig
}

// checkNode says why the virtual node cannot have the name that want gives it. node is the Node of that name, or nil.
func checkNode(existing *v1alpha1.Peering, name string, want *v1alpha1.Borrow, node *corev1.Node) error {
	wanted := nodeNameOf(name, want)
	if existing != nil && existing.Spec.Borrow != nil {
		if old := nodeNameOf(name, existing.Spec.Borrow); old != wanted {
			return problemf(fmt.Sprintf("Leave --node-name out, or start anew: spillway unpeer %s, then peer again.", name),
				"the virtual node of Peering %q is called %q, and a node's name cannot be changed", name, old)
		}
	}
	if node != nil && node.Labels[v1alpha1.LabelPeer] != name {
		return problemf("Choose another name with --node-name.", "there is already a node %q, and it is not the virtual node of Peering %q", wanted, name)
	}
	return nil
}

// sameShare says whether existing already shares want with the cluster.
func sameShare(existing *v1alpha1.Peering, want *v1alpha1.Peering) bool {
	return existing != nil && existing.Spec.ClusterID == want.Spec.ClusterID && equality.Semantic.DeepEqual(existing.Spec.Share, want.Spec.Share) && sameTunnel(existing, want.Spec.Tunnel)
}

// sameBorrow says whether existing already borrows as want does.
func sameBorrow(existing *v1alpha1.Peering, want *v1alpha1.Peering) bool {
	return existing != nil && existing.Spec.ClusterID == want.Spec.ClusterID &&
		equality.Semantic.DeepEqual(existing.Spec.API, want.Spec.API) && equality.Semantic.DeepEqual(existing.Spec.Borrow, want.Spec.Borrow) && sameTunnel(existing, want.Spec.Tunnel)
}

// sameSecret says whether existing is as want in all that peer writes.
func sameSecret(existing, want *corev1.Secret) bool {
	return existing != nil && equality.Semantic.DeepEqual(existing.Data, want.Data) && containsAll(existing.Labels, want.Labels) &&
		equality.Semantic.DeepEqual(existing.OwnerReferences, want.OwnerReferences)
}

func containsAll(have, want map[string]string) bool {
	merged := maps.Clone(have)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, want)
	return maps.Equal(merged, have)
}

// condition returns p's condition of this type as far as it speaks of the current spec, or nil.
func condition(p *v1alpha1.Peering, conditionType string) *metav1.Condition {
	c := meta.FindStatusCondition(p.Status.Conditions, conditionType)
	if c == nil || max(c.ObservedGeneration, p.Status.ObservedGeneration) < p.Generation {
		return nil
	}
	return c
}

// holds says whether p's condition of this type is True for the current spec.
func holds(p *v1alpha1.Peering, conditionType string) bool {
	c := condition(p, conditionType)
	return c != nil && c.Status == metav1.ConditionTrue
}

// tenantOf returns the namespace and Secret that a provider made for its tenant, once both are there.
func tenantOf(p *v1alpha1.Peering) (tenant v1alpha1.Tenant, ready bool) {
	if p == nil || p.Status.Tenant == nil || !holds(p, v1alpha1.ConditionTenantReady) {
		return v1alpha1.Tenant{}, false
	}
	tenant = *p.Status.Tenant
	return tenant, tenant.Namespace != "" && tenant.RenewalSecretName != ""
}
