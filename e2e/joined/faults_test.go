package joined

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spillway-dev/spillway/cmd/spillwayd/agent"
	"github.com/spillway-dev/spillway/e2e/lab"
)

// report is what the agent of a node says of itself.
func (w *world) report(ctx context.Context, node string) (agent.Report, error) {
	var r agent.Report
	out, err := w.look(ctx, node, "exec curl -s -m 3 http://127.0.0.1:9640/report")
	if err != nil {
		return r, fmt.Errorf("report of %s: %w", node, err)
	}
	return r, json.Unmarshal([]byte(out), &r)
}

// holder of slot 0 in a cluster, as its agents say.
func (w *world) holder(t *testing.T, cluster string) string {
	t.Helper()
	name := ""
	eventually(t, soon, "somebody holds slot 0 of "+cluster, func(ctx context.Context) error {
		for _, node := range w.sides[cluster].nodes {
			r, err := w.report(ctx, node)
			if err != nil {
				return err
			}
			if len(r.Holders) == 0 || r.Holders[0] == "" || len(r.Members) != len(w.sides[cluster].nodes) {
				return fmt.Errorf("%s says: holders %v, members %v", node, r.Holders, r.Members)
			}
			name = r.Holders[0]
		}
		return nil
	})
	return name
}

// between are the rules that drop what goes between two clusters.
func (w *world) between(a, b, match string) []string {
	x, y := w.rangeOf(a), w.rangeOf(b)
	return []string{
		fmt.Sprintf("forward ip saddr %s ip daddr %s %s drop", x, y, match), fmt.Sprintf("forward ip saddr %s ip daddr %s %s drop", y, x, match),
	}
}

func (w *world) rangeOf(cluster string) netip.Prefix {
	for _, c := range w.lab.RealNodes().Plan().Clusters {
		if c.Name == cluster {
			return c.NodeRange
		}
	}
	return netip.Prefix{}
}

