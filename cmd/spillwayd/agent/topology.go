package agent

import (
	"net/netip"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/peering/view"
	"github.com/spillway-dev/spillway/tunnel"
	"github.com/spillway-dev/spillway/tunnel/endpoint"
	"github.com/spillway-dev/spillway/tunnel/probe"
)

// facts is what a Topology is made of beside the Snapshot.
type facts struct {
	self    string
	port    uint16
	holders []string // by slot; empty: nobody
	// endpoint to send to, and MTU as probed; zero: not known. Asked for slots that this node holds only.
	endpoint func(peer string, slot int) netip.AddrPort
	mtu      func(peer view.Peer) int
	answer   []netip.Addr // where this node answers its pods
}

// topology turns what the API says and what was measured into what the tunnel engine is to build. Pure.
func topology(s view.Snapshot, f facts) tunnel.Topology {
	t := tunnel.Topology{
		ClusterID: s.ClusterID, Self: f.self, Pods: s.Pods, NodeRanges: s.NodeRanges, Port: f.port, Answer: f.answer,
		API: tunnel.API{Service: s.APIService, Endpoints: s.APIEndpoints},
	}
	for _, n := range s.Nodes {
		t.Nodes = append(t.Nodes, tunnel.Node{Name: n.Name, Addrs: n.Addrs, PodCIDRs: n.PodCIDRs, Gateway: n.Gateway})
	}
	for k := range s.Slots {
		slot := tunnel.Slot{}
		if k < len(f.holders) {
			slot.Holder = f.holders[k]
		}
		if slot.Holder == f.self && k < len(s.Keys) {
			slot.PrivateKey, _ = wgtypes.ParseKey(s.Keys[k]) // a key that is none leaves the slot dark, and the probes say so
		}
		t.Slots = append(t.Slots, slot)
	}
	for _, p := range s.Peers {
		t.Peers = append(t.Peers, peerOf(p, t, f))
	}
	return t
}

func peerOf(p view.Peer, t tunnel.Topology, f facts) tunnel.Peer {
	peer := tunnel.Peer{
		Name: p.Name, ClusterID: p.ClusterID, MTU: f.mtu(p), Reachable: p.Reachable,
		Remote: mappings(p.Remote), Local: mappings(p.Local),
	}
	for k, slot := range p.Slots {
		key, err := wgtypes.ParseKey(slot.PublicKey)
		if err != nil {
			break // the numbers of slots must not shift
		}
		ps := tunnel.PeerSlot{PublicKey: key}
		if k < len(t.Slots) && t.Slots[k].Holder == f.self {
			ps.Endpoint = f.endpoint(p.Name, k)
		}
		peer.Slots = append(peer.Slots, ps)
	}
	return peer
}

func mappings(in []view.Mapping) []tunnel.Mapping {
	out := make([]tunnel.Mapping, 0, len(in))
	for _, m := range in {
		out = append(out, tunnel.Mapping(m))
	}
	return out
}

// path is one tunnel that this node keeps: a peer and a slot that both clusters have and this node holds.
type path struct {
	peer view.Peer
	slot int
}

// paths lists the tunnels of the slots that this node holds.
func paths(s view.Snapshot, f facts) []path {
	var out []path
	for k, holder := range f.holders {
		if holder != f.self || k >= s.Slots {
			continue
		}
		for _, p := range s.Peers {
			if k < len(p.Slots) {
				out = append(out, path{p, k})
			}
		}
	}
	return out
}

// begins says which side of a pair sends the probes: the one that knows where to send to; of two, the smaller id. Both
// sides come to the same answer.
func begins(self string, p view.Peer, slot int) bool {
	ps := p.Slots[slot]
	weKnow, theyKnow := len(ps.UDP)+len(ps.TLS) > 0, ps.OurEndpoints
	if weKnow != theyKnow {
		return weKnow
	}
	return self < p.ClusterID
}

// targets are the probes of this node: one per tunnel it keeps, and a node of each peer as a sample of everything
// between nodes.
func targets(s view.Snapshot, f facts, maxMTU func(probe.Key) int) []probe.Target {
	var out []probe.Target
	for _, p := range paths(s, f) {
		key := probe.Key{Peer: p.peer.Name, Slot: p.slot}
		out = append(out, probe.Target{
			Key:   key,
			Local: tunnel.SlotAddr(s.ClusterID, p.slot), Remote: tunnel.SlotAddr(p.peer.ClusterID, p.slot),
			Initiate: begins(s.ClusterID, p.peer, p.slot), MaxMTU: maxMTU(key),
		})
	}
	for _, p := range s.Peers {
		if t, ok := sample(s, f.self, p); ok {
			out = append(out, t)
		}
	}
	return out
}

// sources are the ranges whose probes this node answers: nodes of peers sample nodes of ours.
func sources(s view.Snapshot) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s.Peers {
		for _, m := range p.Remote {
			out = append(out, m.As)
		}
	}
	return out
}

// sample picks one node of the peer for this node, so that the nodes of a cluster spread over those of the peer.
func sample(s view.Snapshot, self string, p view.Peer) (probe.Target, bool) {
	number := 0
	var local netip.Addr
	for i, n := range s.Nodes {
		if n.Name == self {
			number, local = i, n.Addrs[0]
		}
	}
	for i := range p.SampleNodes {
		remote, ok := seenAs(p.Remote, p.SampleNodes[(number+i)%len(p.SampleNodes)])
		if ok && local.IsValid() && remote.Is4() == local.Is4() {
			return probe.Target{Key: probe.Key{Peer: p.Name, Slot: sampleSlot}, Local: local, Remote: remote, Initiate: true, MaxMTU: p.MTU}, true
		}
	}
	return probe.Target{}, false
}

// sampleSlot is the number under which the sample of a peer's nodes is probed.
const sampleSlot = -1

// seenAs gives the address under which this cluster sees an address of the peer.
func seenAs(remote []view.Mapping, a netip.Addr) (netip.Addr, bool) {
	for _, m := range remote {
		if as, ok := address.Map(a, m.Real, m.As); ok {
			return as, true
		}
	}
	return netip.Addr{}, false
}

// candidates are where the gateways of a peer may be reached.
func candidates(p path) endpoint.Candidates {
	slot := p.peer.Slots[p.slot]
	return endpoint.Candidates{UDP: slot.UDP, TLS: slot.TLS}
}
