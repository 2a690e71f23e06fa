package tunnel

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

var update = flag.Bool("update", false, "write the golden files")

// String is the Config as an operator would read it.
func (c Config) String() string {
	var b strings.Builder
	for _, change := range Diff(Config{}, c) {
		fmt.Fprintln(&b, change)
	}
	for _, d := range c.Devices {
		fmt.Fprintf(&b, "wg set %s listen-port %d private-key %x…\n", d.Link, d.Port, d.Key[:2])
		for _, p := range d.Peers {
			fmt.Fprintf(&b, "wg set %s peer %x… (%s) endpoint %s allowed-ips %s\n", d.Link, p.Key[:2], p.Peer, p.Endpoint, p.Allowed)
		}
	}
	p := c.Packets
	fmt.Fprintf(&b, "nft: devices %s, underlay %q, own %s, self %s, api %s port %d\n", p.Devices, p.Underlay, p.Own, p.Self, p.API, p.APIPort)
	for _, q := range p.Peers {
		fmt.Fprintf(&b, "nft: peer %s from %s and %s, may reach %s, sees the API at %s, %d slots, first %t\n",
			q.Name, q.Remote, q.SlotRange, q.Reachable, q.API, q.Slots, q.First)
		for _, m := range q.Translate {
			fmt.Fprintf(&b, "nft: peer %s sees %s as %s\n", q.Name, m.Real, m.As)
		}
	}
	return b.String()
}

// golden compares files with those in the archive testdata/NAME.txtar.
func golden(t *testing.T, name string, files map[string]string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txtar")
	if *update {
		var a txtar.Archive
		for _, name := range slices.Sorted(maps.Keys(files)) {
			a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(files[name])})
		}
		if err := os.WriteFile(path, txtar.Format(&a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, f := range a.Files {
		want[f.Name] = string(f.Data)
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("-want +got (go test -update writes them):\n%s", diff)
	}
}

func same(cidr string) Mapping {
	return Mapping{netip.MustParsePrefix(cidr), netip.MustParsePrefix(cidr)}
}

func alias(real, as string) Mapping {
	return Mapping{netip.MustParsePrefix(real), netip.MustParsePrefix(as)}
}

func addresses(text ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range text {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// lent is a topology of IPv4: three nodes of which gw-1 holds slot 0, and a peer with ranges of its own.
func lent(self string) Topology {
	node := func(name, addr, pods string) Node {
		return Node{Name: name, Gateway: name != "worker", Addrs: addresses(addr), PodCIDRs: []netip.Prefix{netip.MustParsePrefix(pods)}}
	}
	return Topology{
		ClusterID: "aaaa", Self: self, Port: 51820,
		Nodes: []Node{
			node("gw-1", "192.0.2.1", "10.1.1.0/24"), node("gw-2", "192.0.2.2", "10.1.2.0/24"), node("worker", "192.0.2.3", "10.1.3.0/24"),
		},
		Slots:      []Slot{{Holder: "gw-1", PrivateKey: wgtypes.Key{1}}},
		Pods:       []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		NodeRanges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		API: API{
			Service: netip.MustParseAddrPort("10.96.0.1:443"), Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6443")},
		},
		Peers: []Peer{{
			Name: "east", ClusterID: "bbbb", MTU: 1380,
			Slots:     []PeerSlot{{PublicKey: wgtypes.Key{2}, Endpoint: netip.MustParseAddrPort("203.0.113.1:51820")}},
			Remote:    []Mapping{same("10.2.0.0/16"), alias("192.0.2.0/24", "100.64.2.0/24")},
			Local:     []Mapping{same("10.1.0.0/16"), alias("192.0.2.0/24", "100.64.1.0/24"), alias("10.96.0.1/32", "100.64.9.1/32")},
			Reachable: addresses("10.1.3.7"),
		}},
	}
}

func equalRanges(self string) Topology {
	t := lent(self)
	t.Peers[0].Remote[0], t.Peers[0].Local[0] = alias("10.1.0.0/16", "10.72.0.0/16"), alias("10.1.0.0/16", "10.71.0.0/16")
	return t
}

func twoSlots(self string) Topology {
	t := lent(self)
	t.Slots = append(t.Slots, Slot{Holder: "gw-2", PrivateKey: wgtypes.Key{3}})
	t.Peers[0].Slots = append(t.Peers[0].Slots, PeerSlot{PublicKey: wgtypes.Key{4}})
	return t
}

func dual(self string) Topology {
	t := lent(self)
	for i := range t.Nodes {
		t.Nodes[i].Addrs = append(t.Nodes[i].Addrs, netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1)))
		t.Nodes[i].PodCIDRs = append(t.Nodes[i].PodCIDRs, netip.MustParsePrefix(fmt.Sprintf("fd00:1:%d::/64", i+1)))
	}
	t.Pods = append(t.Pods, netip.MustParsePrefix("fd00:1::/32"))
	t.Peers[0].Remote = append(t.Peers[0].Remote, same("fd00:2::/32"))
	t.Peers[0].Local = append(t.Peers[0].Local, alias("fd00:1::/32", "fd00:71::/32"))
	return t
}

func onlyIPv6(self string) Topology {
	t := dual(self)
	for i := range t.Nodes {
		t.Nodes[i].Addrs, t.Nodes[i].PodCIDRs = t.Nodes[i].Addrs[1:], t.Nodes[i].PodCIDRs[1:]
	}
	t.Pods, t.Peers[0].Remote, t.Peers[0].Local = t.Pods[1:], t.Peers[0].Remote[2:], t.Peers[0].Local[3:]
	t.Peers[0].Reachable = addresses("fd00:1:3::7")
	return t
}

func vacant(self string) Topology {
	t := twoSlots(self)
	t.Slots[1].Holder = ""
	return t
}

func TestPlan(t *testing.T) {
	for name, topology := range map[string]func(self string) Topology{
		"disjoint": lent, "equal": equalRanges, "two-slots": twoSlots, "dual": dual, "ipv6": onlyIPv6, "vacant-slot": vacant,
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			for _, self := range []string{"gw-1", "gw-2", "worker"} {
				files[self] = Plan(topology(self), 1500).String()
			}
			golden(t, name, files)
		})
	}
}

