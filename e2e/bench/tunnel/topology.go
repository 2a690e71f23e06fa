package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/spillway-dev/spillway/tunnel"
)

const (
	underlayMTU   = 1500
	innerMTU      = underlayMTU - 60 // WireGuard over IPv4
	wireguardPort = 51820
	bareLink      = "wg0"
	keepalive     = 25 * time.Second
)

// cluster is one side: a gateway with a pod, and perhaps an ordinary node with another.
type cluster struct {
	id    string
	key   wgtypes.Key
	nodes []netip.Addr // the first is the gateway
	pods  netip.Prefix // a /16, a /24 per node
	hosts netip.Prefix // of nodes
	// As the other side sees both.
	podsAs, hostsAs netip.Prefix
}

// newClusters makes the two sides. Ranges of pods are the same when they overlap; those of nodes are always translated.
func newClusters(overlap bool) ([2]cluster, error) {
	var out [2]cluster
	for i := range out {
		key, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			return out, fmt.Errorf("make a key: %w", err)
		}
		c := cluster{
			id: fmt.Sprintf("cluster-%d", i), key: key,
			pods:    netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(1 + i)}), 16),
			hosts:   netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(10 + i)}), 24),
			hostsAs: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(10 + i)}), 24),
		}
		c.podsAs = c.pods
		if overlap {
			c.pods = netip.MustParsePrefix("10.1.0.0/16")
			c.podsAs = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(101 + i)}), 16)
		}
		c.nodes = []netip.Addr{host(c.hosts, 10)}
		out[i] = c
	}
	return out, nil
}

func host(p netip.Prefix, n byte) netip.Addr {
	a := p.Addr().As4()
	a[3] = n
	return netip.AddrFrom4(a)
}

// podRange is a node's part of the pods.
func (c cluster) podRange(node int) netip.Prefix {
	a := c.pods.Addr().As4()
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{a[0], a[1], byte(node)}), 24)
}

func (c cluster) pod(node int) netip.Addr { return host(c.podRange(node), 9) }

// podAs is a pod as the other side sees it; nodeAs a node.
func (c cluster) podAs(node int) netip.Addr {
	a := c.podsAs.Addr().As4()
	return netip.AddrFrom4([4]byte{a[0], a[1], byte(node), 9})
}

func (c cluster) nodeAs(node int) netip.Addr {
	return host(c.hostsAs, c.nodes[node].As4()[3])
}

// topology of a node of c, whose gateway has a tunnel to o.
func (c cluster) topology(o cluster, self int) tunnel.Topology {
	name := func(node int) string { return fmt.Sprintf("node-%d", node) }
	t := tunnel.Topology{
		ClusterID: c.id, Self: name(self), Port: wireguardPort, Pods: []netip.Prefix{c.pods}, NodeRanges: []netip.Prefix{c.hosts},
		Slots: []tunnel.Slot{{Holder: name(0)}},
	}
	if self == 0 {
		t.Slots[0].PrivateKey = c.key
	}
	for i, addr := range c.nodes {
		t.Nodes = append(t.Nodes, tunnel.Node{Name: name(i), Addrs: []netip.Addr{addr}, Gateway: i == 0, PodCIDRs: []netip.Prefix{c.podRange(i)}})
	}
	t.Peers = []tunnel.Peer{{
		Name: o.id, ClusterID: o.id, MTU: innerMTU,
		Slots:  []tunnel.PeerSlot{{PublicKey: o.key.PublicKey(), Endpoint: netip.AddrPortFrom(o.nodes[0], wireguardPort)}},
		Remote: []tunnel.Mapping{{Real: o.pods, As: o.podsAs}, {Real: o.hosts, As: o.hostsAs}},
		Local:  []tunnel.Mapping{{Real: c.pods, As: c.podsAs}, {Real: c.hosts, As: c.hostsAs}},
		// The node's own address too, which no peer may reach in production, so that gateways can be measured.
		Reachable: []netip.Addr{c.pod(self), c.nodes[self]},
	}}
	return t
}

// crowd are peers that are configured with all that belongs to one, and silent.
func (c cluster) crowd(n int) ([]tunnel.Peer, error) {
	peers := make([]tunnel.Peer, 0, n)
	for i := range n {
		key, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			return nil, fmt.Errorf("make a key: %w", err)
		}
		id := fmt.Sprintf("silent-%d", i)
		p := tunnel.Peer{
			Name: id, ClusterID: id, MTU: innerMTU, Slots: []tunnel.PeerSlot{{PublicKey: key.PublicKey()}},
			Remote: []tunnel.Mapping{
				{Real: c.pods, As: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i/64), byte(4 * (i % 64))}), 16)},
				{Real: c.hosts, As: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 65, byte(i)}), 24)},
			},
			Local: []tunnel.Mapping{
				{Real: c.pods, As: netip.PrefixFrom(netip.AddrFrom4([4]byte{99, byte(i)}), 16)},
				{Real: c.hosts, As: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 66, byte(i)}), 24)},
			},
		}
		for j := range 10 {
			p.Reachable = append(p.Reachable, host(c.podRange(0), byte(20+j)))
		}
		peers = append(peers, p)
	}
	return peers, nil
}
