package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/conn"
	wireguard "golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/tun/tuntest"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/spillway-dev/spillway/internal/netbench"
	"github.com/spillway-dev/spillway/tunnel/device"
)

const (
	link      = "spillway0"
	mtu       = 1420
	keepalive = 25 * time.Second
)

// childMain answers lines of stdin.
func childMain() int {
	err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	err = cmp.Or(err, syscall.Mount("tmpfs", "/run", "tmpfs", 0, "")) // configuration sockets would collide
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0
		}
		word, argument, _ := strings.Cut(strings.TrimSpace(line), " ")
		answer := "ok"
		switch word {
		case "setup":
			err = setUp(ctx, argument)
		case "measure":
			answer, err = measure(ctx, argument)
		case "sessions":
			err = awaitSessions(argument)
		}
		if err != nil {
			answer = "error: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		fmt.Println(answer)
	}
}

func setUp(ctx context.Context, text string) error {
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	if err := address("eth0", s.Outer); err != nil {
		return err
	}
	switch s.Kind {
	case kindBare:
		if err := s.openBare(); err != nil {
			return err
		}
	case kindOurs:
		if err := s.openOurs(); err != nil {
			return err
		}
	case kindSwarm:
		return s.openSwarm()
	}
	if err := address(link, s.Inner); err != nil {
		return err
	}
	server, err := netbench.Listen(ctx, fmt.Sprintf(":%d", netbench.DefaultPort))
	if err != nil {
		return err
	}
	go func() { _ = server.Serve(ctx) }()
	return nil
}

func address(name, prefix string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(l, a), netlink.LinkSetUp(l))
}

// openBare is what the program wireguard-go does.
func (s spec) openBare() error {
	t, err := tun.CreateTUN(link, mtu)
	if err != nil {
		return err
	}
	d := wireguard.NewDevice(t, conn.NewDefaultBind(), wireguard.NewLogger(wireguard.LogLevelSilent, ""))
	return configure(d, s.Key, s.Peers, port, 0)
}

func configure(d *wireguard.Device, key wgtypes.Key, peers []peer, port int, every time.Duration) error {
	var text strings.Builder
	fmt.Fprintf(&text, "private_key=%s\nlisten_port=%d\n", hex.EncodeToString(key[:]), port)
	for _, p := range peers {
		fmt.Fprintf(&text, "public_key=%s\nallowed_ip=%s\npersistent_keepalive_interval=%d\n",
			hex.EncodeToString(p.Key[:]), p.Allowed, int(every.Seconds()))
		if p.Endpoint != "" {
			fmt.Fprintf(&text, "endpoint=%s\n", p.Endpoint)
		}
	}
	if err := d.IpcSet(text.String()); err != nil {
		return err
	}
	return d.Up()
}

func (s spec) openOurs() error {
	if _, err := device.Open(device.Options{Name: link, MTU: mtu, ForceUserspace: true, Log: zap.NewNop()}); err != nil {
		return err
	}
	client, err := wgctrl.New()
	if err != nil {
		return err
	}
	defer client.Close()
	listen, every := port, keepalive
	c := wgtypes.Config{PrivateKey: &s.Key, ListenPort: &listen}
	for _, p := range s.Peers {
		_, allowed, err := net.ParseCIDR(p.Allowed)
		if err != nil {
			return err
		}
		peer := wgtypes.PeerConfig{PublicKey: p.Key, AllowedIPs: []net.IPNet{*allowed}, PersistentKeepaliveInterval: &every}
		if p.Endpoint != "" {
			endpoint, err := netip.ParseAddrPort(p.Endpoint)
			if err != nil {
				return err
			}
			peer.Endpoint = net.UDPAddrFromAddrPort(endpoint)
		}
		c.Peers = append(c.Peers, peer)
	}
	return client.ConfigureDevice(link, c)
}

func (s spec) openSwarm() error {
	for _, key := range s.Swarm {
		d := wireguard.NewDevice(tuntest.NewChannelTUN().TUN(), conn.NewDefaultBind(), wireguard.NewLogger(wireguard.LogLevelSilent, ""))
		if err := configure(d, key, s.Peers, 0, keepalive); err != nil {
			return err
		}
	}
	return nil
}

// measure answers with the bits per second, both ways in turn.
func measure(ctx context.Context, text string) (string, error) {
	to, length, _ := strings.Cut(text, " ")
	addr, err := netip.ParseAddr(to)
	if err != nil {
		return "", err
	}
	d, err := time.ParseDuration(length)
	if err != nil {
		return "", err
	}
	r, err := netbench.Run(ctx, netbench.Options{Target: netip.AddrPortFrom(addr, netbench.DefaultPort), Duration: d, Wait: 10 * time.Second})
	return fmt.Sprint((r.UpBitsPerSecond + r.DownBitsPerSecond) / 2), err
}

// awaitSessions waits until so many peers have made a handshake.
func awaitSessions(text string) error {
	var want int
	if _, err := fmt.Sscan(text, &want); err != nil {
		return err
	}
	client, err := wgctrl.New()
	if err != nil {
		return err
	}
	defer client.Close()
	deadline := time.Now().Add(30 * time.Second)
	for {
		d, err := client.Device(link)
		if err != nil {
			return err
		}
		have := 0
		for _, p := range d.Peers {
			if !p.LastHandshakeTime.IsZero() {
				have++
			}
		}
		if have >= want {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d peers are in session after 30 s", have, want)
		}
		<-time.After(100 * time.Millisecond)
	}
}
