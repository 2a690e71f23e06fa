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
	for _, r := range status.Tunnel.Local.Ranges {
		pods, err := netip.ParsePrefix(r.CIDR)
		if r.Kind != v1alpha1.RangePods || err != nil {
			continue
		}
		i := slices.IndexFunc(c.Nameservers, func(a netip.Addr) bool { return a.Is4() == pods.Addr().Is4() })
		if i >= 0 {
			return &v1alpha1.TenantDNS{Nameservers: []string{c.Nameservers[i].String()}, ClusterDomain: c.Domain}
		}
	}
	return nil
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
