package tunnel

import (
	"fmt"
	"net/netip"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Config is everything of ours that this node's kernel is to hold. Items of one list are comparable and unordered.
type Config struct {
	Links     []Link
	Addresses []Address
	Neighbors []Neighbor
	Routes    []Route
	Rules     []Rule
	Devices   []Device
	Packets   Packets
}

// Link is a network device.
type Link struct {
	Name string
	// VXLAN says that it leads to the other nodes; else it is a WireGuard device.
	VXLAN bool
	// Dummy says that it leads nowhere and has addresses at which this node answers its own pods.
	Dummy bool
	MTU   int
	// Local is the outer source of a VXLAN link.
	Local netip.Addr
}

// Address is one of a Link.
type Address struct {
	Link string
	Addr netip.Prefix
}

// Neighbor is another node on the VXLAN link: Addr is the next hop of routes, MAC its link address, Node where the
// outer packets go.
type Neighbor struct {
	Addr netip.Addr
	MAC  string
	Node netip.Addr
}

// Route is one of ours: all carry routeProtocol and are in our tables.
type Route struct {
	Table int
	Dst   netip.Prefix
	Link  string
	Via   netip.Addr // zero: directly on the link
	Src   netip.Addr // zero: the kernel chooses
	MTU   int        // 0: that of the link
	// Metric: of two routes to one range the lower wins as long as its link is there.
	Metric int
}

// Rule selects a table.
type Rule struct {
	Priority int
	IPv6     bool
	Mark     uint32 // 0: any; else under markMask
	From     string // link by which the packet came; empty: any
	Table    int
}

// Device is the configuration of a WireGuard link.
type Device struct {
	Link  string
	Slot  int
	Key   wgtypes.Key
	Port  uint16
	Peers []DevicePeer
}

// DevicePeer is a peer of a Device. Allowed is sorted.
type DevicePeer struct {
	Peer     string
	Key      wgtypes.Key
	Endpoint netip.AddrPort // zero: its packets tell
	Allowed  []netip.Prefix
}

// Packets is what nftables does with packets. Every range and address is as its packet shows it where it is judged.
type Packets struct {
	// Resume lets TCP connections go on that connection tracking has just been made to forget: segments that do not
	// begin one pass although this node does not know who began.
	Resume bool
	// Devices are the WireGuard links of this node, Underlay the VXLAN link or "".
	Devices  []string
	Underlay string
	// Uplink is the link by which the node reaches others outside the VXLAN. Plan does not know it.
	Uplink string
	Own    []netip.Prefix // pods of this cluster
	// Self are this node's own addresses and those of its slots: probes are for them.
	Self  []netip.Addr
	Peers []PacketPeer
	// API endpoints; Service as peers address it per peer.
	API     []netip.AddrPort
	APIPort uint16
}

// PacketPeer is a peer as packets show it.
type PacketPeer struct {
	Name string
	// Remote are the ranges its packets come from, SlotRange that of its gateways' probes.
	Remote    []netip.Prefix
	SlotRange netip.Prefix
	Reachable []netip.Addr
	// Translate are our ranges that it sees as others, and its ranges, to whose packets that applies.
	Translate []Mapping
	// API is the address under which it sees our API server; zero: it may not.
	API netip.Addr
	// Slots is how many slots flows to it spread over; First says that our end comes first in the hash.
	Slots int
	First bool
}

func (l Link) String() string {
	if l.VXLAN {
		return fmt.Sprintf("ip link add %s type vxlan id %d dstport %d local %s nolearning mtu %d", l.Name, vxlanID, vxlanPort, l.Local, l.MTU)
	}
	if l.Dummy {
		return fmt.Sprintf("ip link add %s type dummy mtu %d", l.Name, l.MTU)
	}
	return fmt.Sprintf("ip link add %s type wireguard mtu %d", l.Name, l.MTU)
}

func (a Address) String() string { return fmt.Sprintf("ip address add %s dev %s", a.Addr, a.Link) }

func (n Neighbor) String() string {
	return fmt.Sprintf("ip neigh replace %s lladdr %s dev %s; bridge fdb replace %s dev %s dst %s", n.Addr, n.MAC, underlayLink, n.MAC, underlayLink, n.Node)
}

func (r Route) String() string {
	text := fmt.Sprintf("ip route add %s", r.Dst)
	if r.Via.IsValid() {
		text += fmt.Sprintf(" via %s", r.Via)
	}
	text += " dev " + r.Link
	if r.Via.IsValid() {
		text += " onlink"
	}
	if r.Src.IsValid() {
		text += fmt.Sprintf(" src %s", r.Src)
	}
	if r.MTU > 0 && r.Dst.Addr().Is6() {
		text += fmt.Sprintf(" mtu lock %d", r.MTU)
	} else if r.MTU > 0 {
		text += fmt.Sprintf(" mtu %d", r.MTU)
	}
	return text + fmt.Sprintf(" table %d metric %d proto %d", r.Table, r.Metric, routeProtocol)
}

func (r Rule) String() string {
	text := "ip rule add"
	if r.IPv6 {
		text = "ip -6 rule add"
	}
	if r.From != "" {
		text += " iif " + r.From
	}
	if r.Mark != 0 {
		text += fmt.Sprintf(" fwmark %#x/%#x", r.Mark, markMask)
	}
	return text + fmt.Sprintf(" lookup %d priority %d", r.Table, r.Priority)
}
