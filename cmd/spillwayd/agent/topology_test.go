package agent

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway-dev/spillway/peering/view"
	"github.com/spillway-dev/spillway/tunnel"
	"github.com/spillway-dev/spillway/tunnel/probe"
)

// TestBegins_BothSidesAgree: exactly one side of a pair sends, and it is one that knows where to, if any does.
func TestBegins_BothSidesAgree(t *testing.T) {
	const a, b = "id-a", "id-b"
	for _, aAnnounces := range []bool{true, false} {
		for _, bAnnounces := range []bool{true, false} {
			atA := view.Peer{ClusterID: b, Slots: []view.PeerSlot{{OurEndpoints: aAnnounces, UDP: announced(bAnnounces)}}}
			atB := view.Peer{ClusterID: a, Slots: []view.PeerSlot{{OurEndpoints: bAnnounces, UDP: announced(aAnnounces)}}}
			first, second := begins(a, atA, 0), begins(b, atB, 0)
			if first == second {
				t.Errorf("a announces %v, b announces %v: a begins %v, b begins %v; want exactly one", aAnnounces, bAnnounces, first, second)
			}
			if first && !bAnnounces && aAnnounces || second && !aAnnounces && bAnnounces {
				t.Errorf("a announces %v, b announces %v: the side begins that knows no endpoint", aAnnounces, bAnnounces)
			}
		}
	}
}

func announced(yes bool) []string {
	if yes {
		return []string{"192.0.2.1:51820"}
	}
	return nil
}

func TestSeenAs(t *testing.T) {
	remote := []view.Mapping{
		{Real: netip.MustParsePrefix("192.0.2.0/24"), As: netip.MustParsePrefix("100.64.7.0/24")},
		{Real: netip.MustParsePrefix("10.0.0.0/11"), As: netip.MustParsePrefix("10.32.0.0/11")},
		{Real: netip.MustParsePrefix("fd00:1::/48"), As: netip.MustParsePrefix("fd00:2::/48")},
	}
	for in, want := range map[string]string{
		"192.0.2.200": "100.64.7.200", "10.31.255.254": "10.63.255.254", "10.0.0.0": "10.32.0.0",
		"fd00:1:0:5::9": "fd00:2:0:5::9", "198.51.100.1": "invalid IP",
	} {
		got, _ := seenAs(remote, netip.MustParseAddr(in))
		if got.String() != want {
			t.Errorf("%s is seen as %s, want %s", in, got, want)
		}
	}
}

func TestTargets(t *testing.T) {
	s := view.Snapshot{
		ClusterID: "id-a", Slots: 2,
		Nodes: []view.Node{{Name: "one", Addrs: addrs("192.0.2.1")}, {Name: "two", Addrs: addrs("192.0.2.2")}},
		Peers: []view.Peer{{
			Name: "b", ClusterID: "id-b", Slots: []view.PeerSlot{{UDP: announced(true)}, {UDP: announced(true)}},
			Remote:      []view.Mapping{{Real: netip.MustParsePrefix("203.0.113.0/24"), As: netip.MustParsePrefix("100.64.1.0/24")}},
			SampleNodes: addrs("203.0.113.1", "203.0.113.2"),
		}},
	}
	got := targets(s, facts{self: "two", holders: []string{"one", "two"}}, func(probe.Key) int { return 1420 })
	want := []probe.Target{
		{Key: probe.Key{Peer: "b", Slot: 1}, Local: tunnel.SlotAddr("id-a", 1), Remote: tunnel.SlotAddr("id-b", 1), Initiate: true, MaxMTU: 1420},
		{Key: probe.Key{Peer: "b", Slot: -1}, Local: netip.MustParseAddr("192.0.2.2"), Remote: netip.MustParseAddr("100.64.1.2"), Initiate: true},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}
