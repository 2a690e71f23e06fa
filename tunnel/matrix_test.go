package tunnel

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// aliased gives every range an alias that depends on who sees it: what differs least between the cases of a plan.
func aliased(a, b *cluster, real netip.Prefix) netip.Prefix {
	if real.Addr().Is6() {
		bytes := real.Addr().As16()
		bytes[2], bytes[3] = 0xa0+byte(b.number), byte(a.number)
		return netip.PrefixFrom(netip.AddrFrom16(bytes), real.Bits())
	}
	if real.Bits() == 24 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 100, byte(10*b.number + a.number), 0}), 24)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(64 + 8*b.number + a.number), 0, 0}), 16)
}

// real shows pods as they are; nodes always have an alias.
func real(a, b *cluster, r netip.Prefix) netip.Prefix {
	if r.Bits() == 24 && r.Addr().Is4() {
		return aliased(a, b, r)
	}
	return r
}

// oneSided: the first cluster has room for the second as it is, and not the other way round.
func oneSided(a, b *cluster, r netip.Prefix) netip.Prefix {
	if a.number == 0 {
		return aliased(a, b, r)
	}
	return real(a, b, r)
}

func mapped(a netip.Addr, from, to netip.Prefix) netip.Addr {
	bytes, start := a.AsSlice(), to.Addr().AsSlice()
	for i := range to.Bits() {
		mask := byte(0x80 >> (i % 8))
		bytes[i/8] = bytes[i/8]&^mask | start[i/8]&mask
	}
	out, _ := netip.AddrFromSlice(bytes)
	return out
}

// TestMatrix: every pod reaches every pod of the other clusters by every protocol and size, and the server sees the
// client 1:1.
func TestMatrix(t *testing.T) {
	for _, row := range []struct {
		name  string
		cidrs []string
		as    seen
		slots int
	}{
		{"disjoint", []string{"10.1.0.0/16", "10.2.0.0/16"}, real, 1},
		{"equal, three clusters", []string{"10.1.0.0/16", "10.1.0.0/16", "10.1.0.0/16"}, aliased, 1},
		{"partly overlapping, one side has an alias", []string{"10.1.0.0/16", "10.2.0.0/16"}, oneSided, 1},
		{"equal, two gateways", []string{"10.1.0.0/16", "10.1.0.0/16"}, aliased, 2},
		{"disjoint, two gateways", []string{"10.1.0.0/16", "10.2.0.0/16"}, real, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, row.cidrs...)
			w.join(row.as, row.slots)
			for _, from := range w.clusters {
				for _, to := range w.clusters {
					if from != to {
						w.cell(from, to, row.as)
					}
				}
			}
		})
	}
}

// cell tries all ways from one cluster to another.
func (w *world) cell(from, to *cluster, as seen) {
	w.t.Helper()
	for i, client := range from.pods {
		for j := range to.pods {
			for _, v6 := range []bool{false, true} {
				server, self, k := to.podAddr(j), from.podAddr(i), 0
				if v6 {
					server, self, k = to.podAddr6(j), from.podAddr6(i), 1
				}
				target := mapped(server, to.ranges()[k], as(to, from, to.ranges()[k]))
				want := mapped(self, from.ranges()[k], as(from, to, from.ranges()[k])).String()
				for _, c := range []probeCall{
					{"tcp", netip.AddrPortFrom(target, podPort), 10, false}, {"tcp", netip.AddrPortFrom(target, podPort), 3000, false},
					{"udp", netip.AddrPortFrom(target, podPort), 10, false}, {"udp", netip.AddrPortFrom(target, podPort), 3000, false},
					{"icmp", netip.AddrPortFrom(target, 0), 10, false}, {"icmp", netip.AddrPortFrom(target, 0), 3000, false},
				} {
					got := client.call(c)
					if c.Proto == "icmp" {
						want = "echo"
					}
					if got != want {
						w.t.Errorf("%s pod %d → %s pod %d (%s) %s %d bytes: %q, want %s", from.id, i, to.id, j, target, c.Proto, c.Size, got, want)
					}
				}
			}
		}
	}
}

func (p *process) call(c probeCall) string {
	p.t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		p.t.Fatal(err)
	}
	var got string
	p.ask(string(data), &got)
	return got
}

