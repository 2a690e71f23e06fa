package peering

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func TestDNSConfig_TenantDNS(t *testing.T) {
	on := DNSConfig{Nameservers: []netip.Addr{netip.MustParseAddr("169.254.83.53"), netip.MustParseAddr("fd53::53")}, Domain: "cluster.local"}
	v4, v6 := v1alpha1.NetworkRange{CIDR: "10.1.0.0/16", Kind: v1alpha1.RangePods}, v1alpha1.NetworkRange{CIDR: "fd00:1::/56", Kind: v1alpha1.RangePods}
	nodes := v1alpha1.NetworkRange{CIDR: "192.0.2.0/24", Kind: v1alpha1.RangeNodes}
	for name, row := range map[string]struct {
		config DNSConfig
		mode   v1alpha1.TunnelMode
		ranges []v1alpha1.NetworkRange
		want   string
	}{
		"pods of IPv4":                   {on, v1alpha1.TunnelModeTunnel, []v1alpha1.NetworkRange{nodes, v4}, "169.254.83.53"},
		"pods of IPv6":                   {on, v1alpha1.TunnelModeTunnel, []v1alpha1.NetworkRange{nodes, v6}, "fd53::53"},
		"dual stack":                     {on, v1alpha1.TunnelModeTunnel, []v1alpha1.NetworkRange{v4, v6}, "169.254.83.53"},
		"nodes that do not answer":       {DNSConfig{}, v1alpha1.TunnelModeTunnel, []v1alpha1.NetworkRange{v4}, ""},
		"no agents":                      {on, v1alpha1.TunnelModeExternal, []v1alpha1.NetworkRange{v4}, ""},
		"it is not known what pods have": {on, v1alpha1.TunnelModeTunnel, nil, ""},
		"pods among nodes":               {on, v1alpha1.TunnelModeTunnel, []v1alpha1.NetworkRange{nodes}, "169.254.83.53"},
	} {
		t.Run(name, func(t *testing.T) {
			status := &v1alpha1.PeeringStatus{Tunnel: &v1alpha1.TunnelStatus{Local: &v1alpha1.ClusterNetwork{Ranges: row.ranges}}}
			var want *v1alpha1.TenantDNS
			if row.want != "" {
				want = &v1alpha1.TenantDNS{Nameservers: []string{row.want}, ClusterDomain: "cluster.local"}
			}
			got := row.config.tenantDNS(&v1alpha1.PeeringSpec{Tunnel: &v1alpha1.Tunnel{Mode: row.mode}}, status)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("announced (-want +got):\n%s", diff)
			}
		})
	}
	if got := on.tenantDNS(&v1alpha1.PeeringSpec{Tunnel: &v1alpha1.Tunnel{}}, &v1alpha1.PeeringStatus{}); got != nil {
		t.Errorf("before anything is known: %v", got)
	}
}

// TestAnnouncedDNS: a provider is not trusted to say what a pod can have.
func TestAnnouncedDNS(t *testing.T) {
	got, domain := announcedDNS(&v1alpha1.TenantDNS{Nameservers: []string{"169.254.83.53", "nonsense", "fe80::1%eth0"}, ClusterDomain: "cluster.local"})
	if want := []netip.Addr{netip.MustParseAddr("169.254.83.53")}; !slices.Equal(got, want) || domain != "cluster.local" {
		t.Errorf("%v %q", got, domain)
	}
	for _, dns := range []*v1alpha1.TenantDNS{nil, {Nameservers: []string{"169.254.83.53"}, ClusterDomain: "not a domain"}, {Nameservers: []string{"169.254.83.53"}}} {
		if got, domain := announcedDNS(dns); got != nil || domain != "" {
			t.Errorf("%v: %v %q", dns, got, domain)
		}
	}
}
