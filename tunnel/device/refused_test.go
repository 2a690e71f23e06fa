package device

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// end is a userspace device without a link.
type end struct {
	*Device
	t    *testing.T
	tun  *tuntest.ChannelTUN
	key  wgtypes.Key
	addr netip.Addr
	port int
}

func newEnd(t *testing.T, addr string) *end {
	t.Helper()
	key, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	e := &end{t: t, tun: tuntest.NewChannelTUN(), key: key, addr: netip.MustParseAddr(addr)}
	e.Device = newUser(Options{Name: addr, Log: zap.NewNop()}, e.tun.TUN())
	t.Cleanup(func() { _ = e.Close() })
	e.set("private_key=%s\nlisten_port=0\n", hexOf(key))
	if err := e.user.Up(); err != nil {
		t.Fatal(err)
	}
	said, err := e.user.IpcGet()
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines([]byte(said)) {
		_, _ = fmt.Sscanf(string(line), "listen_port=%d", &e.port)
	}
	return e
}

func hexOf(key wgtypes.Key) string { return hex.EncodeToString(key[:]) }

func (e *end) set(format string, args ...any) {
	e.t.Helper()
	if err := e.user.IpcSet(fmt.Sprintf(format, args...)); err != nil {
		e.t.Fatal(err)
	}
}

func (e *end) peer(key wgtypes.Key, endpoint netip.AddrPort, allowed ...string) {
	e.t.Helper()
	text := fmt.Sprintf("public_key=%s\nreplace_allowed_ips=true\n", hexOf(key))
	if endpoint.IsValid() {
		text += fmt.Sprintf("endpoint=%s\n", endpoint)
	}
	for _, a := range allowed {
		text += "allowed_ip=" + a + "\n"
	}
	e.set("%s", text)
}

// send puts a packet into the device as if its node sent it.
func (e *end) send(to, from netip.Addr) {
	e.t.Helper()
	select {
	case e.tun.Outbound <- tuntest.Ping(to, from):
	case <-time.After(5 * time.Second):
		e.t.Fatal("the device takes no packet")
	}
}

// arrives waits for a packet that comes out of the device.
func (e *end) arrives() {
	e.t.Helper()
	select {
	case <-e.tun.Inbound:
	case <-time.After(5 * time.Second):
		e.t.Fatal("no packet came through")
	}
}

// wire forwards datagrams to one address and keeps what passes. Answers take the way of the sender's NAT: none is needed.
type wire struct {
	t      *testing.T
	socket *net.UDPConn
	target netip.AddrPort

	mu     sync.Mutex
	passed [][]byte       // guarded by mu; towards target
	from   netip.AddrPort // guarded by mu; who sent last
}

func newWire(t *testing.T, port int) *wire {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, socket: socket, target: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run()
	}()
	t.Cleanup(func() {
		_ = socket.Close()
		<-done
	})
	return w
}

func (w *wire) run() {
	buf := make([]byte, 65536)
	for {
		n, from, err := w.socket.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		to := w.target
		w.mu.Lock()
		if from == w.target {
			to = w.from
		} else {
			w.from = from
			w.passed = append(w.passed, bytes.Clone(buf[:n]))
		}
		w.mu.Unlock()
		_, _ = w.socket.WriteToUDPAddrPort(buf[:n], to)
	}
}

func (w *wire) addr() netip.AddrPort { return w.socket.LocalAddr().(*net.UDPAddr).AddrPort() }

// last returns the last packet of a type that passed.
func (w *wire) last(kind uint32) []byte {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range slices.Backward(w.passed) {
		if binary.LittleEndian.Uint32(p) == kind && (kind != device.MessageTransportType || len(p) > device.MessageKeepaliveSize) {
			return bytes.Clone(p)
		}
	}
	w.t.Fatalf("no packet of type %d passed", kind)
	return nil
}

func (w *wire) inject(packet []byte) {
	w.t.Helper()
	if _, err := w.socket.WriteToUDPAddrPort(packet, w.target); err != nil {
		w.t.Fatal(err)
	}
}

// waitRefused waits until the device counted as wanted, and no more.
func waitRefused(t *testing.T, d *Device, want Refused) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	var got Refused
	for got = d.Refused(); got != want && time.Now().Before(deadline); got = d.Refused() {
		<-time.After(20 * time.Millisecond)
	}
	if got != want {
		t.Errorf("refused %+v, want %+v", got, want)
	}
}

