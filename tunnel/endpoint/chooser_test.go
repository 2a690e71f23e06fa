package endpoint

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/spillway-dev/spillway/tunnel/relay"
)

// world is a Chooser at work.
type world struct {
	t       *testing.T
	c       *Chooser
	mu      sync.Mutex
	changed map[Key]int // guarded by mu
	news    chan struct{}
}

func newWorld(t *testing.T, port uint16) *world {
	t.Helper()
	w := &world{t: t, changed: map[Key]int{}, news: make(chan struct{}, 1)}
	w.c = New(Options{Port: port, Changed: func(key Key) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.changed[key]++
		select {
		case w.news <- struct{}{}:
		default:
		}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return w
}

// wait waits until the way of a key is right.
func (w *world) wait(key Key, what string, right func(Way) bool) Way {
	w.t.Helper()
	deadline := time.After(15 * time.Second)
	for {
		if way := w.c.Current(key); right(way) {
			return way
		}
		select {
		case <-w.news:
		case <-deadline:
			w.t.Fatalf("%s: the way is %+v", what, w.c.Current(key))
		}
	}
}

// later makes what is due in a while due now.
func (w *world) later(key Key, d time.Duration) {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	choice := &w.c.entries[key].choice
	for _, t := range []*time.Time{&choice.turned, &choice.began, &choice.try, &choice.tried} {
		if !t.IsZero() {
			*t = t.Add(-d)
		}
	}
	w.c.poke()
}

func TestChooser_ChangedIsCalledAndSetTakesAway(t *testing.T) {
	key, other := Key{Peer: "berlin"}, Key{Peer: "berlin", Slot: 1}
	w := newWorld(t, 51820)
	want := Way{Addr: netip.MustParseAddrPort("192.0.2.1:51820"), Transport: UDP, Name: "192.0.2.1:51820"}
	wanted := map[Key]Candidates{key: {UDP: []string{"nonsense", "192.0.2.1:51820", "[2001:db8::1]:51820", "192.0.2.1:0"}}, other: {}}
	w.c.Set(wanted)
	w.wait(key, "first candidate", func(way Way) bool { return way == want })
	w.c.Report(Key{Peer: "nobody"}, true)
	w.c.Report(key, false)
	w.later(key, udpTurn)
	w.wait(key, "second candidate", func(way Way) bool { return way.Name == "[2001:db8::1]:51820" })
	if way := w.c.Current(other); way != (Way{}) {
		t.Errorf("a peer that begins has the way %+v", way)
	}
	w.c.Set(wanted) // says nothing new
	delete(wanted, key)
	w.c.Set(wanted)
	if way := w.c.Current(key); way != (Way{}) {
		t.Errorf("a path that was taken away has the way %+v", way)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed[key] != 2 || w.changed[other] != 0 {
		t.Errorf("told %v, want two changes of the first path only", w.changed)
	}
}

func TestChooser_ResolvesNames(t *testing.T) {
	key := Key{Peer: "berlin"}
	w := newWorld(t, 51820)
	w.c.Set(map[Key]Candidates{key: {UDP: []string{"localhost:51820"}}})
	way := w.wait(key, "resolved", func(way Way) bool { return way.Addr.IsValid() })
	if !way.Addr.Addr().IsLoopback() || way.Addr.Port() != 51820 || way.Name != "localhost:51820" {
		t.Errorf("localhost is at %+v", way)
	}
	w.c.Set(nil)
	w.c.Set(map[Key]Candidates{key: {UDP: []string{"nobody.invalid:51820"}, TLS: []string{"127.0.0.1:9"}}})
	w.later(key, udpFor)
	w.wait(key, "a name that does not resolve", func(way Way) bool { return way.Transport == TLS && way.Name == "127.0.0.1:9" })
}

// end is a WireGuard device without a link.
type end struct {
	t    *testing.T
	tun  *tuntest.ChannelTUN
	dev  *device.Device
	key  wgtypes.Key
	addr netip.Addr
}

func newEnd(t *testing.T, addr string) *end {
	t.Helper()
	key, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	e := &end{t: t, tun: tuntest.NewChannelTUN(), key: key, addr: netip.MustParseAddr(addr)}
	e.dev = device.NewDevice(e.tun.TUN(), conn.NewStdNetBind(), device.NewLogger(device.LogLevelSilent, ""))
	t.Cleanup(e.dev.Close)
	e.set("private_key=%s\nlisten_port=0\n", hex.EncodeToString(key[:]))
	if err := e.dev.Up(); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *end) set(format string, args ...any) {
	e.t.Helper()
	if err := e.dev.IpcSet(fmt.Sprintf(format, args...)); err != nil {
		e.t.Fatal(err)
	}
}

// get reads a value of the device.
func (e *end) get(name string) string {
	e.t.Helper()
	said, err := e.dev.IpcGet()
	if err != nil {
		e.t.Fatal(err)
	}
	for line := range strings.Lines(said) {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (e *end) listens() netip.AddrPort {
	return netip.MustParseAddrPort("127.0.0.1:" + e.get("listen_port"))
}

// peer makes the peer anew, as the engine does when a way changes.
func (e *end) peer(other *end, endpoint netip.AddrPort) {
	e.t.Helper()
	key := other.key.PublicKey()
	text := fmt.Sprintf("public_key=%s\nremove=true\npublic_key=%[1]s\nallowed_ip=%s/32\n", hex.EncodeToString(key[:]), other.addr)
	if endpoint.IsValid() {
		text += fmt.Sprintf("endpoint=%s\npersistent_keepalive_interval=25\n", endpoint)
	}
	e.set("%s", text)
}

// talk sends packets both ways, 20 ms apart, until the returned function is called, and counts what arrives at b.
func talk(a, b *end) (arrived chan struct{}, stop func()) {
	arrived = make(chan struct{}, 1)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-b.tun.Inbound:
				select {
				case arrived <- struct{}{}:
				default:
				}
			case <-a.tun.Inbound:
			case <-ticker.C:
				for _, send := range []struct {
					to     chan []byte
					packet []byte
				}{{a.tun.Outbound, tuntest.Ping(b.addr, a.addr)}, {b.tun.Outbound, tuntest.Ping(a.addr, b.addr)}} {
					select {
					case send.to <- send.packet:
					default:
					}
				}
			}
		}
	})
	return arrived, sync.OnceFunc(func() { close(done); wg.Wait() })
}

func await(t *testing.T, arrived <-chan struct{}, what string) {
	t.Helper()
	for range 2 { // the first may be of before
		select {
		case <-arrived:
		case <-time.After(10 * time.Second):
			t.Fatal("nothing arrives " + what)
		}
	}
}

// startServer runs a relay in front of a device.
func startServer(t *testing.T, target netip.AddrPort) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	_ = l.Close() // the server opens it again
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := (&relay.Server{Listen: addr, Target: target}).Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return addr.String()
}

