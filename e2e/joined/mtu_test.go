package joined

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/e2e/lab/realnode"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// pathRate limits the way of every test of bulk, so that the network is measured and not the processor: small packets
	// cost one machine that plays all ends more than large ones.
	pathRate = "100mbit"
	cleanMTU = 1500
	bulkFor  = time.Second
	bulkWait = 20 * time.Second
)

// TestPathMTU: bulk TCP passes at 80 % of its speed or more whatever the path carries, also where nobody says so; and no
// status says up while it does not pass. The path shrinks under a tunnel that had found it larger.
func TestPathMTU(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t, "home", "away")
	home := w.pods(t, ns, "home", "", 2)
	away := w.pods(t, ns, "away", west, 1)
	w.opened(t, home, away)
	w.bulkServer(t, away[0])
	w.bulkServing(t, home[0], away[0])
	defer w.path(t, cleanMTU, true)
	for _, c := range []string{east, west} {
		device := w.planOf(c).Bridge
		w.router(t, "tc qdisc replace dev "+device+" root tbf rate "+pathRate+" burst 64kb latency 50ms")
		defer w.router(t, "tc qdisc del dev "+device+" root")
	}
	clean, err := w.speed(t, home[0], away[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("path of %d bytes at %s: %s there, %s back", cleanMTU, pathRate, megabytes(clean[0]), megabytes(clean[1]))
	for _, told := range []bool{false, true} {
		for _, mtu := range []int{9000, cleanMTU, 1400, 1280} {
			w.path(t, mtu, told)
			took, lies := w.passesBulk(t, home[0], away[0])
			words := fmt.Sprintf("path of %4d bytes, ICMP %-7s: bulk after %5s", mtu, map[bool]string{true: "passes", false: "blocked"}[told], round(took))
			for _, h := range home {
				got, err := w.speed(t, h, away[0])
				if err != nil || got[0] < 0.8*clean[0] || got[1] < 0.8*clean[1] {
					t.Errorf("%s: from %s: %v; want 0.80 × at least", words, h.node, err)
				}
				words += fmt.Sprintf("; from %s there %.2f ×, back %.2f ×", h.node, got[0]/clean[0], got[1]/clean[1])
			}
			t.Logf("%s; MTU inside %d", words, w.inside(t))
			if lies > 0 {
				t.Errorf("%s: TunnelUp stayed True through %d attempts that did not pass", words, lies)
			}
		}
	}
}

// speed of bulk there and back, in bytes per second.
func (w *world) speed(t *testing.T, from, to *caller) (out [2]float64, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bulkWait)
	defer cancel()
	out[0], out[1], err = w.bulk(ctx, from, to, bulkFor)
	return out, err
}

// path sets what the way between east and west carries, both ways, and whether the router says so when a packet is too
// large. What nodes have learned of it is forgotten.
func (w *world) path(t *testing.T, mtu int, told bool) {
	t.Helper()
	e, p := w.planOf(east), w.planOf(west)
	line := "nft 'add table inet pathmtu; delete table inet pathmtu'\n"
	if !told {
		line += "nft 'add table inet pathmtu; add chain inet pathmtu output { type filter hook output priority 0; }; " +
			"add rule inet pathmtu output icmp type destination-unreachable drop'\n"
	}
	for i, way := range [][2]realnode.ClusterPlan{{e, p}, {p, e}} {
		from, to, table := way[0], way[1], 101+i
		line += fmt.Sprintf("ip rule del priority %d 2>/dev/null || true\n", table)
		if mtu < cleanMTU {
			line += fmt.Sprintf("ip route replace %s dev %s table %d mtu lock %d\nip rule add priority %d from %s lookup %d\n",
				to.NodeRange, to.Bridge, table, mtu, table, from.NodeRange, table)
		}
	}
	device := max(mtu, cleanMTU)
	for _, c := range []string{east, west} {
		plan := w.planOf(c)
		for _, n := range plan.Nodes {
			line += fmt.Sprintf("ip link set %s mtu %d\n", n.Port, device)
		}
		line += fmt.Sprintf("ip link set %s mtu %d\n", plan.Bridge, device)
	}
	w.router(t, line)
	for _, c := range []string{east, west} {
		for _, n := range w.planOf(c).Nodes {
			w.onNode(t, n.Name, fmt.Sprintf("ip link set eth0 mtu %d; ip route flush cache", device))
		}
	}
}

// inside is the MTU of the tunnel to west, as the holder of east's slot found it.
func (w *world) inside(t *testing.T) int {
	t.Helper()
	r, err := w.report(t.Context(), w.holder(t, east))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Paths {
		if p.Peer == west {
			return p.MTU
		}
	}
	return 0
}

// passesBulk tries until bulk passes, and counts attempts that failed while TunnelUp was True from their begin to their
// end: they take longer than the two seconds in which a dead peer is to be seen.
func (w *world) passesBulk(t *testing.T, from, to *caller) (took time.Duration, lies int) {
	t.Helper()
	took = eventually(t, time.Minute, "bulk passes and the tunnel is up", func(ctx context.Context) error {
		began, before := time.Now(), w.upSince(ctx)
		err := w.tryBulk(ctx, from, to)
		after := w.upSince(ctx)
		if err != nil && before != "" && before == after && time.Since(began) > 2*time.Second {
			lies++
			t.Logf("TunnelUp is True since %s while bulk does not pass: %v", after, err)
		}
		if err == nil && after == "" {
			err = fmt.Errorf("bulk passes, and TunnelUp is not True")
		}
		return err
	})
	return took, lies
}

// upSince is since when east says that the tunnel to west is up; empty: it does not.
func (w *world) upSince(ctx context.Context) string {
	p, err := w.sides[east].peerings.Get(ctx, west, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionTunnelUp)
	if c == nil || c.Status != metav1.ConditionTrue {
		return ""
	}
	return c.LastTransitionTime.String()
}
