package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/spillway-dev/spillway/internal/netbench"
	"github.com/spillway-dev/spillway/tunnel"
	"github.com/spillway-dev/spillway/tunnel/probe"
)

// order is what a child is to do; what is not set is not done.
type order struct {
	// Serve runs a netbench server.
	Serve bool
	// Bare opens a device of wireguard-go as it comes.
	Bare *bareDevice
	// Topology is handed to an Engine; the answer comes when the kernel is as it says.
	Topology *tunnel.Topology
	// Measure runs a netbench client.
	Measure *netbench.Options
	// Probe these targets, all of which are up when the answer comes.
	Probe []probe.Target
	// Swarm is the other side of many tunnels.
	Swarm *swarm
	// Profile the processor for so long into a file.
	Profile    time.Duration
	ProfileTo  string
	HeapTo     string
	FreeMemory bool
}

type answer struct {
	Error  string
	Result netbench.Result
}

// bareDevice is a device of wireguard-go with one peer.
type bareDevice struct {
	Key, Peer wgtypes.Key
	Endpoint  netip.AddrPort
	Allowed   []netip.Prefix
	MTU       int
}

// node is what a child holds.
type node struct {
	ctx    context.Context
	log    *zap.Logger
	engine *tunnel.Engine
	news   chan struct{}
	prober *probe.Prober
	bare   *device.Device
}

// childMain takes orders from stdin until it ends, as when the parent does.
func childMain() int {
	// A /run of its own: configuration sockets of devices of one name would collide.
	err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	err = cmp.Or(err, syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	err = cmp.Or(err, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	if err != nil {
		fmt.Fprintf(os.Stderr, "prepare a node: %v\n", err)
		return 1
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	config := zap.NewProductionConfig()
	config.Level = zap.NewAtomicLevelAt(zap.ErrorLevel)
	log, err := config.Build()
	if err != nil {
		log = zap.NewNop()
	}
	n := &node{ctx: ctx, log: log, news: make(chan struct{}, 1)}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprintf(os.Stderr, "read an order: %v\n", err)
			}
			return 0
		}
		var a answer
		if err := n.obey(o, &a); err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return 1
		}
	}
}

func (n *node) obey(o order, a *answer) error {
	if o.Serve {
		if err := n.serve(); err != nil {
			return err
		}
	}
	if o.Bare != nil {
		if err := n.openBare(*o.Bare); err != nil {
			return err
		}
	}
	if o.Topology != nil {
		if err := n.set(*o.Topology); err != nil {
			return err
		}
	}
	if o.Swarm != nil {
		if err := n.openSwarm(*o.Swarm); err != nil {
			return err
		}
	}
	if o.Probe != nil {
		if err := n.probe(o.Probe); err != nil {
			return err
		}
	}
	if o.Profile > 0 || o.HeapTo != "" {
		if err := n.profile(o); err != nil {
			return err
		}
	}
	if o.FreeMemory {
		debug.FreeOSMemory()
	}
	var err error
	if o.Measure != nil {
		a.Result, err = netbench.Run(n.ctx, *o.Measure)
	}
	return err
}

func (n *node) serve() error {
	server, err := netbench.Listen(n.ctx, fmt.Sprintf(":%d", netbench.DefaultPort))
	if err != nil {
		return err
	}
	go func() {
		if err := server.Serve(n.ctx); err != nil {
			n.log.Error("the server of a node ended", zap.Error(err))
		}
	}()
	return nil
}

// openBare does what the program wireguard-go does.
func (n *node) openBare(b bareDevice) error {
	t, err := tun.CreateTUN(bareLink, b.MTU)
	if err != nil {
		return fmt.Errorf("make device %s: %w", bareLink, err)
	}
	n.bare = device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	return configure(n.bare, b, wireguardPort, 0)
}

// configure starts a device of wireguard-go.
func configure(d *device.Device, b bareDevice, port int, keepalive time.Duration) error {
	var text strings.Builder
	fmt.Fprintf(&text, "private_key=%s\nlisten_port=%d\npublic_key=%s\n", hex.EncodeToString(b.Key[:]), port, hex.EncodeToString(b.Peer[:]))
	fmt.Fprintf(&text, "endpoint=%s\npersistent_keepalive_interval=%d\n", b.Endpoint, int(keepalive.Seconds()))
	for _, p := range b.Allowed {
		fmt.Fprintf(&text, "allowed_ip=%s\n", p)
	}
	if err := d.IpcSet(text.String()); err != nil {
		return fmt.Errorf("configure wireguard-go: %w", err)
	}
	return d.Up()
}

// patience is how long anything may take to come up.
const patience = 30 * time.Second

// set hands a topology to the engine and waits until a round has made everything so.
func (n *node) set(t tunnel.Topology) error {
	if n.engine == nil {
		var err error
		n.engine, err = tunnel.New(tunnel.Options{Log: n.log, Userspace: true, Changed: func() {
			select {
			case n.news <- struct{}{}:
			default:
			}
		}})
		if err != nil {
			return err
		}
		go func() {
			if err := n.engine.Run(n.ctx); err != nil {
				n.log.Error("the engine of a node ended", zap.Error(err))
			}
		}()
	}
	n.engine.Set(t)
	late := time.After(patience)
	for {
		select {
		case <-n.news:
		case <-late:
			return fmt.Errorf("the engine is not done after %s: %s", patience, n.engine.Report().LastError)
		}
		if r := n.engine.Report(); r.LastError == "" && len(r.Missing) == 0 {
			return nil
		}
	}
}

// probe starts a prober and waits until every target is up.
func (n *node) probe(targets []probe.Target) error {
	n.prober = probe.New(probe.Options{Log: n.log})
	n.prober.Set(targets)
	go func() {
		if err := n.prober.Run(n.ctx); err != nil {
			n.log.Error("the prober of a node ended", zap.Error(err))
		}
	}()
	if !targets[0].Initiate {
		return nil // the other side waits
	}
	late, every := time.After(patience), time.NewTicker(100*time.Millisecond)
	defer every.Stop()
	for {
		up := 0
		for _, s := range n.prober.States() {
			if s.Up && s.MTU == targets[0].MaxMTU {
				up++
			}
		}
		if up == len(targets) {
			return nil
		}
		select {
		case <-every.C:
		case <-late:
			return fmt.Errorf("%d of %d probed paths are up after %s", up, len(targets), patience)
		}
	}
}
