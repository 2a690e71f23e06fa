package view

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// input is what the caches hold. Only read.
type input struct {
	self      string // name of the node
	peerings  []*v1alpha1.Peering
	nodes     []*corev1.Node
	secret    *corev1.Secret               // nil: not there
	pods      []*corev1.Pod                // of this node, with an origin
	dns       []*corev1.Service            // of the cluster's DNS
	slices    []*discoveryv1.EndpointSlice // of namespaces that may leave
	apiSlices []*discoveryv1.EndpointSlice // of default/kubernetes
}

// build makes the Snapshot. Pure. Values that do not parse are left out: the controller says so in the conditions.
func build(in input) Snapshot {
	s := Snapshot{Nodes: nodesOf(in.nodes)}
	tunnels := slices.DeleteFunc(slices.Clone(in.peerings), func(p *v1alpha1.Peering) bool { return !joined(p) })
	if len(tunnels) == 0 {
		return s
	}
	slices.SortFunc(tunnels, func(a, b *v1alpha1.Peering) int { return cmp.Compare(a.Name, b.Name) })
	if in.secret != nil {
		s.Gossip = in.secret.Data[secretGossip]
		for slot := 0; ; slot++ {
			key, ok := in.secret.Data[fmt.Sprintf("%s%d", secretSlotPrefix, slot)]
			if !ok {
				break
			}
			s.Keys = append(s.Keys, string(key))
		}
	}
	first := tunnels[0].Status
	s.ClusterID = first.ClusterID
	for _, p := range tunnels {
		s.Slots = max(s.Slots, len(p.Status.Tunnel.Local.Gateways))
	}
	s.ownRanges(first.Tunnel.Local.Ranges)
	s.APIEndpoints = apiEndpoints(in.apiSlices)
	s.DNS = dnsOf(in.dns)
	for _, p := range tunnels {
		s.Peers = append(s.Peers, peerOf(p, in, s))
	}
	return s
}

// joined says that the tunnel of a Peering is ours to keep. One that is being deleted has it until it is gone: what its
// peer still runs may have to be taken away through it.
func joined(p *v1alpha1.Peering) bool {
	t := p.Spec.Tunnel
	return t != nil && (t.Mode == v1alpha1.TunnelModeTunnel || t.Mode == "") &&
		p.Status.ClusterID != "" && p.Status.Tunnel != nil && p.Status.Tunnel.Local != nil
}

