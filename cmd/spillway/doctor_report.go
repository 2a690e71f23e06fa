package main

import (
	"slices"
	"time"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// agentPort is where the agent of a node answers. The API server leads there: nodes/NODE:9640/proxy.
const agentPort = 9640

// nodeReport is what the agent of a node says, as far as it is read here.
type nodeReport struct {
	Node     string       `json:"node"`
	Cluster  string       `json:"cluster"`
	Kernel   bool         `json:"kernel"` // WireGuard of the kernel; else that inside the agent
	Gateway  bool         `json:"gateway"`
	Slots    []int        `json:"slots"` // that the node holds
	MTU      int          `json:"mtu"`   // the largest inner packet that the node's underlay allows
	Members  []string     `json:"members"`
	Tunnel   tunnelReport `json:"tunnel"`
	Paths    []pathReport `json:"paths"`   // of the slots it holds
	Samples  []pathReport `json:"samples"` // from this node to nodes of peers
	Problems []string     `json:"problems"`
}

// tunnelReport is what is really installed in the kernel of a node.
type tunnelReport struct {
	Links     []string        `json:"links"` // as an operator would type them
	Missing   []string        `json:"missing"`
	Peers     []peerReport    `json:"peers"`
	Refused   []refusedReport `json:"refused"`
	Repairs   uint64          `json:"repairs"`
	LastError string          `json:"lastError"`
}

// peerReport is a peer on a WireGuard device.
type peerReport struct {
	Peer      string `json:"peer"` // name of the Peering
	Slot      int    `json:"slot"`
	PublicKey string `json:"publicKey"`
}

// Reasons of refusedReport.
const (
	refusedByFilter    = "Filter"    // to an address that the peer may not reach
	refusedByHandshake = "Handshake" // by a WireGuard device: a key it does not know
)

// refusedReport counts packets that were refused since the agent started.
type refusedReport struct {
	Peer    string `json:"peer"` // empty: not known
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

// pathReport is one path that the agent measures.
type pathReport struct {
	Peer          string `json:"peer"`
	Slot          int    `json:"slot"`
	Remote        string `json:"remote"` // address that is probed
	Up            bool   `json:"up"`
	Ever          bool   `json:"ever"`
	LargeLost     bool   `json:"largeLost"`
	Transport     string `json:"transport"`
	Endpoint      string `json:"endpoint"`
	RTTMicros     int64  `json:"rttMicros"`
	LossPercent   int    `json:"lossPercent"`
	MTU           int    `json:"mtu"`
	RxBytes       uint64 `json:"rxBytes"`
	TxBytes       uint64 `json:"txBytes"`
	HandshakeUnix int64  `json:"handshakeUnix"`
}

// inspection is everything that the checks look at. Plain values.
type inspection struct {
	now   time.Time
	sides []sideView // the local one first; the other one only if it was looked at
	pods  *podTrips  // nil: not asked for
}

// sideView is one cluster of the pair.
type sideView struct {
	context  string
	peering  *v1alpha1.Peering // nil: it has none for the other
	idle     string            // why no controller works; empty: one does
	nodes    []nodeView        // real ones, by name
	networks []string          // what seems to make the pod network (CNI)
	names    []nameView        // DNS names among the peer's endpoints that this cluster uses
}

// nodeView is one node.
type nodeView struct {
	name     string
	ready    bool
	gateway  bool
	kernel   string // version
	podCIDRs []string
	report   *nodeReport // nil: see why
	why      string
}

// nameView is a DNS name of an endpoint.
type nameView struct{ name, err string }

// podTrips is what two small pods say of each other.
type podTrips struct {
	err           string // why they could not be made; empty: they were
	there, back   string // errors; empty: it works
	thereRTTMicro float64
}

// mode is the tunnel mode of the pair as the first side has it.
func (in inspection) mode() v1alpha1.TunnelMode {
	if len(in.sides) == 0 {
		return v1alpha1.TunnelModeOff
	}
	return modeOf(in.sides[0].peering)
}

// pair returns both sides, if both were looked at.
func (in inspection) pair() (a, b sideView, ok bool) {
	if len(in.sides) != 2 {
		return sideView{}, sideView{}, false
	}
	return in.sides[0], in.sides[1], true
}

// slots is how many paths there are: slots that both clusters have, as far as all sides know.
func (in inspection) slots() int {
	slots := v1alpha1.MaxSlots
	for _, s := range in.sides {
		for _, network := range []*v1alpha1.ClusterNetwork{localOf(s.peering), remoteOf(s.peering)} {
			if network == nil {
				return 0
			}
			slots = min(slots, len(network.Gateways))
		}
	}
	return slots
}

// holders are the nodes that say they hold a slot.
func (s sideView) holders(slot int) []nodeView {
	return slices.DeleteFunc(slices.Clone(s.nodes), func(n nodeView) bool {
		return n.report == nil || !slices.Contains(n.report.Slots, slot)
	})
}

// path is what the holder of a slot says of its path to the other side; nil: nothing.
func (s sideView) path(slot int) *pathReport {
	for _, holder := range s.holders(slot) {
		for i := range holder.report.Paths {
			if path := &holder.report.Paths[i]; path.Peer == s.peering.Name && path.Slot == slot {
				return path
			}
		}
	}
	return nil
}

// refused is how many packets the nodes refused for a reason, of the peer or of somebody unknown.
func (s sideView) refused(reason string) uint64 {
	var packets uint64
	for _, n := range s.nodes {
		if n.report == nil {
			continue
		}
		for _, r := range n.report.Tunnel.Refused {
			if r.Reason == reason && (r.Peer == s.peering.Name || r.Peer == "") {
				packets += r.Packets
			}
		}
	}
	return packets
}

// silent says whether no agent answered at all.
func (in inspection) silent() bool {
	for _, s := range in.sides {
		if slices.ContainsFunc(s.nodes, func(n nodeView) bool { return n.report != nil }) {
			return false
		}
	}
	return true
}

// gateways are the names of the nodes labelled so.
func (s sideView) gateways() []string {
	var names []string
	for _, n := range s.nodes {
		if n.gateway {
			names = append(names, n.name)
		}
	}
	return names
}
