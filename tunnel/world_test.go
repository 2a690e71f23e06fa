package tunnel

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// process is a child in a network namespace of its own.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	h   *netlink.Handle
}

func start(t *testing.T, role string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.in.Close()
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	ns, err := netns.GetFromPid(p.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if p.h, err = netlink.NewHandleAt(ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.h.Close)
	p.command("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
	p.up("lo")
	return p
}

// ask sends a line and decodes the line that comes back.
func (p *process) ask(question string, into any) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, question); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("ask: %v", err)
	}
	if err := json.Unmarshal([]byte(line), into); err != nil {
		p.t.Fatalf("answer %q: %v", line, err)
	}
}

func (p *process) set(topo Topology) {
	p.t.Helper()
	data, err := json.Marshal(topo)
	if err != nil {
		p.t.Fatal(err)
	}
	var trouble string
	if p.ask(string(data), &trouble); trouble != "" {
		p.t.Errorf("node %s of %s does not settle: %s", topo.Self, topo.ClusterID, trouble)
	}
}

// command runs a program in the namespace, for looking and for breaking.
func (p *process) command(args ...string) string {
	out, _ := exec.CommandContext(p.t.Context(), "nsenter", append([]string{"-t", fmt.Sprint(p.cmd.Process.Pid), "-n", "-m"}, args...)...).CombinedOutput()
	return string(out)
}

func (p *process) link(name string) netlink.Link {
	p.t.Helper()
	l, err := p.h.LinkByName(name)
	if err != nil {
		p.t.Fatal(err)
	}
	return l
}

func (p *process) up(name string) {
	p.t.Helper()
	if err := p.h.LinkSetUp(p.link(name)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) addr(name, prefix string) {
	p.t.Helper()
	if err := p.h.AddrReplace(p.link(name), &netlink.Addr{IPNet: netOf(netip.MustParsePrefix(prefix)), Flags: unix.IFA_F_NODAD}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) route(dst, via, dev string) {
	p.t.Helper()
	r := &netlink.Route{Dst: netOf(netip.MustParsePrefix(dst)), LinkIndex: p.link(dev).Attrs().Index}
	if via != "" {
		r.Gw = netip.MustParseAddr(via).AsSlice()
	}
	if err := p.h.RouteReplace(r); err != nil {
		p.t.Fatalf("route %s via %s: %v", dst, via, err)
	}
}

// plug joins two namespaces with a pair of links.
func plug(t *testing.T, a *process, nameA string, b *process, nameB string) {
	t.Helper()
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsPid(b.cmd.Process.Pid)}
	if err := a.h.LinkAdd(v); err != nil {
		t.Fatal(err)
	}
	a.up(nameA)
	b.up(nameB)
}

// world is a wide-area network with clusters. Each has a gateway and an ordinary node with a pod on each.
type world struct {
	t        *testing.T
	wan      *process
	clusters []*cluster
}

type cluster struct {
	number      int
	id          string
	nodes, pods []*process
	podCIDR     netip.Prefix // a /16
	keys        []wgtypes.Key
	topo        Topology // as its first node sees it
}

// nodeAddr and podAddr number nodes and pods from 0.
func (c *cluster) nodeAddr(i int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("192.168.%d.%d", 10+c.number, 10+i))
}

// nodeAddr6 is known to the cluster's own network only.
func (c *cluster) nodeAddr6(i int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd99:%x::%x", c.number, 10+i))
}

func (c *cluster) podAddr(i int) netip.Addr {
	b := c.podCIDR.Addr().As4()
	return netip.AddrFrom4([4]byte{b[0], b[1], byte(i), 9})
}

func (c *cluster) podAddr6(i int) netip.Addr {
	b := c.podCIDR.Addr().As4()
	return netip.MustParseAddr(fmt.Sprintf("fd10:%x:%x::9", int(b[0])<<8|int(b[1]), i))
}

func newWorld(t *testing.T, podCIDRs ...string) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	for _, program := range []string{"ip", "nft", "sysctl", "nsenter", "bridge"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs " + program + ": it sets up the network and breaks it")
		}
	}
	w := &world{t: t, wan: start(t, "node")}
	for i, cidr := range podCIDRs {
		c := &cluster{number: i, id: fmt.Sprintf("id-%d", i), podCIDR: netip.MustParsePrefix(cidr)}
		for range MaxSlots {
			key, err := wgtypes.GeneratePrivateKey()
			if err != nil {
				t.Fatal(err)
			}
			c.keys = append(c.keys, key)
		}
		w.clusters = append(w.clusters, c)
		bridge := fmt.Sprintf("br%d", i)
		if err := w.wan.h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}); err != nil {
			t.Fatal(err)
		}
		w.wan.up(bridge)
		w.wan.addr(bridge, fmt.Sprintf("192.168.%d.1/24", 10+i))
		for j := range 2 {
			w.addNode(c, bridge, j)
		}
		for j, n := range c.nodes {
			other := 1 - j
			n.route(fmt.Sprintf("%s/24", masked(c.podAddr(other), 24)), c.nodeAddr(other).String(), "eth0")
			n.route(fmt.Sprintf("%s/64", masked(c.podAddr6(other), 64)), c.nodeAddr6(other).String(), "eth0")
		}
	}
	w.wan.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
	return w
}

