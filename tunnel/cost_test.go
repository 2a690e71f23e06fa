package tunnel

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"
)

// crowd is a topology with many peers, all with the ranges that we have.
func crowd(peers, slots, reachable int) Topology {
	t := twoSlots("gw-1")
	t.Slots = t.Slots[:slots]
	t.Peers = nil
	for i := range peers {
		p := twoSlots("gw-1").Peers[0]
		p.Name, p.ClusterID = fmt.Sprintf("peer-%d", i), fmt.Sprintf("id-%d", i)
		p.Slots = nil
		for k := range slots {
			key := sha256.Sum256(fmt.Append(nil, i, k))
			p.Slots = append(p.Slots, PeerSlot{PublicKey: key})
		}
		as := netip.PrefixFrom(netip.AddrFrom4([4]byte{11 + byte(i/64), byte(4 * i), 0, 0}), 16)
		nodes := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64 + byte(i/250), byte(i % 250), 0}), 24)
		p.Remote = []Mapping{{netip.MustParsePrefix("10.1.0.0/16"), as}, {netip.MustParsePrefix("192.0.2.0/24"), nodes}}
		p.Local = []Mapping{{netip.MustParsePrefix("10.1.0.0/16"), netip.PrefixFrom(netip.AddrFrom4([4]byte{99, byte(i), 0, 0}), 16)}}
		p.Reachable = nil
		for j := range reachable {
			p.Reachable = append(p.Reachable, netip.AddrFrom4([4]byte{10, 1, byte(j / 200), byte(j%200 + 1)}))
		}
		t.Peers = append(t.Peers, p)
	}
	return t
}

// TestManyPeers: a gateway with 250 peers is set up within seconds and costs little while nothing changes, also where
// another program changes nftables all the time.
func TestManyPeers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	for _, slots := range []int{1, 2} {
		n := start(t, "node")
		plug(t, start(t, "node"), "wan", n, "eth0")
		n.addr("eth0", "192.0.2.1/24")
		topo := crowd(250, slots, 10)
		began := time.Now()
		n.set(topo)
		t.Logf("%d slots: set up in %s", slots, time.Since(began).Round(time.Millisecond))
		var idle, busy int
		n.ask("cost", &idle)
		topo.Peers[17].Reachable = append(topo.Peers[17].Reachable, netip.MustParseAddr("10.1.77.7"))
		began = time.Now()
		n.set(topo)
		t.Logf("one more address: in %s", time.Since(began).Round(time.Millisecond))
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.command("sh", "-c", "for i in $(seq 50); do nft add table ip other; nft delete table ip other; sleep 0.1; done")
		}()
		n.ask("cost", &busy)
		<-done
		t.Logf("a round costs %d µs, and %d µs while others change nftables", idle, busy)
	}
}