func nodesOf(nodes []*corev1.Node) []Node {
	var out []Node
	for _, n := range nodes {
		if _, virtual := n.Labels[v1alpha1.LabelPeer]; virtual {
			continue
		}
		node := Node{Name: n.Name}
		_, node.Gateway = n.Labels[LabelGateway]
		for _, a := range n.Status.Addresses {
			addr, err := netip.ParseAddr(a.Address)
			same := func(b netip.Addr) bool { return b.Is4() == addr.Is4() }
			if a.Type == corev1.NodeInternalIP && err == nil && !slices.ContainsFunc(node.Addrs, same) {
				node.Addrs = append(node.Addrs, addr)
			}
		}
		for _, cidr := range n.Spec.PodCIDRs {
			if p, err := netip.ParsePrefix(cidr); err == nil {
				node.PodCIDRs = append(node.PodCIDRs, p.Masked())
			}
		}
		if len(node.Addrs) > 0 {
			out = append(out, node)
		}
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (s *Snapshot) ownRanges(ranges []v1alpha1.NetworkRange) {
	for _, r := range ranges {
		p, err := netip.ParsePrefix(r.CIDR)
		if err != nil {
			continue
		}
		switch r.Kind {
		case v1alpha1.RangePods:
			s.Pods = append(s.Pods, p)
		case v1alpha1.RangeNodes:
			s.NodeRanges = append(s.NodeRanges, p)
		case v1alpha1.RangeAPI:
			s.APIService = netip.AddrPortFrom(p.Addr(), apiPort)
		}
	}
}

// apiPort is that of Service default/kubernetes, everywhere.
const apiPort = 443

func apiEndpoints(apiSlices []*discoveryv1.EndpointSlice) []netip.AddrPort {
	var out []netip.AddrPort
	for _, slice := range apiSlices {
		port := int32(0)
		for _, p := range slice.Ports {
			if p.Port != nil {
				port = *p.Port
			}
		}
		for _, e := range slice.Endpoints {
			for _, a := range e.Addresses {
				if addr, err := netip.ParseAddr(a); err == nil && port > 0 {
					out = append(out, netip.AddrPortFrom(addr, uint16(port)))
				}
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

func peerOf(p *v1alpha1.Peering, in input, s Snapshot) Peer {
	peer := Peer{Name: p.Name, ClusterID: p.Spec.ClusterID, Shares: p.Spec.Share != nil}
	if peer.Shares {
		peer.Namespaces, peer.Twins = tenantOf(p, in.pods)
	}
	local, remote := p.Status.Tunnel.Local, p.Spec.Tunnel.Remote
	if remote == nil {
		return peer
	}
	for k, g := range remote.Gateways {
		slot := PeerSlot{PublicKey: g.PublicKey, UDP: g.Endpoints, TLS: g.TLSEndpoints}
		slot.OurEndpoints = k < len(local.Gateways) && len(local.Gateways[k].Endpoints) > 0
		peer.Slots = append(peer.Slots, slot)
	}
	peer.Remote = judged(remote.Ranges, local.SeenRanges, p.Spec.Tunnel.Aliases)
	for _, text := range remote.SampleNodes {
		if addr, err := netip.ParseAddr(text); err == nil {
			peer.SampleNodes = append(peer.SampleNodes, addr)
		}
	}
	peer.Local = judged(local.Ranges, remote.SeenRanges, remote.Aliases)
	peer.Reachable = reachable(p, in, s)
	for _, path := range p.Status.Tunnel.Paths {
		if path.Up && path.MTU > 0 && (peer.MTU == 0 || int(path.MTU) < peer.MTU) {
			peer.MTU = int(path.MTU)
		}
	}
	return peer
}

// judged maps the ranges that the other side has judged to what it sees them as. A range it has not judged yet could
// overlap one of its own: nothing may be done with it.
func judged(ranges []v1alpha1.NetworkRange, seen []string, aliases []v1alpha1.Alias) []Mapping {
	var out []Mapping
	for _, r := range ranges {
		real, err := netip.ParsePrefix(r.CIDR)
		if err != nil || !slices.Contains(seen, r.CIDR) {
			continue
		}
		m := Mapping{Real: real.Masked(), As: real.Masked()}
		for _, a := range aliases {
			if as, err := netip.ParsePrefix(a.As); err == nil && a.Range == r.CIDR && as.Bits() == real.Bits() {
				m.As = as.Masked()
			}
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Mapping) int { return a.Real.Compare(b.Real) })
	return out
}

// reachable lists the addresses of this node's pods that the peer may reach: the twins of its pods, and, where we borrow
// from it, the endpoints of our Services that its pods may use.
func reachable(p *v1alpha1.Peering, in input, s Snapshot) []netip.Addr {
	var out []netip.Addr
	add := func(text string) {
		addr, err := netip.ParseAddr(text)
		if err == nil && slices.ContainsFunc(s.Pods, func(r netip.Prefix) bool { return r.Contains(addr) }) {
			out = append(out, addr)
		}
	}
	if p.Spec.Share != nil {
		for _, pod := range in.pods {
			if pod.Labels[v1alpha1.LabelOrigin] != p.Spec.ClusterID || pod.Spec.HostNetwork {
				continue
			}
			for _, ip := range pod.Status.PodIPs {
				add(ip.IP)
			}
		}
	}
	if p.Spec.Borrow != nil {
		for _, slice := range in.slices {
			for _, e := range slice.Endpoints {
				if e.NodeName != nil && *e.NodeName == in.self {
					for _, a := range e.Addresses {
						add(a)
					}
				}
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