func (w *world) heal(t *testing.T) {
	t.Helper()
	if err := w.fault(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestDown: a dead peer is TunnelUp=False within 2 s on both sides, a healed one True within 2 s.
func TestDown(t *testing.T) {
	w := theWorld(t)
	defer w.heal(t)
	for range 3 {
		for _, s := range []struct{ side, peering string }{{east, west}, {west, east}} {
			eventually(t, soon, "the tunnel is up", w.sides[s.side].is(true, s.peering))
		}
		if err := w.fault(t.Context(), w.between(east, west, "")...); err != nil {
			t.Fatal(err)
		}
		atEast := eventually(t, soon, "east sees the tunnel down", w.sides[east].is(false, west))
		atWest := eventually(t, soon, "west sees the tunnel down", w.sides[west].is(false, east)) + atEast
		w.heal(t)
		back := eventually(t, soon, "east sees it up again", w.sides[east].is(true, west))
		backWest := eventually(t, soon, "west sees it up again", w.sides[west].is(true, east)) + back
		t.Logf("down: east %s, west %s; up again: east %s, west %s", round(atEast), round(atWest), round(back), round(backWest))
		if worst := max(atEast, atWest, back, backWest); worst > 2*time.Second {
			t.Errorf("%s, want 2 s at most", round(worst))
		}
	}
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

// TestFailover: the active gateway dies, its agent or the whole node; flows of other nodes go on.
func TestFailover(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t, "home", "away")
	home := w.pods(t, ns, "home", "", 2)
	away := w.pods(t, ns, "away", west, 1)
	w.opened(t, home, away)
	worst := time.Duration(0)
	for i := range 4 {
		holder := w.holder(t, east)
		stream := call{Proto: "stream", To: netip.AddrPortFrom(away[0].addr, podPort), For: 5 * time.Second}
		for _, h := range home {
			if err := h.begin(stream); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.agents[holder].kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, h := range home {
			a, err := h.result()
			if err != nil || a.Error != "" {
				t.Errorf("kill %d: the stream of %s on %s broke: %v %s", i, h.pod, h.node, err, a.Error)
			}
			worst = max(worst, a.Gap)
			t.Logf("agent of %s killed: longest gap of %s on %s %s", holder, h.pod, h.node, round(a.Gap))
		}
		if err := w.agents[holder].start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if worst > 1500*time.Millisecond {
		t.Errorf("longest gap %s, want 1.5 s at most", round(worst))
	}
}

// TestGatewayNodeKilled: the node of the active gateway loses its power; flows of the other node go on. It returns by
// itself.
func TestGatewayNodeKilled(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t, "home", "away")
	home := w.pods(t, ns, "home", "", 2)
	away := w.pods(t, ns, "away", west, 1)
	w.opened(t, home, away)
	holder := w.holder(t, east)
	other := home[0]
	if other.node == holder {
		other = home[1]
	}
	if err := other.begin(call{Proto: "stream", To: netip.AddrPortFrom(away[0].addr, podPort), For: 6 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if err := w.sides[east].Kill(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	a, err := other.result()
	if err != nil || a.Error != "" {
		t.Errorf("the stream broke: %v %s\n%s", err, a.Error, w.agentLogs())
	}
	t.Logf("node %s killed: longest gap of %s on %s %s", holder, other.pod, other.node, round(a.Gap))
	if a.Gap > 1500*time.Millisecond {
		t.Errorf("longest gap %s, want 1.5 s at most", round(a.Gap))
	}
	if err := w.sides[east].Restart(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := w.agents[holder].start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.holder(t, east)
	w.opened(t, []*caller{other}, away)
	t.Logf("%s is a member again %s after its agent started", holder, round(time.Since(began)))
}

// TestAPIServersDown: the data plane needs no API server, and an agent starts without one.
func TestAPIServersDown(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t, "home", "away")
	home := w.pods(t, ns, "home", "", 2)
	away := w.pods(t, ns, "away", west, 1)
	w.opened(t, home, away)
	for _, name := range []string{east, west} {
		if err := w.sides[name].Kill(t.Context(), lab.APIServer); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := w.sides[name].Restart(context.Background(), lab.APIServer); err != nil {
				t.Error(err)
			}
		}()
	}
	for _, h := range home {
		if a := h.call(call{Proto: "stream", To: netip.AddrPortFrom(away[0].addr, podPort), For: 2 * time.Second}); a.Error != "" || a.Gap > 500*time.Millisecond {
			t.Errorf("without API servers: %s, longest gap %s", a.Error, a.Gap)
		}
	}
	for _, node := range append(w.sides[east].nodes, w.sides[west].nodes...) {
		if err := w.agents[node].kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.agents[node].start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	took := eventually(t, soon, "flows pass after all agents started without an API server", func(context.Context) error {
		if a := home[1].call(call{Proto: "tcp", To: netip.AddrPortFrom(away[0].addr, podPort), Size: 10}); a.Error != "" {
			return fmt.Errorf("%s", a.Error)
		}
		return nil
	})
	t.Logf("both API servers down: flows go on; all four agents killed and started meanwhile: traffic again after %s", round(took))
}

// TestOverTLS: where UDP is blocked the same packets go over TLS.
func TestOverTLS(t *testing.T) {
	w := theWorld(t)
	defer w.heal(t)
	ns := w.namespace(t, "away", "home")
	home := w.pods(t, ns, "home", "", 2)
	away := w.pods(t, ns, "away", west, 1)
	w.opened(t, home, away)
	if err := w.fault(t.Context(), w.between(east, west, "meta l4proto udp")...); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "the tunnel is down", w.sides[east].is(false, west))
	took := eventually(t, time.Minute, "the tunnel is up over TLS", w.sides[east].is(true, west))
	holder := w.holder(t, east)
	r, err := w.report(t.Context(), holder)
	if err != nil {
		t.Fatal(err)
	}
	ways := ""
	for _, p := range r.Paths {
		ways += fmt.Sprintf(" %s:%s", p.Peer, p.Transport)
	}
	for _, h := range home {
		for _, proto := range []string{"tcp", "udp", "icmp"} {
			w.cell(t, h, call{Proto: proto, To: netip.AddrPortFrom(away[0].addr, podPort), Size: 3000}, w.seen(t, west, east, h.addr))
		}
	}
	other, err := w.report(t.Context(), w.holder(t, west))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range other.Paths {
		ways += fmt.Sprintf(" %s:%s", p.Peer, p.Transport)
	}
	if !strings.Contains(ways, "TLS") {
		t.Errorf("no path says TLS:%s", ways)
	}
	t.Logf("UDP blocked: up over TLS after %s (paths%s); UDP is tried again every 5 minutes", round(took), ways)
}
