package tunnel

import (
	"crypto/sha256"
	"net/netip"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Topology is what one node must know to take its part in joining the networks of its cluster's peers. Plain values;
// its receiver only reads it.
type Topology struct {
	// ClusterID of this cluster.
	ClusterID string
	// Self is the name of this node. It is among Nodes.
	Self string
	// Nodes of this cluster.
	Nodes []Node
	// Slots are the places of active gateways. The index is the slot's number.
	Slots []Slot
	// Peers of mode Tunnel. Their Remote ranges, as seen here, do not overlap each other nor our own.
	Peers []Peer
	// Pods and NodeRanges are this cluster's own ranges.
	Pods, NodeRanges []netip.Prefix
	// API is this cluster's API server as peers may reach it. Zero: they may not.
	API API
	// Answer are addresses at which this node itself answers its pods, each reachable on the node only.
	Answer []netip.Addr
	// Port is the UDP port of slot 0; slot k listens on Port+k on every node that holds it.
	Port uint16
}

// Node is a node of this cluster.
type Node struct {
	Name string
	// Addrs are its internal addresses, at most one per family. Other nodes reach it there.
	Addrs []netip.Addr
	// Gateway says that it may hold slots.
	Gateway bool
	// PodCIDRs are its part of the pod ranges; empty when the CNI does not divide them by node.
	PodCIDRs []netip.Prefix
}

// Slot is the place of an active gateway. Its key stays when another node takes it.
type Slot struct {
	// Holder is the name of the node that fills the slot; empty: nobody.
	Holder string
	// PrivateKey of the slot. Needed on the holder only.
	PrivateKey wgtypes.Key
}

// Peer is another cluster.
type Peer struct {
	// Name of the peering; unique.
	Name string
	// ClusterID of the peer; unique.
	ClusterID string
	// Slots of the peer by number. Slot k speaks with our slot k; what only one side has carries nothing.
	Slots []PeerSlot
	// Remote are the peer's ranges: Real there, As here.
	Remote []Mapping
	// Local are our ranges that the peer may address: Real here, As there.
	Local []Mapping
	// MTU is the largest packet that passes inside the tunnel, bytes; 0: not known, BaseMTU is used.
	MTU int
	// Reachable are the addresses of this node's pods (real) to which the peer may open connections.
	Reachable []netip.Addr
}

// PeerSlot is a gateway slot of a peer.
type PeerSlot struct {
	PublicKey wgtypes.Key
	// Endpoint to send to. The zero value: the peer begins, and its packets tell.
	Endpoint netip.AddrPort
}

// Mapping says that the addresses of range Real are seen as those of range As elsewhere: same size, host bits stay.
// Real == As where nothing overlaps.
type Mapping struct{ Real, As netip.Prefix }

// API is an API server behind a service address.
type API struct {
	// Service is the cluster-wide address of Service default/kubernetes, real.
	Service netip.AddrPort
	// Endpoints are where its API servers listen.
	Endpoints []netip.AddrPort
}

// BaseMTU passes inside every tunnel over a path that carries IPv6's least packet of 1280 bytes.
const BaseMTU = 1200

// ProbePort is the UDP port of probes, on slot addresses and nodes.
const ProbePort = 51899

// SlotAddr is the address of a gateway slot inside the tunnel: from fd00::/8, computed alike by everyone from the id of
// its cluster (RFC 4193 with the hash of the id as the random part), so that nobody has to agree on it.
func SlotAddr(clusterID string, slot int) netip.Addr {
	sum := sha256.Sum256([]byte("spillway slot address\n" + clusterID))
	a := [16]byte{0: 0xfd, 15: byte(slot + 1)}
	copy(a[1:8], sum[:7])
	return netip.AddrFrom16(a)
}
