package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/spillway-dev/spillway/tunnel/device"
)

// space is a network namespace.
type space struct{ h netns.NsHandle }

func newSpace() (space, error) {
	var s space
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			s.h, err = netns.Get()
		}
		return err
	})
	if err == nil {
		err = s.run(func() error { return linkUp("lo") })
	}
	return s, err
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

func (s space) run(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(s.h); err != nil {
			return err
		}
		return f()
	})
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func address(name string, prefixes ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		a, err := netlink.ParseAddr(prefix)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// side is one end of the tunnel.
type side struct {
	space
	name  string
	key   wgtypes.Key
	inner netip.Addr
	outer netip.Addr
	dev   *device.Device
}

const port = 51820

// runDevice opens two devices in namespaces of this process, moves bytes through, and looks at what is refused.
func runDevice() (string, error) {
	sides := [2]*side{
		{name: "spillway0", inner: netip.MustParseAddr("10.5.0.1"), outer: netip.MustParseAddr("192.0.2.1")},
		{name: "spillway0", inner: netip.MustParseAddr("10.5.0.2"), outer: netip.MustParseAddr("192.0.2.2")},
	}
	for _, s := range sides {
		var err error
		if s.space, err = newSpace(); err != nil {
			return "", fmt.Errorf("make a namespace: %w", err)
		}
		if s.key, err = wgtypes.GeneratePrivateKey(); err != nil {
			return "", err
		}
	}
	a, b := sides[0], sides[1]
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0", Namespace: netlink.NsFd(a.h)}, PeerName: "eth0", PeerNamespace: netlink.NsFd(b.h)}
	if err := netlink.LinkAdd(v); err != nil {
		return "", fmt.Errorf("join the namespaces: %w", err)
	}
	for i, s := range sides {
		if err := s.open(sides[1-i]); err != nil {
			return "", err
		}
		if !s.dev.Kernel() {
			return "", errors.New("the device is not the kernel's")
		}
	}
	speed, err := transfer(a, b)
	if err != nil {
		return "", fmt.Errorf("move bytes through: %w", err)
	}
	if err := b.waitRefused(device.Refused{}); err != nil {
		return "", fmt.Errorf("good packets: %w", err)
	}
	if err := a.sendForeign(b); err != nil {
		return "", err
	}
	if err := a.sendForged(b); err != nil {
		return "", err
	}
	if err := b.waitRefused(device.Refused{Sources: 1, Data: 4}); err != nil {
		return "", err
	}
	for _, s := range sides {
		if err := s.dev.Close(); err != nil {
			return "", err
		}
		if err := s.run(func() error { _, err := netlink.LinkByName(s.name); return err }); !errors.As(err, &netlink.LinkNotFoundError{}) {
			return "", fmt.Errorf("the link is left: %v", err)
		}
	}
	return speed, nil
}

// open makes the device and tells it of the other side, the way an Engine does.
func (s *side) open(peer *side) error {
	var err error
	if s.dev, err = device.Open(device.Options{Name: s.name, MTU: 1420, Log: zap.NewNop(), NetNS: s.run}); err != nil {
		return err
	}
	// What a process leaves is taken over by the next.
	if s.dev, err = device.Open(device.Options{Name: s.name, MTU: 1420, Log: zap.NewNop(), NetNS: s.run}); err != nil {
		return err
	}
	return s.run(func() error {
		if err := address("eth0", s.outer.String()+"/24"); err != nil {
			return err
		}
		if err := address(s.name, s.inner.String()+"/24", "10.9.9.9/32"); err != nil {
			return err
		}
		client, err := wgctrl.New()
		if err != nil {
			return err
		}
		defer client.Close()
		listen := port
		err = client.ConfigureDevice(s.name, wgtypes.Config{PrivateKey: &s.key, ListenPort: &listen, Peers: []wgtypes.PeerConfig{{
			PublicKey:  peer.key.PublicKey(),
			Endpoint:   &net.UDPAddr{IP: peer.outer.AsSlice(), Port: port},
			AllowedIPs: []net.IPNet{{IP: peer.inner.AsSlice(), Mask: net.CIDRMask(32, 32)}},
		}}})
		return errors.Join(err, s.dev.CountArrivals(port), s.dev.CountArrivals(port))
	})
}

// transfer moves bytes by TCP from a to b.
func transfer(a, b *side) (string, error) {
	const size = 8 << 20
	var l net.Listener
	err := b.run(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(b.inner, 7000).String())
		return err
	})
	if err != nil {
		return "", err
	}
	defer l.Close()
	got := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.CopyN(io.Discard, c, size)
			_ = c.Close()
		}
		got <- err
	}()
	began := time.Now()
	err = a.run(func() error {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 20*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		_, err = c.Write(make([]byte, size))
		return err
	})
	if err != nil {
		return "", err
	}
	err = <-got
	return fmt.Sprintf("%.0f Mb/s in the emulator", size*8/time.Since(began).Seconds()/1e6), err
}

// sendForeign sends a packet whose source the peer does not allow.
func (s *side) sendForeign(to *side) error {
	return s.run(func() error {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(10, 9, 9, 9)}, &net.UDPAddr{IP: to.inner.AsSlice(), Port: 7})
		if err != nil {
			return fmt.Errorf("send from a foreign source: %w", err)
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	})
}

// sendForged sends what is not WireGuard's, a forged handshake, a forged packet, and one that the peer had before.
func (s *side) sendForged(to *side) error {
	return s.run(func() error {
		tap, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(swap(unix.ETH_P_ALL)))
		if err != nil {
			return fmt.Errorf("listen on the wire: %w", err)
		}
		defer unix.Close(tap)
		ping, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: to.inner.AsSlice(), Port: 7})
		if err != nil {
			return err
		}
		defer ping.Close()
		if _, err := ping.Write(make([]byte, 777)); err != nil {
			return err
		}
		had, err := nextData(tap)
		if err != nil {
			return err
		}
		c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: to.outer.AsSlice(), Port: port})
		if err != nil {
			return err
		}
		defer c.Close()
		initiation, data := make([]byte, 148), make([]byte, 100)
		initiation[0], data[0] = 1, 4
		for _, packet := range [][]byte{make([]byte, 50), initiation, data, had} {
			if _, err := c.Write(packet); err != nil {
				return err
			}
		}
		return nil
	})
}

// swap puts a number into the order of the wire.
func swap(n uint16) uint16 { return n<<8 | n>>8 }

// nextData returns the next data packet of WireGuard that is larger than 777 bytes.
func nextData(tap int) ([]byte, error) {
	const headers = 20 + 8
	buf := make([]byte, 65536)
	if err := unix.SetsockoptTimeval(tap, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return nil, err
	}
	for {
		n, _, err := unix.Recvfrom(tap, buf, 0)
		if err != nil {
			return nil, fmt.Errorf("read from the wire: %w", err)
		}
		if n > headers+777 && buf[0]>>4 == 4 && buf[9] == unix.IPPROTO_UDP && buf[headers] == 4 {
			return bytes.Clone(buf[headers:n]), nil
		}
	}
}

// waitRefused waits until the device counts as wanted, and goes on doing so.
func (s *side) waitRefused(want device.Refused) error {
	deadline := time.After(20 * time.Second)
	enough := time.After(3 * time.Second)
	for {
		got := s.dev.Refused()
		select {
		case <-enough:
			if got == want {
				return nil
			}
			enough = time.After(time.Second)
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			return fmt.Errorf("refused %+v, want %+v", got, want)
		}
	}
}
