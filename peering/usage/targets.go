package usage

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// labelType and typeVirtual mark nodes of virtual-kubelet, ours among them; taintVirtual does so too.
	labelType    = "type"
	typeVirtual  = "virtual-kubelet"
	taintVirtual = "virtual-kubelet.io/provider"
)

// target is a kubelet that has pods of tenants.
type target struct {
	node       string
	at         netip.AddrPort  // where it listens; not valid: it is not asked, and counts as failed
	namespaces map[string]bool // of tenants, with pods there
}

// targets lists the kubelets to ask, by name: of real nodes with pods of tenants. A node that no longer reports is not asked, for
// nothing would come but the end of the time for it.
func targets(nodes []*corev1.Node, tenants map[string]map[string]bool) []target {
	var out []target
	for _, n := range nodes {
		if len(tenants[n.Name]) == 0 || isVirtual(n) {
			continue
		}
		t := target{node: n.Name, namespaces: tenants[n.Name]}
		if reports(n) {
			t.at = kubeletAddress(n)
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b target) int { return cmp.Compare(a.node, b.node) })
	return out
}

// isVirtual says whether no kubelet of this cluster is behind a node.
func isVirtual(n *corev1.Node) bool {
	_, peer := n.Labels[v1alpha1.LabelPeer]
	return peer || n.Labels[labelType] == typeVirtual || slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == taintVirtual || t.Key == v1alpha1.TaintVirtualNode || t.Key == labelType && t.Value == typeVirtual
	})
}

// reports says whether a node's kubelet is heard of.
func reports(n *corev1.Node) bool {
	return !slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionUnknown
	})
}

// kubeletAddress is where a node's kubelet listens; not valid when the node does not say.
func kubeletAddress(n *corev1.Node) netip.AddrPort {
	port := n.Status.DaemonEndpoints.KubeletEndpoint.Port
	if port <= 0 || port > 1<<16-1 {
		return netip.AddrPort{}
	}
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			return netip.AddrPortFrom(ip, uint16(port))
		}
	}
	return netip.AddrPort{}
}
