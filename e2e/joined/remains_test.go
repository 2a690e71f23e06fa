package joined

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestNothingRemains: un-peering and `spillwayd node clean` leave the kernels of all nodes as they were before the first
// agent started. That was long ago, so each node boots again first.
func TestNothingRemains(t *testing.T) {
	w := theWorld(t)
	var nodes []string
	for cluster, s := range w.sides {
		for _, node := range s.nodes {
			w.reboot(t, cluster, node)
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	before := w.inventories(t, nodes)
	for _, node := range nodes {
		if err := w.agents[node].start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	peer := func(ctx context.Context) {
		for _, provider := range []string{west, far} {
			if out, err := w.peer(ctx, provider); err != nil {
				t.Errorf("peer: %v\n%s", err, out)
			}
		}
	}
	t.Cleanup(func() { // the other tests want it as it was
		for _, node := range nodes {
			if w.agents[node].pid() == 0 {
				if err := w.agents[node].start(context.Background()); err != nil {
					t.Error(err)
				}
			}
		}
		peer(context.Background())
	})
	for _, provider := range []string{west, far} {
		eventually(t, soon, "the tunnel to "+provider+" is up", w.sides[east].is(true, provider))
	}
	with := w.inventories(t, nodes)
	for _, provider := range []string{west, far} {
		if out, err := w.spillway(t.Context(), "unpeer", "--context", east, "--remote-context", provider); err != nil {
			t.Fatalf("unpeer: %v\n%s", err, out)
		}
	}
	made, left := 0, 0
	for _, node := range nodes {
		if err := w.agents[node].kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.agents[node].run(t.Context(), "node", "clean"); err != nil {
			t.Fatal(err)
		}
	}
	after := w.inventories(t, nodes)
	for _, node := range nodes {
		made += len(missing(with[node], before[node]))
		for _, line := range missing(after[node], before[node]) {
			left++
			t.Errorf("%s: left: %s", node, line)
		}
		for _, line := range missing(before[node], after[node]) {
			left++
			t.Errorf("%s: gone: %s", node, line)
		}
	}
	if made == 0 {
		t.Error("the tunnel made nothing: this shows nothing")
	}
	t.Logf("%d nodes: %d lines of links, addresses, routes, rules, neighbours, nftables and settings while peered that were not there before; %d differ afterwards", len(nodes), made, left)
}

// run runs spillwayd on the node.
func (a *nodeAgent) run(ctx context.Context, args ...string) error {
	cmd, err := a.w.lab.RealNodes().Command(ctx, a.node, append([]string{"/node/spillwayd"}, args...)...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("spillwayd %s on %s: %w: %s", strings.Join(args, " "), a.node, err, out)
	}
	return nil
}

// inventory prints what of a node's network does not change by itself: not the pods' own devices and what
// their bridge gets with the first of them, not kube-proxy's rules.
const inventory = `
ip -o link show | sed 's/^[0-9]*: //; s/@[^:]*//' | awk '{print "link", $1, $2, $3, $4, $5}' | grep -v ' veth'
ip -o addr show | awk '$2 !~ /^veth/ && !($2 == "cni0" && $4 ~ /^fe80/) {print "address", $2, $3, $4}'
for f in -4 -6; do ip $f route show table all | grep -v ' dev veth' | grep -v '^.*fe80::.* dev cni0' | sed "s/^/route $f /"; ip $f rule show | sed "s/^/rule $f /"; done
ip neigh show nud permanent | sed 's/^/neighbour /'
bridge fdb show 2>/dev/null | grep -v veth | sed 's/^/fdb /'
nft list tables | sed 's/^/nft /'
for t in $(nft list tables | grep -v kube-proxy | awk '{print $2":"$3}'); do nft -s list table ${t%:*} ${t#*:} | sed "s/^/nft $t /"; done
for f in net/ipv4/ip_forward net/ipv6/conf/all/forwarding net/ipv4/conf/all/rp_filter net/ipv4/conf/eth0/rp_filter; do echo setting $f $(cat /proc/sys/$f 2>/dev/null); done`

// inventories of all nodes, once each is at rest: pods of the cluster itself come back after a boot.
func (w *world) inventories(t *testing.T, nodes []string) map[string][]string {
	t.Helper()
	out := make(map[string][]string, len(nodes))
	for _, node := range nodes {
		last := ""
		same := 0
		eventually(t, soon, "the network of "+node+" is at rest", func(ctx context.Context) error {
			text, err := w.look(ctx, node, inventory)
			if err != nil {
				return fmt.Errorf("%w: %s", err, text)
			}
			if text == last {
				same++
			} else {
				last, same = text, 0
			}
			if same < 20 {
				return fmt.Errorf("it changes")
			}
			return nil
		})
		out[node] = strings.Split(strings.TrimSpace(last), "\n")
	}
	return out
}

// missing are the lines of a that b does not have.
func missing(a, b []string) []string {
	var out []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			out = append(out, line)
		}
	}
	return out
}
