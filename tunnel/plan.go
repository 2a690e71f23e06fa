package tunnel

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Numbers by which everything of ours is found again.
const (
	underlayLink  = "spillway-vx"
	vxlanID       = 5380
	vxlanPort     = 5380
	routeProtocol = 83

	tableMain = 5380 // to peers, whatever the mark
	tableSlot = 5381 // + slot: to peers, for flows of that slot
	tableBack = 5379 // from a WireGuard link to pods of other nodes

	metricFirst  = 100
	metricSecond = 200 // taken when the link of the first is gone

	priorityBack = 5360 // + slot
	prioritySlot = 5370 // + slot
	priorityMain = 5380

	markMask  = 0x70
	markShift = 4
	// MaxSlots is how many slots a mark can tell apart.
	MaxSlots = 7

	vxlanOverhead4, vxlanOverhead6 = 50, 70
	wireguardOverhead4             = 60
	wireguardOverhead6             = 80
)

// someAddress is on all our links, with the scope of the link so that nothing is ever sent from it: a link without any
// address of IPv4 takes no packet whose way back leads elsewhere, even with a loose reverse path filter.
func someAddress() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, 83, 80}), 32)
}

// DeviceName is the WireGuard link of a slot.
func DeviceName(slot int) string { return fmt.Sprintf("spillway%d", slot) }

// InnerMTU is the largest packet that fits a tunnel over an underlay of that MTU, bytes. A node that has IPv6 may have
// to send over it.
func InnerMTU(underlayMTU int, addrs []netip.Addr) int {
	if slices.ContainsFunc(addrs, netip.Addr.Is6) {
		return underlayMTU - wireguardOverhead6
	}
	return underlayMTU - wireguardOverhead4
}

// Plan says what a node is to have. Pure. underlayMTU is that of the link by which the node reaches others, bytes. A
// Topology without peers gives an empty Config.
func Plan(t Topology, underlayMTU int) Config {
	p := planner{t: t, underlay: underlayMTU}
	i := slices.IndexFunc(t.Nodes, func(n Node) bool { return n.Name == t.Self })
	if len(t.Peers) == 0 || i < 0 || len(t.Nodes[i].Addrs) == 0 {
		return Config{}
	}
	p.self = t.Nodes[i]
	p.links()
	p.answer()
	for _, peer := range t.Peers {
		p.peerRoutes(peer)
	}
	p.backRoutes()
	p.rules()
	p.packets()
	return p.c
}

type planner struct {
	t        Topology
	self     Node
	underlay int
	held     []int
	c        Config
}

