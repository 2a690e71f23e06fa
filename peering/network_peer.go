package peering

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// networkConfigMap is where a tenant says what its network is, under the key networkKey, as JSON.
	networkConfigMap = "network"
	networkKey       = "network.json"
	// mostNetworkBytes is far above what 64 ranges and 8 gateways take.
	mostNetworkBytes = 64 << 10
)

// errNetwork: what a peer says of its network cannot be.
var errNetwork = errors.New("the peer's network is not accepted")

// parseNetwork reads what a tenant wrote. Nil when it has not written anything; the error is an errNetwork.
func parseNetwork(text string) (*v1alpha1.ClusterNetwork, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > mostNetworkBytes {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", errNetwork, len(text), mostNetworkBytes)
	}
	var n v1alpha1.ClusterNetwork
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return nil, fmt.Errorf("%w: %v", errNetwork, err)
	}
	return &n, checkNetwork(&n)
}

// checkNetwork refuses what a peer cannot mean, and whatever the API would refuse in spec.tunnel.remote. The peer is not
// trusted. The error is an errNetwork.
func checkNetwork(n *v1alpha1.ClusterNetwork) error {
	for _, check := range []func(*v1alpha1.ClusterNetwork) error{checkRanges, checkGateways, checkAliases} {
		if err := check(n); err != nil {
			return fmt.Errorf("%w: %w", errNetwork, err)
		}
	}
	return nil
}

func checkRanges(n *v1alpha1.ClusterNetwork) error {
	var all []netip.Prefix
	for _, r := range n.Ranges {
		p, err := netip.ParsePrefix(r.CIDR)
		if err != nil || p.String() != r.CIDR {
			return fmt.Errorf("range %q is not written as a range is", r.CIDR)
		}
		switch r.Kind {
		case v1alpha1.RangePods, v1alpha1.RangeNodes:
		case v1alpha1.RangeAPI:
			if !p.IsSingleIP() {
				return fmt.Errorf("range %s of the API server is more than one address", p)
			}
		default:
			return fmt.Errorf("range %s is of unknown kind %q", p, r.Kind)
		}
		all = append(all, p)
	}
	return address.Check(all)
}

func checkGateways(n *v1alpha1.ClusterNetwork) error {
	if len(n.Gateways) > v1alpha1.MaxSlots || len(n.SampleNodes) > mostSamples {
		return fmt.Errorf("more than %d gateways or %d nodes", v1alpha1.MaxSlots, mostSamples)
	}
	for slot, g := range n.Gateways {
		if key, err := base64.StdEncoding.DecodeString(g.PublicKey); err != nil || len(key) != secretBytes {
			return fmt.Errorf("the key of gateway slot %d is no key", slot)
		}
		for _, list := range [][]string{g.Endpoints, g.TLSEndpoints} {
			if len(list) > mostEndpoints {
				return fmt.Errorf("gateway slot %d has more than %d endpoints", slot, mostEndpoints)
			}
			for _, e := range list {
				if err := checkEndpoint(e); err != nil {
					return err
				}
			}
		}
	}
	for i, text := range n.SampleNodes {
		if a, err := netip.ParseAddr(text); err != nil || a.String() != text || slices.Contains(n.SampleNodes[:i], text) {
			return fmt.Errorf("node address %q is none, or is there twice", text)
		}
	}
	return nil
}

func checkEndpoint(e string) error {
	const longest = 261 // a DNS name, a colon, a port
	host, port, err := net.SplitHostPort(e)
	number, notNumber := strconv.ParseUint(port, 10, 16)
	if err != nil || notNumber != nil || number == 0 || host == "" || len(e) > longest {
		return fmt.Errorf("endpoint %.80q is not of the form HOST:PORT", e)
	}
	return nil
}

func checkAliases(n *v1alpha1.ClusterNetwork) error {
	if len(n.Aliases) > address.MaxRanges || len(n.SeenRanges) > address.MaxRanges {
		return fmt.Errorf("more than %d aliases", address.MaxRanges)
	}
	var list []address.Alias
	for _, a := range n.Aliases {
		parsed, err := parseAlias(a)
		if err != nil {
			return err
		}
		list = append(list, parsed)
	}
	if _, err := address.NewTable(list); err != nil {
		return err
	}
	if len(n.TakenRanges) > address.MaxRanges {
		return fmt.Errorf("more than %d ranges that are taken", address.MaxRanges)
	}
	for _, list := range [][]string{n.SeenRanges, n.TakenRanges} {
		for i, text := range list {
			if _, err := netip.ParsePrefix(text); err != nil || slices.Contains(list[:i], text) {
				return fmt.Errorf("range %.50q is none, or is there twice", text)
			}
		}
	}
	return nil
}

