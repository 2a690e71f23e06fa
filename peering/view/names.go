package view

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// The Service of the cluster's DNS, everywhere, and its port.
const (
	dnsNamespace = "kube-system"
	dnsService   = "kube-dns"
	dnsPort      = 53
)

func dnsOf(services []*corev1.Service) []netip.AddrPort {
	var out []netip.AddrPort
	for _, svc := range services {
		for _, text := range svc.Spec.ClusterIPs {
			if a, err := netip.ParseAddr(text); err == nil { // a headless one says None
				out = append(out, netip.AddrPortFrom(a, dnsPort))
			}
		}
	}
	return out
}

// tenantOf lists what a peer has here: its namespaces as the provider's controller says, whatever labels a tenant may have
// put on its pods, and which of this node's pods are in them.
func tenantOf(p *v1alpha1.Peering, pods []*corev1.Pod) (namespaces map[string]string, twins []netip.Addr) {
	if p.Status.Tenant == nil {
		return nil, nil
	}
	namespaces = map[string]string{}
	here := map[string]bool{}
	for _, ns := range p.Status.Tenant.Namespaces {
		namespaces[ns.Name], here[ns.RemoteName] = ns.RemoteName, true
	}
	for addr, pod := range owners(pods) {
		if here[pod.Namespace] {
			twins = append(twins, addr)
		}
	}
	slices.SortFunc(twins, netip.Addr.Compare)
	return namespaces, twins
}

// owners says whose an address is. A pod that has ended still shows one, which another may have by now.
func owners(pods []*corev1.Pod) map[netip.Addr]*corev1.Pod {
	out := map[netip.Addr]*corev1.Pod{}
	for _, pod := range pods {
		if pod.Spec.HostNetwork || ended(pod) {
			continue
		}
		for _, ip := range pod.Status.PodIPs {
			addr, err := netip.ParseAddr(ip.IP)
			if before := out[addr]; err == nil && (before == nil || before.CreationTimestamp.Before(&pod.CreationTimestamp)) {
				out[addr] = pod
			}
		}
	}
	return out
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
