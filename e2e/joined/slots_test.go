package joined

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab"
)

const (
	gatewayRate = "60mbit" // of each gateway: two of them are far below what the processor can do
	flows       = 8        // of each pod, so that each gateway gets some
	floodFor    = 3 * time.Second
)

// TestTwoGateways: two active gateways move at least 1.8 times what one does, when each is limited to the same rate.
func TestTwoGateways(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t, "home", "away")
	home := w.pods(t, ns, "home", "", 2)
	away := w.pods(t, ns, "away", west, 2)
	w.opened(t, home, away)
	for _, c := range []string{east, west} {
		defer w.limitNodes(t, c)()
	}
	one := w.together(t, home, away)
	defer w.slots(t, 2)()
	w.awaitSlots(t, 2)
	two := w.together(t, home, away)
	t.Logf("each gateway limited to %s, %d flows: one active %s there and %s back, two %s and %s: %.2f × and %.2f ×",
		gatewayRate, len(home)*flows, megabytes(one[0]), megabytes(one[1]), megabytes(two[0]), megabytes(two[1]), two[0]/one[0], two[1]/one[1])
	if two[0] < 1.8*one[0] || two[1] < 1.8*one[1] {
		t.Error("want 1.80 × at least, both ways")
	}
}

// limitNodes has each node of a cluster receive at most gatewayRate from the wide-area network; its own network is not
// limited. It returns what ends that.
func (w *world) limitNodes(t *testing.T, cluster string) (end func()) {
	t.Helper()
	plan := w.planOf(cluster)
	line := fmt.Sprintf("tc qdisc replace dev %s root handle 1: htb default 99\ntc class add dev %s parent 1: classid 1:99 htb rate 10gbit\n", plan.Bridge, plan.Bridge)
	for i, n := range plan.Nodes {
		line += fmt.Sprintf("tc class add dev %s parent 1: classid 1:%d htb rate 10gbit\n", plan.Bridge, i+1)
		line += fmt.Sprintf("tc qdisc add dev %s parent 1:%d tbf rate %s burst 64kb latency 50ms\n", plan.Bridge, i+1, gatewayRate)
		line += fmt.Sprintf("tc filter add dev %s parent 1: protocol ip u32 match ip dst %s/32 match ip protocol 17 0xff flowid 1:%d\n", plan.Bridge, n.Addr, i+1)
	}
	w.router(t, line)
	return func() { w.router(t, "tc qdisc del dev "+plan.Bridge+" root") }
}

// together is what all flows of these pods move at once, there and then back, bytes per second.
func (w *world) together(t *testing.T, home, away []*caller) (rate [2]float64) {
	t.Helper()
	for way, pull := range [2][2][]*caller{{away, home}, {home, away}} {
		for i, c := range pull[0] {
			to := pull[1][i].addr
			if way == 0 {
				to = w.seen(t, west, east, to)
			}
			if err := c.begin(call{Proto: "flood", To: netip.AddrPortFrom(to, podPort), Size: flows, For: floodFor}); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range pull[0] {
			a, err := c.result()
			if err != nil || a.Error != "" {
				t.Errorf("flood of %s: %v %s", c.pod, err, a.Error)
			}
			rate[way] += float64(a.Bytes) / floodFor.Seconds()
		}
	}
	return rate
}

// slots runs the controllers of east and west with so many active gateways. It returns what ends that.
func (w *world) slots(t *testing.T, count int) (end func()) {
	t.Helper()
	var others []*lab.Proc
	for _, name := range []string{east, west} {
		s := w.sides[name]
		if err := s.Kill(t.Context(), lab.Spillwayd); err != nil {
			t.Fatal(err)
		}
		kubeconfig, err := s.InstallSpillway(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.lab.Start(t.Context(), lab.Process{
			Name: fmt.Sprintf("%s-spillwayd-%d", name, count), Path: w.bin + "/spillwayd",
			Args: []string{"controller", "--kubeconfig", kubeconfig, "--context", name, "--gateways", fmt.Sprint(count)},
		})
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, p)
	}
	return func() {
		for i, name := range []string{east, west} {
			if err := others[i].Stop(context.Background()); err != nil {
				t.Error(err)
			}
			if err := w.sides[name].Restart(context.Background(), lab.Spillwayd); err != nil {
				t.Error(err)
			}
		}
		w.awaitSlots(t, 1)
	}
}

// awaitSlots waits until each agent of east and west knows so many holders, all different nodes, and each path of the
// pair is up.
func (w *world) awaitSlots(t *testing.T, count int) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("%d active gateways in both clusters", count), func(ctx context.Context) error {
		for _, name := range []string{east, west} {
			up := 0
			for _, node := range w.sides[name].nodes {
				r, err := w.report(ctx, node)
				if err != nil {
					return err
				}
				if len(r.Holders) != count || (count > 1 && r.Holders[0] == r.Holders[1]) || strings.Contains(strings.Join(r.Holders, ",")+",", ",,") {
					return fmt.Errorf("%s says holders %v", node, r.Holders)
				}
				for _, p := range r.Paths {
					if p.Up && (p.Peer == east || p.Peer == west) {
						up++
					}
				}
			}
			if up != count {
				return fmt.Errorf("%d paths of %s are up", up, name)
			}
		}
		return nil
	})
}