func parseAlias(a v1alpha1.Alias) (address.Alias, error) {
	from, errFrom := netip.ParsePrefix(a.Range)
	as, errAs := netip.ParsePrefix(a.As)
	if err := errors.Join(errFrom, errAs); err != nil {
		return address.Alias{}, fmt.Errorf("alias of %.50q as %.50q: %w", a.Range, a.As, err)
	}
	return address.Alias{Range: from.Masked(), As: as.Masked()}, nil
}

// parseAliases passes over what is none: the API server has refused most of that before.
func parseAliases(list []v1alpha1.Alias) []address.Alias {
	var out []address.Alias
	for _, a := range list {
		if parsed, err := parseAlias(a); err == nil {
			out = append(out, parsed)
		}
	}
	return out
}

// joined says whether Spillway joins the networks of a Peering.
func joined(spec *v1alpha1.PeeringSpec) bool {
	return spec.Tunnel != nil && (spec.Tunnel.Mode == v1alpha1.TunnelModeTunnel || spec.Tunnel.Mode == "")
}

// seenAs says as what the addresses of a Peering's peer are seen here: nil (as they are) without a tunnel of ours. An
// address in no range that is known and has an alias is not seen at all: nothing of the peer is reached there, and here
// it may be the address of something else.
func seenAs(spec *v1alpha1.PeeringSpec) *address.Table {
	if !joined(spec) {
		return nil
	}
	var list []address.Alias
	if remote := spec.Tunnel.Remote; remote != nil {
		list = slices.DeleteFunc(parseAliases(spec.Tunnel.Aliases), func(a address.Alias) bool {
			return !slices.ContainsFunc(remote.Ranges, func(r v1alpha1.NetworkRange) bool { return r.CIDR == a.Range.String() })
		})
	}
	table, err := address.NewTable(list)
	if err != nil {
		return &address.Table{} // a condition says so
	}
	return table
}

// ownSeenAs says as what the peer of a Peering sees addresses of here: nil (as they are) without a tunnel of ours. What the
// peer has not judged yet it does not see.
func ownSeenAs(spec *v1alpha1.PeeringSpec) *address.Table {
	if !joined(spec) {
		return nil
	}
	if spec.Tunnel.Remote == nil {
		return &address.Table{}
	}
	list := parseAliases(spec.Tunnel.Remote.Aliases)
	for _, text := range spec.Tunnel.Remote.SeenRanges {
		r, err := netip.ParsePrefix(text)
		if err == nil && !slices.ContainsFunc(list, func(a address.Alias) bool { return a.Range == r.Masked() }) {
			list = append(list, address.Alias{Range: r.Masked(), As: r.Masked()})
		}
	}
	table, err := address.NewTable(list)
	if err != nil {
		return &address.Table{} // a condition says so
	}
	return table
}

// ownPods are the ranges, sorted, in which nobody but pods of here has addresses; none while not known.
func ownPods(p *v1alpha1.Peering) []netip.Prefix {
	if p.Status.Tunnel == nil || p.Status.Tunnel.Local == nil {
		return nil
	}
	var out []netip.Prefix
	for _, r := range p.Status.Tunnel.Local.Ranges {
		if cidr, err := netip.ParsePrefix(r.CIDR); err == nil && r.Kind == v1alpha1.RangePods {
			out = append(out, cidr.Masked())
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// ownAPI is where the peer of a Peering reaches the API server of here; not valid while not known.
func ownAPI(p *v1alpha1.Peering, own *address.Table) netip.AddrPort {
	if own == nil || p.Status.Tunnel == nil || p.Status.Tunnel.Local == nil {
		return netip.AddrPort{}
	}
	for _, r := range p.Status.Tunnel.Local.Ranges {
		at, err := netip.ParsePrefix(r.CIDR)
		if r.Kind != v1alpha1.RangeAPI || err != nil {
			continue
		}
		if there, ok := own.Map(at.Addr()); ok {
			return netip.AddrPortFrom(there, apiPort)
		}
	}
	return netip.AddrPort{}
}

// apiPort is that of Service default/kubernetes, everywhere.
const apiPort = 443

// apiAddress is where the peer's API server is reached through the tunnel; empty while not known.
func apiAddress(spec *v1alpha1.PeeringSpec) string {
	table := seenAs(spec)
	if table == nil || spec.Tunnel.Remote == nil {
		return ""
	}
	for _, r := range spec.Tunnel.Remote.Ranges {
		p, err := netip.ParsePrefix(r.CIDR)
		if r.Kind != v1alpha1.RangeAPI || err != nil {
			continue
		}
		if here, ok := table.Map(p.Addr()); ok {
			return netip.AddrPortFrom(here, apiPort).String()
		}
	}
	return ""
}