// TestFilter: what is not opened is not reached, and counted; answers pass.
func TestFilter(t *testing.T) {
	w := newWorld(t, "10.1.0.0/16", "10.2.0.0/16")
	w.join(real, 1)
	a, b := w.clusters[0], w.clusters[1]
	for j, n := range b.nodes {
		topo := b.at(j)
		topo.Peers[0].Reachable = nil
		n.set(topo)
	}
	for i, client := range a.pods {
		for j := range b.pods {
			if got := b.pods[j].call(probeCall{"tcp", netip.AddrPortFrom(a.podAddr(i), podPort), 3000, false}); got != b.podAddr(j).String() {
				t.Errorf("an answer does not pass: %s", got)
			}
			for _, proto := range []string{"tcp", "udp", "icmp"} {
				if got := client.call(probeCall{proto, netip.AddrPortFrom(b.podAddr(j), podPort), 10, true}); !strings.HasPrefix(got, "error") {
					t.Errorf("pod %d reaches pod %d of the peer by %s although it is not opened: %s", i, j, proto, got)
				}
			}
		}
	}
	for j, n := range b.nodes {
		var r Report
		n.ask("report", &r)
		refused := uint64(0)
		for _, c := range r.Refused {
			if c.Peer == a.id {
				refused += c.Packets
			}
		}
		if refused == 0 {
			t.Errorf("node %d counts no refused packet: %+v", j, r.Refused)
		}
	}
	for _, target := range []string{"100.100.1.10", "100.100.1.11", "10.2.1.77", "10.2.0.8", "10.2.1.8"} {
		if got := a.pods[1].call(probeCall{"icmp", netip.AddrPortFrom(netip.MustParseAddr(target), 0), 10, true}); got == "echo" {
			t.Errorf("%s answers although it is not opened", target)
		}
	}
}

// TestDrift: what somebody takes away comes back.
func TestDrift(t *testing.T) {
	w := newWorld(t, "10.1.0.0/16", "10.1.0.0/16")
	w.join(aliased, 1)
	a, b := w.clusters[0], w.clusters[1]
	target := netip.AddrPortFrom(mapped(b.podAddr(1), b.podCIDR, aliased(b, a, b.podCIDR)), podPort)
	works := func() bool { return !strings.HasPrefix(a.pods[1].call(probeCall{"tcp", target, 10, false}), "error") }
	if !works() {
		t.Fatal("does not work from the start")
	}
	for _, broken := range []struct {
		node  int
		shell string
	}{
		{0, "ip route flush table 5380"}, {1, "ip route flush table 5380"}, {0, "ip rule del priority 5380"}, {1, "ip rule del priority 5380"},
		{0, "ip rule del priority 5360"}, {0, "nft delete table inet spillway"}, {1, "nft delete table inet spillway"},
		{0, "nft flush chain inet spillway translate-in"}, {0, "nft flush chain inet spillway translate-out"},
		{0, "ip link set spillway0 down"}, {0, "ip link del spillway0"}, {0, "ip link del spillway-vx"}, {1, "ip link del spillway-vx"},
		{0, "ip address flush dev spillway0"}, {0, "ip address flush dev spillway-vx"}, {1, "ip address flush dev spillway-vx"},
		{0, "ip route change 10.1.1.0/24 via 192.168.10.1 dev eth0 onlink table 5379 proto 83"}, {0, "strip"},
		{1, "ip neigh flush dev spillway-vx nud permanent"}, {1, "bridge fdb del $(bridge fdb show dev spillway-vx | head -1 | cut -d' ' -f1) dev spillway-vx self"},
	} {
		var out string
		if broken.shell == "strip" {
			a.nodes[broken.node].ask(broken.shell, &out)
		} else {
			out = a.nodes[broken.node].command("sh", "-c", broken.shell)
		}
		if out != "" {
			t.Logf("%s: %s", broken.shell, out)
		}
		took := 0
		for !works() {
			if took++; took > 8 {
				t.Fatalf("node %d: %s: still broken after %d tries", broken.node, broken.shell, took)
			}
		}
	}
	var r Report
	a.nodes[0].ask("report", &r)
	if r.Repairs == 0 || r.LastError != "" {
		t.Errorf("%d repairs, last error %q; want some and none", r.Repairs, r.LastError)
	}
}

