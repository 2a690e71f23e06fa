package tunnel

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// ports reads the ports that an nft set of the table "look" has collected.
func (p *process) ports(set string) []int {
	p.t.Helper()
	var out struct {
		Nftables []struct {
			Set struct {
				Elem []json.RawMessage `json:"elem"`
			} `json:"set"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(p.command("nft", "-j", "list", "set", "inet", "look", set)), &out); err != nil {
		p.t.Fatal(err)
	}
	var ports []int
	for _, part := range out.Nftables {
		for _, e := range part.Set.Elem {
			var port int
			if err := json.Unmarshal(e, &port); err != nil {
				p.t.Fatal(err)
			}
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	return ports
}

// TestSlots_BothWaysOfAFlow: with two gateways in each cluster flows go over both, and the answers of each come by the
// gateway by which it went: only that one knows its translation.
func TestSlots_BothWaysOfAFlow(t *testing.T) {
	w := newWorld(t, "10.1.0.0/16", "10.1.0.0/16")
	w.join(aliased, 2)
	for from, to := range map[int]int{0: 1, 1: 0} {
		a, b := w.clusters[from], w.clusters[to]
		for k, n := range a.nodes {
			n.command("nft", fmt.Sprintf(`
				add table inet look; delete table inet look; add table inet look
				add set inet look went { type inet_service; flags dynamic; }
				add set inet look came { type inet_service; flags dynamic; }
				add chain inet look before { type filter hook prerouting priority -300; }
				add chain inet look after { type filter hook postrouting priority 300; }
				add rule inet look before iifname %[1]q tcp sport %[2]d add @came { tcp dport }
				add rule inet look after oifname %[1]q tcp dport %[2]d add @went { tcp sport }`, DeviceName(k), podPort))
		}
		const calls = 60
		for i := range calls {
			family, j := i/2%2, i%2
			target := mapped(b.podAddr(j), b.ranges()[0], aliased(b, a, b.ranges()[0]))
			if family == 1 {
				target = mapped(b.podAddr6(j), b.ranges()[1], aliased(b, a, b.ranges()[1]))
			}
			if got := a.pods[i/4%2].call(probeCall{"tcp", netip.AddrPortFrom(target, podPort), 10, false}); strings.HasPrefix(got, "error") {
				t.Errorf("%s does not answer: %s", target, got)
			}
		}
		total := 0
		for k, n := range a.nodes {
			went, came := n.ports("went"), n.ports("came")
			if !slices.Equal(went, came) {
				t.Errorf("slot %d of %s: flows went from ports %v, answers came to %v", k, a.id, went, came)
			}
			if len(went) < calls/5 {
				t.Errorf("slot %d of %s has %d of %d flows: they are not shared", k, a.id, len(went), calls)
			}
			total += len(went)
		}
		if total < calls-2 { // two pods may have used one port
			t.Errorf("%d of %d flows were seen", total, calls)
		}
	}
}

// TestSlots_Move: one gateway takes the slot of the other, with its key: the peer follows it.
func TestSlots_Move(t *testing.T) {
	w := newWorld(t, "10.1.0.0/16", "10.1.0.0/16")
	w.join(aliased, 2)
	a, b := w.clusters[0], w.clusters[1]
	w.cell(a, b, aliased)
	for _, holders := range [][2]int{{0, 0}, {1, 1}, {1, 0}} {
		for k, node := range holders {
			a.topo.Slots[k].Holder = a.topo.Nodes[node].Name
		}
		for _, j := range []int{0, 1} {
			a.nodes[j].set(a.at(j))
		}
		w.cell(a, b, aliased)
		w.cell(b, a, aliased)
	}
}
