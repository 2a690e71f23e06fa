package tunnel

import (
	"net/netip"
	"slices"
	"testing"
)

// TestPlan_Answer: a node has the addresses at which it answers its pods while it is joined with a peer.
func TestPlan_Answer(t *testing.T) {
	at := []netip.Addr{netip.MustParseAddr("169.254.83.53"), netip.MustParseAddr("fd53::53")}
	topo := Topology{
		Self: "n1", Nodes: []Node{{Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}},
		Peers: []Peer{{Name: "west", ClusterID: "id-west"}}, Answer: at,
	}
	var lines []string
	for _, c := range Diff(Config{}, Plan(topo, 1500)) {
		lines = append(lines, c.String())
	}
	for _, want := range []string{
		"ip link add spillway-dns type dummy mtu 1500",
		"ip address add 169.254.83.53/32 dev spillway-dns", "ip address add fd53::53/128 dev spillway-dns",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no %q in %q", want, lines)
		}
	}
	topo.Peers = nil
	if c := Plan(topo, 1500); len(c.Links) != 0 {
		t.Errorf("without peers: %v", c.Links)
	}
}