// TestMatrix_NodeRangesUnknown: pods of other nodes are reached by the way of the cluster's own network.
func TestMatrix_NodeRangesUnknown(t *testing.T) {
	w := newWorld(t, "10.1.0.0/16", "10.1.0.0/16")
	w.join(aliased, 1)
	for _, c := range w.clusters {
		for i := range c.topo.Nodes {
			c.topo.Nodes[i].PodCIDRs = nil
		}
		for j, n := range c.nodes {
			n.set(c.at(j))
		}
	}
	w.cell(w.clusters[0], w.clusters[1], aliased)
	b := w.clusters[1]
	for j, n := range b.nodes {
		topo := b.at(j)
		topo.Peers[0].Reachable = nil
		n.set(topo)
	}
	a := w.clusters[0]
	for j := range b.pods {
		target := mapped(b.podAddr(j), b.podCIDR, aliased(b, a, b.podCIDR))
		if got := a.pods[0].call(probeCall{"tcp", netip.AddrPortFrom(target, podPort), 10, true}); !strings.HasPrefix(got, "error") {
			t.Errorf("pod %d is reached although it is not opened: %s", j, got)
		}
	}
}

// TestAPI: pods of a peer reach the API server wherever it listens, under the address that they see, and nothing beside it.
func TestAPI(t *testing.T) {
	w := newWorld(t, "10.1.0.0/16", "10.1.0.0/16")
	w.join(aliased, 1)
	a, b := w.clusters[0], w.clusters[1]
	service := alias("10.96.0.1/32", "100.101.1.1/32")
	a.topo.Peers[0].Remote = append(a.topo.Peers[0].Remote, service)
	b.topo.Peers[0].Local = append(b.topo.Peers[0].Local, service)
	for j := range b.nodes {
		b.topo.API = API{
			Service: netip.MustParseAddrPort("10.96.0.1:443"), Endpoints: []netip.AddrPort{netip.AddrPortFrom(b.nodeAddr(j), podPort)},
		}
		for _, c := range w.clusters {
			for j, n := range c.nodes {
				n.set(c.at(j))
			}
		}
		for i, pod := range a.pods {
			if got := pod.call(probeCall{"tcp", netip.AddrPortFrom(service.As.Addr(), 443), 3000, false}); strings.HasPrefix(got, "error") {
				t.Errorf("pod %d does not reach the API server on node %d: %s", i, j, got)
			}
			for _, closed := range []probeCall{
				{"tcp", netip.AddrPortFrom(service.As.Addr(), 444), 10, true}, {"udp", netip.AddrPortFrom(service.As.Addr(), 443), 10, true},
				{"icmp", netip.AddrPortFrom(service.As.Addr(), 0), 10, true},
				{"tcp", netip.AddrPortFrom(mapped(b.nodeAddr(j), b.ranges()[2], aliased(b, a, b.ranges()[2])), podPort), 10, true},
			} {
				if got := pod.call(closed); !strings.HasPrefix(got, "error") {
					t.Errorf("pod %d reaches %s port %d by %s: %s", i, closed.To.Addr(), closed.To.Port(), closed.Proto, got)
				}
			}
		}
	}
}

// TestClean: nothing of ours is left.
func TestClean(t *testing.T) {
	w := newWorld(t, "10.1.0.0/16", "10.1.0.0/16")
	const look = "ip -o link | sed 's/@.*//' ; ip -o address | grep -v 'fe80'; ip rule; ip -6 rule; ip route show table all | grep -v ff00; ip -6 route show table all | grep -v 'fe80\\|ff00'; nft list ruleset | sed 's/packets.*//'; ls /run/wireguard/*.sock 2>/dev/null"
	a := w.clusters[0]
	var before []string
	for _, n := range a.nodes {
		before = append(before, n.command("sh", "-c", look))
	}
	w.join(aliased, 2)
	for j, n := range a.nodes {
		empty := Topology{ClusterID: a.id, Self: fmt.Sprintf("node-%d", j), Nodes: a.topo.Nodes}
		if during := n.command("sh", "-c", look); during == before[j] {
			t.Errorf("node %d: nothing was made", j)
		}
		n.set(empty) // the last peer is gone
		compareText(t, fmt.Sprintf("node %d after the last peer", j), before[j], n.command("sh", "-c", look))
		n.set(a.at(j))
		var trouble string
		if n.ask("clean", &trouble); trouble != "" {
			t.Error(trouble)
		}
		compareText(t, fmt.Sprintf("node %d after clean", j), before[j], n.command("sh", "-c", look))
	}
}

func compareText(t *testing.T, what, want, got string) {
	t.Helper()
	if want != got {
		t.Errorf("%s: before\n%s\nnow\n%s", what, want, got)
	}
}
