package device

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// space is a network namespace without a name; it ends with the test.
type space struct {
	t *testing.T
	h netns.NsHandle
}

func newSpace(t *testing.T) *space {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	s := &space{t: t}
	made := make(chan error)
	go func() { // its thread ends with it
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			s.h, err = netns.Get()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Skipf("no network namespace can be made: %v", err)
	}
	t.Cleanup(func() { _ = s.h.Close() })
	s.must(func() error { return setUp("lo") })
	return s
}

// run runs f in the namespace, on a thread that ends with it.
func (s *space) run(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := netns.Set(s.h)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (s *space) must(f func() error) {
	s.t.Helper()
	if err := s.run(f); err != nil {
		s.t.Fatal(err)
	}
}

func setUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func address(name, prefix string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	a.Flags = unix.IFA_F_NODAD
	return errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link))
}

// plug joins two namespaces by links eth0 of an MTU, with addresses 192.0.2.1 and .2.
func plug(t *testing.T, a, b *space, mtu int) {
	t.Helper()
	a.must(func() error {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0", MTU: mtu}, PeerName: "eth0", PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(b.h)}
		return errors.Join(netlink.LinkAdd(v), address("eth0", "192.0.2.1/24"))
	})
	b.must(func() error { return address("eth0", "192.0.2.2/24") })
}

// gateway is an open userspace device with a link, in a namespace.
type gateway struct {
	*Device
	*space
	name string
	key  wgtypes.Key
}

func newGateway(t *testing.T, s *space, name, addr string, mtu int) *gateway {
	t.Helper()
	key, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{space: s, name: fmt.Sprintf("%s-%d", name, os.Getpid()%1e6), key: key}
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	g.Device, err = Open(Options{Name: g.name, MTU: mtu, ForceUserspace: true, Log: log, NetNS: s.run})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	s.must(func() error { return address(g.name, addr) })
	return g
}

// join tells two devices of each other, the way an Engine does.
func join(t *testing.T, a, b *gateway) {
	t.Helper()
	client, err := wgctrl.New()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i, pair := range [][2]*gateway{{a, b}, {b, a}} {
		port := 51820
		c := wgtypes.Config{PrivateKey: &pair[0].key, ListenPort: &port, Peers: []wgtypes.PeerConfig{{
			PublicKey:  pair[1].key.PublicKey(),
			Endpoint:   &net.UDPAddr{IP: net.IPv4(192, 0, 2, byte(2-i)), Port: port},
			AllowedIPs: []net.IPNet{{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}},
		}}}
		if err := client.ConfigureDevice(pair[0].name, c); err != nil {
			t.Fatal(err)
		}
	}
}

// transfer moves n bytes by TCP from a to b.
func transfer(t *testing.T, a, b *space, to string, n int64) {
	t.Helper()
	var l net.Listener
	b.must(func() (err error) {
		l, err = net.Listen("tcp", to)
		return err
	})
	defer l.Close()
	got := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- err
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = io.CopyN(io.Discard, c, n)
		got <- err
	}()
	a.must(func() error {
		c, err := net.DialTimeout("tcp", to, 10*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		buf := make([]byte, 256<<10)
		for left := n; left > 0; left -= int64(len(buf)) {
			if _, err := c.Write(buf); err != nil {
				return err
			}
		}
		return nil
	})
	if err := <-got; err != nil {
		t.Errorf("bulk TCP: %v", err)
	}
}

func TestDevice_BulkPassesWhateverThePathTakes(t *testing.T) {
	for name, row := range map[string]struct{ outer, inner int }{
		"room enough":              {1500, 1440},
		"a path that is too small": {1280, 1440},
	} {
		t.Run(name, func(t *testing.T) {
			sa, sb := newSpace(t), newSpace(t)
			plug(t, sa, sb, row.outer)
			a, b := newGateway(t, sa, "swa", "10.5.0.1/24", row.inner), newGateway(t, sb, "swb", "10.5.0.2/24", row.inner)
			join(t, a, b)
			began := time.Now()
			transfer(t, sa, sb, "10.5.0.2:5001", 64<<20)
			t.Logf("%d MiB in %v", 64, time.Since(began))
			if mtu, err := a.PathMTU(netip.MustParseAddrPort("192.0.2.2:51820")); err != nil || mtu != row.outer-60 {
				t.Errorf("path MTU %d, %v; want %d", mtu, err, row.outer-60)
			}
			if r := b.Refused(); r != (Refused{}) {
				t.Errorf("refused %+v of good packets", r)
			}
		})
	}
}

func TestDevice_LivesAndLeavesNothing(t *testing.T) {
	s := newSpace(t)
	g := newGateway(t, s, "swc", "10.5.0.1/24", 1420)
	socket := "/var/run/wireguard/" + g.name + ".sock"
	if _, err := os.Stat(socket); err != nil {
		t.Fatal(err)
	}
	if err := g.SetMTU(1300); err != nil {
		t.Error(err)
	}
	s.must(func() error {
		link, err := netlink.LinkByName(g.name)
		if err == nil && link.Attrs().MTU != 1300 {
			err = fmt.Errorf("MTU %d, want 1300", link.Attrs().MTU)
		}
		return err
	})
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, err := os.Stat(socket); err != nil; _, err = os.Stat(socket) {
		if time.Now().After(deadline) {
			t.Fatal("the deleted socket was not made again")
		}
		<-time.After(20 * time.Millisecond)
	}
	idle, err := net.Dial("unix", socket) // must not hold up Close
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-g.Done():
	default:
		t.Error("a closed device is not done")
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after Close: %v", err)
	}
	if err := s.run(func() error { _, err := netlink.LinkByName(g.name); return err }); !errors.As(err, &netlink.LinkNotFoundError{}) {
		t.Errorf("link after Close: %v", err)
	}
}

func TestDevice_TakesItsPortWhenItBecomesFree(t *testing.T) {
	sa, sb := newSpace(t), newSpace(t)
	plug(t, sa, sb, 1500)
	var holder *net.UDPConn
	sb.must(func() (err error) {
		holder, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 51820})
		return err
	})
	a, b := newGateway(t, sa, "swd", "10.5.0.1/24", 1420), newGateway(t, sb, "swe", "10.5.0.2/24", 1420)
	client, err := wgctrl.New()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	port := 51820
	busy := func() error { return client.ConfigureDevice(b.name, wgtypes.Config{ListenPort: &port}) }
	_ = busy() // told or not, it cannot have it
	_ = holder.Close()
	deadline := time.Now().Add(10 * time.Second)
	for {
		d, err := client.Device(b.name)
		if err != nil {
			t.Fatal(err)
		}
		if d.ListenPort == port {
			break
		}
		if err := busy(); err != nil && !errors.Is(err, syscall.EADDRINUSE) && time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
	join(t, a, b)
	transfer(t, sa, sb, "10.5.0.2:5001", 1<<20)
}
