package peering

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// DNSConfig says where the nodes of this cluster answer DNS for pods of tenants under the names of their homes.
type DNSConfig struct {
	// Nameservers are addresses that every node answers at, one per family. None: nodes do not.
	Nameservers []netip.Addr
	// Domain is that of this cluster's Services.
	Domain string
}

// tenantDNS is what a tenant is told: the nameserver of the first family that the pods of this cluster have. Nil: none, or
// it is not known yet what they have. Only where there is a tunnel do nodes have an agent that answers. Pure.
func (c DNSConfig) tenantDNS(spec *v1alpha1.PeeringSpec, status *v1alpha1.PeeringStatus) *v1alpha1.TenantDNS {
	if !joined(spec) || status.Tunnel == nil || status.Tunnel.Local == nil {
		return nil
	}
	ranges := status.Tunnel.Local.Ranges
	for _, kind := range []v1alpha1.RangeKind{v1alpha1.RangePods, v1alpha1.RangeNodes} { // pods may be among the nodes
		for _, a := range c.Nameservers {
			if slices.ContainsFunc(ranges, func(r v1alpha1.NetworkRange) bool { return r.Kind == kind && is4(r.CIDR) == a.Is4() }) {
				return &v1alpha1.TenantDNS{Nameservers: []string{a.String()}, ClusterDomain: c.Domain}
			}
		}
	}
	return nil
}

func is4(cidr string) bool {
	p, err := netip.ParsePrefix(cidr)
	return err == nil && p.Addr().Is4()
}

// announcedDNS reads what a provider says of its DNS. What no pod could have is nothing.
func announcedDNS(dns *v1alpha1.TenantDNS) (nameservers []netip.Addr, domain string) {
	if dns == nil || len(validation.IsDNS1123Subdomain(dns.ClusterDomain)) > 0 {
		return nil, ""
	}
	for _, text := range dns.Nameservers {
		if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
			nameservers = append(nameservers, a)
		}
	}
	return nameservers, dns.ClusterDomain
}