func TestPlan_NothingToDo(t *testing.T) {
	alone, stranger := lent("gw-1"), lent("nobody")
	alone.Peers = nil
	for name, topology := range map[string]Topology{"no peers": alone, "not among the nodes": stranger} {
		if got := Diff(Config{}, Plan(topology, 1500)); len(got) > 0 {
			t.Errorf("%s: %v, want nothing", name, got)
		}
	}
}

// Whatever way the MTU is known, no route carries more than the link below it takes.
func TestPlan_RoutesFitTheirLinks(t *testing.T) {
	for _, topology := range []func(string) Topology{lent, twoSlots, dual, onlyIPv6} {
		for _, underlay := range []int{1280, 1400, 1500, 9000} {
			for _, mtu := range []int{0, 1200, 1380, 8900} {
				for _, self := range []string{"gw-1", "worker"} {
					top := topology(self)
					top.Peers[0].MTU = mtu
					c := Plan(top, underlay)
					room := map[string]int{}
					for _, l := range c.Links {
						room[l.Name] = l.MTU
					}
					for _, r := range c.Routes {
						if r.MTU > room[r.Link] {
							t.Errorf("underlay %d, peer %d: %s is larger than its link's %d", underlay, mtu, r, room[r.Link])
						}
					}
				}
			}
		}
	}
}

func TestDiff(t *testing.T) {
	files := map[string]string{}
	for name, row := range map[string]struct{ from, to Topology }{
		"the slot moves here":   {vacantFor("gw-2", "gw-1"), vacantFor("gw-2", "gw-2")},
		"the slot moves away":   {vacantFor("gw-1", "gw-1"), vacantFor("gw-1", "gw-2")},
		"a range of the peer":   {lent("worker"), equalRanges("worker")},
		"a smaller path":        {lent("worker"), withMTU(lent("worker"), 1240)},
		"the last peer goes":    {lent("worker"), withoutPeers(lent("worker"))},
		"a second slot is used": {lent("worker"), twoSlots("worker")},
	} {
		var b strings.Builder
		changes := Diff(Plan(row.from, 1500), Plan(row.to, 1500))
		for _, c := range changes {
			fmt.Fprintln(&b, c)
		}
		files[name] = b.String()
		if !slices.IsSortedFunc(changes, func(a, b Change) int {
			return strings.Compare(fmt.Sprint(!a.Add), fmt.Sprint(!b.Add)) // false, which adds, is first
		}) {
			t.Errorf("%s: something is deleted before everything was added:\n%s", name, b.String())
		}
	}
	golden(t, "diff", files)
}

func vacantFor(self, holder string) Topology {
	t := lent(self)
	t.Slots[0].Holder = holder
	return t
}

func withMTU(t Topology, mtu int) Topology {
	t.Peers[0].MTU = mtu
	return t
}

func withoutPeers(t Topology) Topology {
	t.Peers = nil
	return t
}

// Applying a difference gives what was wanted, and no difference any more.
func TestDiff_LeadsThere(t *testing.T) {
	var all []Config
	for _, topology := range []func(string) Topology{lent, equalRanges, twoSlots, dual, onlyIPv6, vacant} {
		for _, self := range []string{"gw-1", "gw-2", "worker"} {
			all = append(all, Plan(topology(self), 1500))
		}
	}
	all = append(all, Config{})
	for _, have := range all {
		for _, want := range all {
			now := pretend(have, Diff(have, want))
			if left := Diff(now, want); len(left) > 0 {
				t.Fatalf("left after all changes: %v", left)
			}
			if len(now.Routes) != len(want.Routes) || len(now.Rules) != len(want.Rules) || len(now.Links) != len(want.Links) ||
				len(now.Addresses) != len(want.Addresses) {
				t.Fatalf("more is there than wanted: %v", now)
			}
		}
	}
}

// pretend does changes as the kernel does.
func pretend(have Config, changes []Change) Config {
	c := Config{
		Links: slices.Clone(have.Links), Addresses: slices.Clone(have.Addresses), Neighbors: slices.Clone(have.Neighbors),
		Routes: slices.Clone(have.Routes), Rules: slices.Clone(have.Rules),
	}
	for _, change := range changes {
		switch item := change.Item.(type) {
		case Link:
			c.Links = put(c.Links, item, change.Add, func(o Link) bool { return o.Name == item.Name })
		case Address:
			c.Addresses = put(c.Addresses, item, change.Add, func(o Address) bool { return o == item })
		case Neighbor:
			c.Neighbors = put(c.Neighbors, item, change.Add, func(o Neighbor) bool { return o.Addr == item.Addr })
		case Route:
			c.Routes = put(c.Routes, item, change.Add, func(o Route) bool { return o.Table == item.Table && o.Dst == item.Dst && o.Metric == item.Metric })
		case Rule:
			c.Rules = put(c.Rules, item, change.Add, func(o Rule) bool { return o == item })
		}
	}
	return c
}

func put[T any](list []T, item T, add bool, match func(T) bool) []T {
	list = slices.DeleteFunc(list, match)
	if add {
		list = append(list, item)
	}
	return list
}
