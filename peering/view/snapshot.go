// Package view is what the agent of one node must know of its cluster's peerings, read from the API as plain values: the
// nodes, the gateway slots and their keys, the peers with their ranges, and which of this node's pods a peer may reach.
// It also writes what the agent has to say: the measured paths, and who holds a slot. It knows nothing of how networks
// are joined.
//
//	v, err := view.New(view.Config{REST: config, Client: client, Node: "worker-1", Changed: wake})
//	go v.Run(ctx)
//	snapshot, ok := v.Snapshot()
package view

import (
	"net/netip"
)

// Snapshot is everything the agent of one node must know. Plain values; it belongs to the receiver and can be kept as
// JSON for a start without an API server (it then holds private keys).
type Snapshot struct {
	// ClusterID of this cluster; empty while no Peering has mode Tunnel.
	ClusterID string
	// Nodes of this cluster that are real, by name.
	Nodes []Node
	// Slots is how many gateway slots the cluster has.
	Slots int
	// Keys are the WireGuard private keys of the slots, base64, by slot; Gossip is the key of the gateways' membership.
	Keys   []string
	Gossip []byte
	// Pods and NodeRanges are this cluster's own ranges.
	Pods, NodeRanges []netip.Prefix
	// APIService is the address of Service default/kubernetes, APIEndpoints where the API servers listen.
	APIService   netip.AddrPort
	APIEndpoints []netip.AddrPort
	// DNS is where this cluster's own DNS answers, best first; only where this cluster shares.
	DNS []netip.AddrPort
	// Peers with mode Tunnel, by name.
	Peers []Peer
}

// Node is a real node of this cluster.
type Node struct {
	Name     string
	Addrs    []netip.Addr // internal, best first, at most one per family
	PodCIDRs []netip.Prefix
	Gateway  bool
}

// Mapping says that range Real of one cluster is seen as As by the other.
type Mapping struct {
	Real, As netip.Prefix
}

// Peer is another cluster.
type Peer struct {
	Name, ClusterID string
	Slots           []PeerSlot
	// Remote are the peer's ranges that this cluster's controller has judged.
	Remote []Mapping
	// SampleNodes are addresses of some nodes of the peer, real.
	SampleNodes []netip.Addr
	// Local are our ranges that the peer has judged.
	Local []Mapping
	// MTU is the largest packet that passes to this peer, bytes, as gateways last wrote; 0: not known.
	MTU int
	// Reachable are the addresses of this node's pods to which the peer may open connections, sorted.
	Reachable []netip.Addr
	// Shares says that the peer's pods may run here. Namespaces are then those it has here: its name to the name here; Twins
	// the addresses of this node's pods in them, sorted, without those on the host network.
	Shares     bool
	Namespaces map[string]string
	Twins      []netip.Addr
}

// PeerSlot is a gateway slot of a peer.
type PeerSlot struct {
	PublicKey    string   // base64
	UDP, TLS     []string // HOST:PORT, best first
	OurEndpoints bool     // this cluster announces an endpoint for its own slot: the peer can begin
}