func masked(a netip.Addr, bits int) netip.Addr { return netip.PrefixFrom(a, bits).Masked().Addr() }

func (w *world) addNode(c *cluster, bridge string, j int) {
	w.t.Helper()
	n := start(w.t, "node")
	c.nodes = append(c.nodes, n)
	port := fmt.Sprintf("n%d-%d", c.number, j)
	plug(w.t, w.wan, port, n, "eth0")
	if err := w.wan.h.LinkSetMaster(w.wan.link(port), w.wan.link(bridge)); err != nil {
		w.t.Fatal(err)
	}
	n.addr("eth0", c.nodeAddr(j).String()+"/24")
	n.addr("eth0", c.nodeAddr6(j).String()+"/64")
	n.route("0.0.0.0/0", fmt.Sprintf("192.168.%d.1", 10+c.number), "eth0")
	n.command("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	// What CNIs do to packets that leave the cluster, and what must not happen to ours.
	n.command("nft", "add table ip cni; add chain ip cni post { type nat hook postrouting priority srcnat; }; "+
		fmt.Sprintf("add rule ip cni post ip saddr %s ip daddr != %s masquerade", c.podCIDR, c.podCIDR))
	pod := start(w.t, "pod")
	c.pods = append(c.pods, pod)
	plug(w.t, n, "pod0", pod, "eth0")
	addr, addr6 := c.podAddr(j), c.podAddr6(j)
	gateway := addr.Prev().String()
	n.addr("pod0", gateway+"/24")
	pod.addr("eth0", addr.String()+"/24")
	pod.route("0.0.0.0/0", gateway, "eth0")
	n.addr("pod0", addr6.Prev().String()+"/64")
	pod.addr("eth0", addr6.String()+"/64")
	pod.route("::/0", addr6.Prev().String(), "eth0")
	if line, err := pod.out.ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
		w.t.Fatalf("pod: %q %v", line, err)
	}
}

// seen maps a range of a to what b sees it as.
type seen func(a, b *cluster, real netip.Prefix) netip.Prefix

// join gives every node its topology. slots is how many active gateways there are: with two, both nodes hold one.
func (w *world) join(as seen, slots int) {
	w.t.Helper()
	for _, c := range w.clusters {
		c.topo = w.topology(c, as, slots)
		for j, n := range c.nodes {
			n.set(c.at(j))
		}
	}
}

// at is the topology as node j gets it.
func (c *cluster) at(j int) Topology {
	t := c.topo
	t.Self = t.Nodes[j].Name
	t.Slots = nil
	for k, s := range c.topo.Slots {
		if s.Holder == t.Self {
			s.PrivateKey = c.keys[k]
		}
		t.Slots = append(t.Slots, s)
	}
	t.Peers = nil
	for _, p := range c.topo.Peers {
		p.Reachable = []netip.Addr{c.podAddr(j), c.podAddr6(j)}
		t.Peers = append(t.Peers, p)
	}
	return t
}

func (c *cluster) ranges() []netip.Prefix {
	return []netip.Prefix{c.podCIDR, netip.PrefixFrom(c.podAddr6(0), 32).Masked(), netip.PrefixFrom(c.nodeAddr(0), 24).Masked()}
}

func (w *world) topology(c *cluster, as seen, slots int) Topology {
	t := Topology{ClusterID: c.id, Pods: c.ranges()[:2], NodeRanges: c.ranges()[2:], Port: 51820}
	for j := range c.nodes {
		t.Nodes = append(t.Nodes, Node{
			Name: fmt.Sprintf("node-%d", j), Addrs: []netip.Addr{c.nodeAddr(j)},
			PodCIDRs: []netip.Prefix{netip.PrefixFrom(c.podAddr(j), 24).Masked(), netip.PrefixFrom(c.podAddr6(j), 64).Masked()},
		})
	}
	for k := range slots {
		t.Slots = append(t.Slots, Slot{Holder: t.Nodes[k].Name})
	}
	for _, o := range w.clusters {
		if o == c {
			continue
		}
		p := Peer{Name: o.id, ClusterID: o.id, MTU: 1400}
		for k := range slots {
			p.Slots = append(p.Slots, PeerSlot{
				PublicKey: o.keys[k].PublicKey(), Endpoint: netip.AddrPortFrom(o.nodeAddr(k), 51820+uint16(k)),
			})
		}
		for _, r := range o.ranges() {
			p.Remote = append(p.Remote, Mapping{Real: r, As: as(o, c, r)})
		}
		for _, r := range c.ranges() {
			p.Local = append(p.Local, Mapping{Real: r, As: as(c, o, r)})
		}
		t.Peers = append(t.Peers, p)
	}
	return t
}