func (p *planner) node(name string) (Node, bool) {
	i := slices.IndexFunc(p.t.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return p.t.Nodes[i], len(p.t.Nodes[i].Addrs) > 0
}

// links plans the devices of held slots and the way to the other nodes.
func (p *planner) links() {
	for k, slot := range p.t.Slots {
		if slot.Holder != p.t.Self || k >= MaxSlots {
			continue
		}
		p.held = append(p.held, k)
		name := DeviceName(k)
		p.c.Links = append(p.c.Links, Link{Name: name, MTU: InnerMTU(p.underlay, p.self.Addrs)})
		p.c.Addresses = append(p.c.Addresses, Address{name, netip.PrefixFrom(SlotAddr(p.t.ClusterID, k), 128)}, Address{name, someAddress()})
		d := Device{Link: name, Slot: k, Key: slot.PrivateKey, Port: p.t.Port + uint16(k)}
		for _, peer := range p.t.Peers {
			if k < len(peer.Slots) {
				d.Peers = append(d.Peers, devicePeer(peer, k))
			}
		}
		p.c.Devices = append(p.c.Devices, d)
	}
	if len(p.t.Nodes) < 2 {
		return
	}
	local := p.self.Addrs[0]
	p.c.Links = append(p.c.Links, Link{Name: underlayLink, VXLAN: true, MTU: p.vxlanMTU(), Local: local})
	p.c.Addresses = append(p.c.Addresses, Address{underlayLink, netip.PrefixFrom(linkLocal(local), 64)}, Address{underlayLink, someAddress()})
	for _, n := range p.t.Nodes {
		outer, ok := p.outer(n)
		if !ok || n.Name == p.t.Self {
			continue
		}
		for _, via := range []netip.Addr{nextHop(n, false), nextHop(n, true)} {
			p.c.Neighbors = append(p.c.Neighbors, Neighbor{Addr: via, MAC: mac(n.Addrs[0]), Node: outer})
		}
	}
}

// outer is where packets to another node go, in the family that this node's VXLAN link speaks.
func (p *planner) outer(n Node) (netip.Addr, bool) {
	i := slices.IndexFunc(n.Addrs, func(a netip.Addr) bool { return a.Is4() == p.self.Addrs[0].Is4() })
	if i < 0 {
		return netip.Addr{}, false
	}
	return n.Addrs[i], true
}

func (p *planner) vxlanMTU() int {
	if p.self.Addrs[0].Is4() {
		return p.underlay - vxlanOverhead4
	}
	return p.underlay - vxlanOverhead6
}

func devicePeer(peer Peer, k int) DevicePeer {
	d := DevicePeer{Peer: peer.Name, Key: peer.Slots[k].PublicKey, Endpoint: peer.Slots[k].Endpoint}
	d.Allowed = append(d.Allowed, netip.PrefixFrom(SlotAddr(peer.ClusterID, k), 128))
	for _, m := range peer.Remote {
		d.Allowed = append(d.Allowed, m.As)
	}
	slices.SortFunc(d.Allowed, netip.Prefix.Compare)
	d.Allowed = slices.Compact(d.Allowed)
	return d
}

// usable are the slots that both clusters have and somebody here holds.
func (p *planner) usable(peer Peer) []int {
	var out []int
	for k := range min(len(p.t.Slots), len(peer.Slots), MaxSlots) {
		if p.t.Slots[k].Holder != "" {
			out = append(out, k)
		}
	}
	return out
}

// shared is how many slots both clusters have: the number both hash by, whoever holds them.
func (p *planner) shared(peer Peer) int { return min(len(p.t.Slots), len(peer.Slots), MaxSlots) }

func (p *planner) peerRoutes(peer Peer) {
	for _, k := range p.held {
		if k < len(peer.Slots) {
			p.c.Routes = append(p.c.Routes, Route{
				Table: tableMain, Dst: netip.PrefixFrom(SlotAddr(peer.ClusterID, k), 128), Link: DeviceName(k), Src: SlotAddr(p.t.ClusterID, k), Metric: metricFirst,
			})
		}
	}
	usable := p.usable(peer)
	if len(usable) == 0 {
		return
	}
	preferred := usable[0]
	for _, k := range usable {
		if slices.Contains(p.held, k) {
			preferred = k
			break
		}
	}
	for _, m := range peer.Remote {
		p.routeVia(peer, m.As, tableMain, preferred)
		for k := range p.shared(peer) {
			if p.shared(peer) < 2 {
				continue
			}
			slot := k
			if !slices.Contains(usable, k) {
				slot = preferred // nobody holds it: better another way than none
			}
			p.routeVia(peer, m.As, tableSlot+k, slot)
		}
	}
}

func (p *planner) routeVia(peer Peer, dst netip.Prefix, table, slot int) {
	r := Route{Table: table, Dst: dst, MTU: max(peer.MTU, BaseMTU), Src: p.source(dst), Metric: metricFirst}
	if peer.MTU > 0 {
		r.MTU = peer.MTU
	}
	if slices.Contains(p.held, slot) {
		r.Link = DeviceName(slot)
		r.MTU = min(r.MTU, InnerMTU(p.underlay, p.self.Addrs))
		p.routeAside(r)
	} else {
		holder, ok := p.node(p.t.Slots[slot].Holder)
		if _, reached := p.outer(holder); !ok || !reached {
			return
		}
		r.Link, r.Via = underlayLink, nextHop(holder, dst.Addr().Is6())
		r.MTU = min(r.MTU, p.vxlanMTU())
	}
	p.c.Routes = append(p.c.Routes, r)
}

// routeAside adds to a route over this node's own device one over another node, which leads on to whoever has the slot
// then: when this process dies its device goes, and nobody is left here to change routes.
func (p *planner) routeAside(r Route) {
	for _, gateways := range []bool{true, false} {
		for _, n := range p.t.Nodes {
			if _, ok := p.outer(n); ok && n.Name != p.t.Self && n.Gateway == gateways {
				r.Link, r.Via, r.Metric = underlayLink, nextHop(n, r.Dst.Addr().Is6()), metricSecond
				r.MTU = min(r.MTU, p.vxlanMTU())
				p.c.Routes = append(p.c.Routes, r)
				return
			}
		}
	}
}

// source is this node's own address for packets of its own.
func (p *planner) source(dst netip.Prefix) netip.Addr {
	for _, a := range p.self.Addrs {
		if a.Is4() == dst.Addr().Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// backRoutes lead what came out of a tunnel to pods of other nodes, under the names that peers have for them: the
// cluster's own network may drop foreign sources.
func (p *planner) backRoutes() {
	if len(p.held) == 0 {
		return
	}
	there := map[netip.Prefix]bool{}
	back := func(dst netip.Prefix, n Node) {
		if !there[dst] {
			there[dst] = true
			p.c.Routes = append(p.c.Routes, Route{
				Table: tableBack, Dst: dst, Link: underlayLink, Via: nextHop(n, dst.Addr().Is6()), Metric: metricFirst,
			})
		}
	}
	for _, n := range p.t.Nodes {
		if _, ok := p.outer(n); !ok || n.Name == p.t.Self {
			continue
		}
		for _, dst := range p.parts(n) {
			back(dst, n)
			for _, peer := range p.t.Peers {
				if alias, ok := aliasOf(peer.Local, dst); ok {
					back(alias, n)
				}
			}
		}
	}
}

// aliasOf is the part of an alias that stands for a part of one of our ranges.
func aliasOf(local []Mapping, part netip.Prefix) (netip.Prefix, bool) {
	for _, m := range local {
		if m.Real == m.As || !m.Real.Contains(part.Addr()) || m.Real.Bits() > part.Bits() {
			continue
		}
		bytes, as := part.Addr().AsSlice(), m.As.Addr().AsSlice()
		for bit := range m.As.Bits() {
			mask := byte(0x80 >> (bit % 8))
			bytes[bit/8] = bytes[bit/8]&^mask | as[bit/8]&mask
		}
		a, ok := netip.AddrFromSlice(bytes)
		return netip.PrefixFrom(a, part.Bits()), ok
	}
	return netip.Prefix{}, false
}

func (p *planner) rules() {
	slots := 0
	for _, peer := range p.t.Peers {
		slots = max(slots, p.shared(peer))
	}
	for _, v6 := range []bool{false, true} {
		p.c.Rules = append(p.c.Rules, Rule{Priority: priorityMain, IPv6: v6, Table: tableMain})
		for _, k := range p.held {
			p.c.Rules = append(p.c.Rules, Rule{Priority: priorityBack + k, IPv6: v6, From: DeviceName(k), Table: tableBack})
		}
		for k := range slots {
			if slots > 1 {
				p.c.Rules = append(p.c.Rules, Rule{Priority: prioritySlot + k, IPv6: v6, Mark: uint32(k+1) << markShift, Table: tableSlot + k})
			}
		}
	}
}

func (p *planner) packets() {
	out := Packets{Own: p.t.Pods, Self: slices.Clone(p.self.Addrs), API: p.t.API.Endpoints, APIPort: p.t.API.Service.Port()}
	if len(p.t.Nodes) > 1 {
		out.Underlay = underlayLink
	}
	for _, k := range p.held {
		out.Devices = append(out.Devices, DeviceName(k))
		out.Self = append(out.Self, SlotAddr(p.t.ClusterID, k))
	}
	for _, peer := range p.t.Peers {
		pp := PacketPeer{
			Name: peer.Name, Reachable: peer.Reachable, Slots: p.shared(peer), First: p.t.ClusterID < peer.ClusterID,
			SlotRange: netip.PrefixFrom(SlotAddr(peer.ClusterID, 0), 64).Masked(),
		}
		for _, m := range peer.Remote {
			pp.Remote = append(pp.Remote, m.As)
		}
		for _, m := range peer.Local {
			if m.Real.IsSingleIP() && m.Real.Addr() == p.t.API.Service.Addr() {
				pp.API = m.As.Addr()
				continue
			}
			pp.Translate = append(pp.Translate, p.translate(m)...)
		}
		out.Peers = append(out.Peers, pp)
	}
	p.c.Packets = out
}

// translate is this node's part of an alias: it translates its own pods and addresses, so that both directions of a
// connection meet the same connection tracking whatever gateway they pass. Where it is not known which pods are whose,
// gateways translate for all.
func (p *planner) translate(m Mapping) []Mapping {
	if m.Real == m.As {
		return nil
	}
	if len(p.self.PodCIDRs) == 0 && len(p.held) > 0 {
		return []Mapping{m}
	}
	var out []Mapping
	for _, part := range p.parts(p.self) {
		if alias, ok := aliasOf([]Mapping{m}, part); ok {
			out = append(out, Mapping{Real: part, As: alias})
		}
	}
	return out
}

// parts are the ranges of a node's pods and its own addresses.
func (p *planner) parts(n Node) []netip.Prefix {
	out := slices.Clone(n.PodCIDRs)
	for _, a := range n.Addrs {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// nextHop is how routes name another node on the VXLAN link: its own address where it has one of the family.
func nextHop(n Node, v6 bool) netip.Addr {
	if v6 {
		return linkLocal(n.Addrs[0])
	}
	for _, a := range n.Addrs {
		if a.Is4() {
			return a
		}
	}
	sum := sha256.Sum256(n.Addrs[0].AsSlice())
	return netip.AddrFrom4([4]byte{169, 254, sum[0], sum[1]})
}

// mac is the link address of a node on the VXLAN link, computed alike by all nodes.
func mac(node netip.Addr) string {
	sum := sha256.Sum256(append([]byte("spillway vxlan"), node.AsSlice()...))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}.String()
}

// linkLocal is the next hop of IPv6 routes to a node.
func linkLocal(node netip.Addr) netip.Addr {
	sum := sha256.Sum256(append([]byte("spillway vxlan"), node.AsSlice()...))
	a := [16]byte{0: 0xfe, 1: 0x80}
	copy(a[8:], sum[:8])
	return netip.AddrFrom16(a)
}