// TestChooser_GoesToTLSAndBack: UDP is silent, so that the tunnel goes over TLS; when UDP passes, it goes back.
func TestChooser_GoesToTLSAndBack(t *testing.T) {
	a, b := newEnd(t, "10.0.0.1"), newEnd(t, "10.0.0.2")
	hole, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	server := startServer(t, b.listens())
	key := Key{Peer: "berlin", Slot: 1}
	w := newWorld(t, a.listens().Port()-1)
	blocked := Candidates{UDP: []string{hole.LocalAddr().String()}, TLS: []string{server}}
	w.c.Set(map[Key]Candidates{key: blocked})
	w.wait(key, "at first", func(way Way) bool { return way.Transport == UDP })
	w.later(key, udpFor)
	way := w.wait(key, "UDP is silent", func(way Way) bool { return way.Transport == TLS })
	if way.Name != server || !way.Addr.Addr().IsLoopback() {
		t.Errorf("the way is %+v", way)
	}
	b.peer(a, netip.AddrPort{}) // first: a begins at once, and again only after 5 s
	a.peer(b, way.Addr)
	arrived, stop := talk(a, b)
	defer stop()
	await(t, arrived, "over TLS")
	w.c.Report(key, true)

	open := Candidates{UDP: []string{hole.LocalAddr().String(), b.listens().String()}, TLS: []string{server}}
	w.c.Set(map[Key]Candidates{key: open})
	w.later(key, tryEvery)
	way = w.wait(key, "UDP passes", func(way Way) bool { return way.Transport == UDP })
	if way.Addr != b.listens() {
		t.Errorf("back on UDP the way is %+v, want the address that answered", way)
	}
	a.peer(b, way.Addr)
	await(t, arrived, "over UDP again")
	w.c.mu.Lock()
	e := w.c.entries[key]
	w.c.mu.Unlock()
	for range int(linger / (25 * time.Millisecond)) { // two packets each: well after the relay has ended
		await(t, arrived, "once the relay has ended")
	}
	if at := a.get("endpoint"); at != b.listens().String() || b.get("endpoint") != a.listens().String() {
		t.Errorf("the devices are at %s and %s, want both at each other's own port", at, b.get("endpoint"))
	}
	if !e.choice.up {
		t.Error("going back to UDP was noticed as an interruption")
	}
}
