package main

import (
	"fmt"
	"net/netip"

	"github.com/spf13/pflag"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/peering"
	"github.com/spillway-dev/spillway/tunnel/names"
)

// mostGateways is how many gateway slots the API has room for.
const mostGateways = 8

// networkOptions are the flags about this cluster's network.
type networkOptions struct {
	gateways                             int
	podRanges, serviceRanges, aliasPools []string
	dns                                  bool
	clusterDomain                        string
}

func (o *networkOptions) addTo(f *pflag.FlagSet) {
	f.IntVar(&o.gateways, "gateways", 1, "how many of the nodes labelled spillway.dev/gateway carry the traffic of tunnels at a time, 1 to 8; the others stand by; 0: all. One is enough until it is the bottleneck")
	f.StringSliceVar(&o.podRanges, "pod-ranges", nil, "ranges of this cluster's pods, for example 10.244.0.0/16 (default: found from the podCIDRs of nodes)")
	f.StringSliceVar(&o.serviceRanges, "service-ranges", nil, "ranges of this cluster's Services, which no peer is seen as (default: found from its ServiceCIDRs)")
	f.StringSliceVar(&o.aliasPools, "alias-pools", nil, "IPv4 ranges from which ranges of peers that overlap others get an alias (default: 100.64.0.0/10, then 240.0.0.0/4)")
	f.BoolVar(&o.dns, "dns", true, "tell tenants that the nodes answer DNS under the names of their homes, as spillwayd node does with the same flag where there is a tunnel")
	f.StringVar(&o.clusterDomain, "cluster-domain", defaultClusterDomain, "domain of this cluster's Services, as its kubelets know it")
}

func (o *networkOptions) parse() (peering.NetworkConfig, error) {
	c := peering.NetworkConfig{Gateways: o.gateways}
	if o.gateways < 0 || o.gateways > mostGateways {
		return c, fmt.Errorf("--gateways %d: use 0 to %d", o.gateways, mostGateways)
	}
	for _, flag := range []struct {
		name  string
		texts []string
		to    *[]netip.Prefix
	}{{"pod-ranges", o.podRanges, &c.PodRanges}, {"service-ranges", o.serviceRanges, &c.ServiceRanges}, {"alias-pools", o.aliasPools, &c.AliasPools}} {
		for _, text := range flag.texts {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return c, fmt.Errorf("--%s %q: give ranges such as 10.244.0.0/16: %w", flag.name, text, err)
			}
			if flag.name == "alias-pools" && !p.Addr().Is4() {
				return c, fmt.Errorf("--%s %s: give IPv4 ranges; IPv6 aliases are made from the peer's id", flag.name, text)
			}
			*flag.to = append(*flag.to, p.Masked())
		}
	}
	if o.dns {
		c.DNS = peering.DNSConfig{Nameservers: []netip.Addr{names.Address4(), names.Address6()}, Domain: o.clusterDomain}
		if err := checkDomain(o.clusterDomain); err != nil {
			return c, err
		}
	}
	if err := address.Check(address.Merge(c.PodRanges)); err != nil {
		return c, fmt.Errorf("--pod-ranges: %w", err)
	}
	return c, nil
}