func TestRefused_EachReasonIsCounted(t *testing.T) {
	for name, row := range map[string]struct {
		do   func(t *testing.T, a, b *end, w *wire)
		want Refused
	}{
		"nothing but good packets": {func(t *testing.T, a, b *end, w *wire) {
			for range 100 {
				a.send(b.addr, a.addr)
				b.arrives()
			}
		}, Refused{}},
		"a replayed packet": {func(t *testing.T, a, b *end, w *wire) {
			packet := w.last(device.MessageTransportType)
			w.inject(packet)
			w.inject(packet)
		}, Refused{Data: 2}},
		"a forged packet": {func(t *testing.T, a, b *end, w *wire) {
			packet := w.last(device.MessageTransportType)
			packet[device.MessageTransportOffsetCounter] += 7 // not seen before
			w.inject(packet)
			packet[len(packet)-1] ^= 1
			w.inject(packet)
		}, Refused{Data: 2}},
		"a forged keepalive": {func(t *testing.T, a, b *end, w *wire) {
			w.inject(w.last(device.MessageTransportType)[:device.MessageKeepaliveSize])
		}, Refused{Data: 1}},
		"a packet of no session": {func(t *testing.T, a, b *end, w *wire) {
			packet := w.last(device.MessageTransportType)
			packet[device.MessageTransportOffsetReceiver] ^= 0xff
			w.inject(packet)
		}, Refused{Data: 1}},
		"a source outside the peer's ranges": {func(t *testing.T, a, b *end, w *wire) {
			a.send(b.addr, netip.MustParseAddr("10.9.9.9"))
			a.send(b.addr, a.addr)
			b.arrives()
		}, Refused{Sources: 1}},
		"a key nobody knows": {func(t *testing.T, a, b *end, w *wire) {
			stranger := newEnd(t, "10.0.0.3")
			stranger.peer(b.key.PublicKey(), w.addr(), "10.0.0.2/32")
			stranger.send(b.addr, stranger.addr)
		}, Refused{Handshakes: 1}},
		"a key that is not ours": {func(t *testing.T, a, b *end, w *wire) {
			stranger := newEnd(t, "10.0.0.3")
			stranger.peer(stranger.key.PublicKey(), w.addr()) // ignored: its own
			other := newEnd(t, "10.0.0.4")
			stranger.peer(other.key.PublicKey(), w.addr(), "10.0.0.2/32")
			stranger.send(b.addr, stranger.addr)
		}, Refused{Handshakes: 1}},
		"a replayed handshake": {func(t *testing.T, a, b *end, w *wire) {
			w.inject(w.last(device.MessageInitiationType))
		}, Refused{Handshakes: 1}},
		"what is not WireGuard's": {func(t *testing.T, a, b *end, w *wire) {
			w.inject(bytes.Repeat([]byte("x"), 100))
		}, Refused{Handshakes: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newEnd(t, "10.0.0.1"), newEnd(t, "10.0.0.2")
			w := newWire(t, b.port)
			a.peer(b.key.PublicKey(), w.addr(), "10.0.0.2/32")
			b.peer(a.key.PublicKey(), netip.AddrPort{}, "10.0.0.1/32")
			a.send(b.addr, a.addr)
			b.arrives()
			row.do(t, a, b, w)
			waitRefused(t, b.Device, row.want)
			a.send(b.addr, a.addr)
			b.arrives()
			waitRefused(t, b.Device, row.want)
		})
	}
}

func TestRefused_PacketsOnTheirWayAreNotRefused(t *testing.T) {
	var r refused
	now := time.Unix(0, 0)
	for name, step := range []struct {
		received, accepted uint64
		after              time.Duration
		want               uint64
	}{
		{received: 10, want: 0},
		{received: 5, accepted: 12, after: settle, want: 3},    // 3 were missing at one moment
		{received: 100, accepted: 40, after: settle, want: 63}, // missing all the time
		{accepted: 63, after: settle, want: 63},                // never less than was said
	} {
		r.received.Add(step.received)
		r.accepted.Add(step.accepted)
		now = now.Add(step.after)
		if got := r.read(now).Data; got != step.want {
			t.Errorf("step %d: %d refused, want %d", name, got, step.want)
		}
	}
}
