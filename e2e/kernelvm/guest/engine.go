package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/spillway-dev/spillway/tunnel"
)

// The guest runs itself again, once per node: an Engine works on the namespace of its process.
const (
	roleVariable = "SPILLWAY_GUEST_ROLE"
	keyVariable  = "SPILLWAY_GUEST_KEYS"
)

// The two clusters use the same range; each sees the other's under an alias. Their pod is an address of the node.
var roles = map[string]struct{ outer, other, id, otherID, sees, seenAs string }{
	"west": {"192.0.2.1", "192.0.2.2", "id-west", "id-east", "100.72.0.0/16", "100.71.0.0/16"},
	"east": {"192.0.2.2", "192.0.2.1", "id-east", "id-west", "100.71.0.0/16", "100.72.0.0/16"},
}

const (
	pods = "10.244.0.0/16"
	pod  = "10.244.0.9"
)

// runEngine joins two clusters of one node, and checks that a pod is reached under its alias, and seen under its own.
func runEngine() (string, error) {
	var keys [2]wgtypes.Key
	for i := range keys {
		var err error
		if keys[i], err = wgtypes.GeneratePrivateKey(); err != nil {
			return "", err
		}
	}
	west, err := startNode("west", keys[0], keys[1])
	if err != nil {
		return "", err
	}
	defer west.stop()
	east, err := startNode("east", keys[1], keys[0])
	if err != nil {
		return "", err
	}
	defer east.stop()
	v := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "eth0", Namespace: netlink.NsPid(west.cmd.Process.Pid)},
		PeerName:  "eth0", PeerNamespace: netlink.NsPid(east.cmd.Process.Pid),
	}
	if err := netlink.LinkAdd(v); err != nil {
		return "", fmt.Errorf("join the nodes: %w", err)
	}
	for _, n := range []*node{west, east} {
		if answer, err := n.ask("run"); err != nil || answer != "kernel" {
			return "", fmt.Errorf("run the engine: %q, %w", answer, err)
		}
	}
	for _, row := range []struct {
		from     *node
		to, want string
	}{{west, "100.72.0.9", "100.71.0.9"}, {east, "100.71.0.9", "100.72.0.9"}} {
		if answer, err := row.from.ask("dial " + row.to); err != nil || answer != row.want {
			return "", fmt.Errorf("dial %s: seen as %q, want %s; %w", row.to, answer, row.want, err)
		}
	}
	for _, n := range []*node{west, east} {
		if answer, err := n.ask("clean"); err != nil || answer != "clean" {
			return "", fmt.Errorf("clean: %q, %w", answer, err)
		}
	}
	return "pods of equal ranges reach each other both ways", nil
}

// node is a child process in a network namespace.
type node struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startNode(role string, own, other wgtypes.Key) (*node, error) {
	n := &node{cmd: exec.CommandContext(context.Background(), "/proc/self/exe")}
	n.cmd.Env = []string{roleVariable + "=" + role, keyVariable + "=" + own.String() + " " + other.PublicKey().String()}
	n.cmd.Stderr = os.Stderr
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	var err error
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	n.out = bufio.NewReader(out)
	return n, n.cmd.Start()
}

func (n *node) ask(question string) (string, error) {
	if _, err := fmt.Fprintln(n.in, question); err != nil {
		return "", err
	}
	line, err := n.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

func (n *node) stop() {
	_ = n.in.Close()
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

// nodeMain is the child: it answers lines of stdin.
func nodeMain(role string) int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		word, argument, _ := strings.Cut(in.Text(), " ")
		var answer string
		var err error
		switch word {
		case "run":
			answer, err = runNode(ctx, role, ended)
		case "dial":
			answer, err = dial(argument)
		case "clean":
			stop()
			answer, err = "clean", errors.Join(<-ended, tunnel.Clean(context.Background()), linkGone())
		}
		if err != nil {
			answer = "error: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		fmt.Println(answer)
	}
	return 0
}

func linkGone() error {
	if _, err := netlink.LinkByName("spillway0"); !errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("the device is left: %w", err)
	}
	return nil
}

// runNode gives the node its addresses, runs its Engine and waits until everything is installed.
func runNode(ctx context.Context, role string, ended chan<- error) (string, error) {
	r := roles[role]
	if err := errors.Join(address("lo", pod+"/32"), address("eth0", r.outer+"/24")); err != nil {
		return "", err
	}
	if err := serve(); err != nil {
		return "", err
	}
	log, err := zap.NewDevelopment(zap.IncreaseLevel(zap.WarnLevel))
	if err != nil {
		return "", err
	}
	engine, err := tunnel.New(tunnel.Options{Log: log})
	if err != nil {
		return "", err
	}
	topo, err := topology(role)
	if err != nil {
		return "", err
	}
	engine.Set(topo)
	go func() { ended <- engine.Run(ctx) }()
	deadline := time.After(60 * time.Second)
	for {
		report := engine.Report()
		if report.LastRoundUnix > 0 && report.LastError == "" && len(report.Missing) == 0 && len(report.Peers) == 1 {
			if !report.Kernel {
				return "userspace", nil
			}
			return "kernel", nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			return "", fmt.Errorf("the engine does not settle: %+v", report)
		}
	}
}

func topology(role string) (tunnel.Topology, error) {
	r := roles[role]
	own, public, _ := strings.Cut(os.Getenv(keyVariable), " ")
	key, err := wgtypes.ParseKey(own)
	if err != nil {
		return tunnel.Topology{}, err
	}
	other, err := wgtypes.ParseKey(public)
	if err != nil {
		return tunnel.Topology{}, err
	}
	real := netip.MustParsePrefix(pods)
	return tunnel.Topology{
		ClusterID: r.id, Self: "node", Port: port,
		Nodes: []tunnel.Node{{Name: "node", Addrs: []netip.Addr{netip.MustParseAddr(r.outer)}, PodCIDRs: []netip.Prefix{real}}},
		Slots: []tunnel.Slot{{Holder: "node", PrivateKey: key}},
		Pods:  []netip.Prefix{real},
		Peers: []tunnel.Peer{{
			Name: r.otherID, ClusterID: r.otherID, MTU: 1400,
			Slots:     []tunnel.PeerSlot{{PublicKey: other, Endpoint: netip.AddrPortFrom(netip.MustParseAddr(r.other), port)}},
			Remote:    []tunnel.Mapping{{Real: real, As: netip.MustParsePrefix(r.sees)}},
			Local:     []tunnel.Mapping{{Real: real, As: netip.MustParsePrefix(r.seenAs)}},
			Reachable: []netip.Addr{netip.MustParseAddr(pod)},
		}},
	}, nil
}

// serve tells who connects how it is seen.
func serve() error {
	l, err := net.Listen("tcp", ":7000")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			_ = c.Close()
		}
	}()
	return nil
}

// dial connects as the pod does.
func dial(to string) (string, error) {
	d := net.Dialer{Timeout: 20 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(pod)}}
	c, err := d.Dial("tcp", net.JoinHostPort(to, "7000"))
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}
