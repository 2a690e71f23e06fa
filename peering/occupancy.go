package peering

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Occupancy says, as provider, which tenants there are and where their pods run. Safe for concurrent use; valid while its Controller runs.
type Occupancy struct{ c *Controller }

// Occupancy of this cluster by tenants.
func (c *Controller) Occupancy() Occupancy { return Occupancy{c} }

// Synced is false while that is not known yet. A cluster that shares nothing has nothing to find out.
func (o Occupancy) Synced() bool {
	if !o.c.peerings.HasSynced() {
		return false
	}
	for _, p := range o.c.peerings.List() {
		if p.Spec.Share != nil {
			return o.c.caches.synced()
		}
	}
	return true
}

// Tenant gives the namespaces of the pods of the tenant whose identity is in a namespace; false: there is no such tenant.
func (o Occupancy) Tenant(identity string) (namespaces map[string]bool, ok bool) {
	name, _ := strings.CutPrefix(identity, tenant{}.namespace())
	p, ok := o.c.peerings.Get("", name)
	if !ok || p.Spec.Share == nil || p.DeletionTimestamp != nil || (tenant{peering: p.Name}).namespace() != identity {
		return nil, false
	}
	ns, ok := o.c.caches.namespaces.Get("", identity)
	if !ok || ns.Labels[v1alpha1.LabelTenant] != p.Spec.ClusterID {
		return nil, false
	}
	return o.c.caches.namespacesOf(p.Spec.ClusterID), true
}

// Nodes gives all nodes, and by their names the namespaces of tenants that have pods there which have not ended. Shared: do not change them.
func (o Occupancy) Nodes() (nodes []*corev1.Node, tenants map[string]map[string]bool) {
	tenants = map[string]map[string]bool{}
	for _, pod := range o.c.caches.pods.List() {
		if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		if _, ok := o.c.caches.namespaces.Get("", pod.Namespace); !ok {
			continue
		}
		if tenants[pod.Spec.NodeName] == nil {
			tenants[pod.Spec.NodeName] = map[string]bool{}
		}
		tenants[pod.Spec.NodeName][pod.Namespace] = true
	}
	return o.c.caches.nodes.List(), tenants
}
