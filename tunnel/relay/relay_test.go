package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

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

// port is where the device listens, on loopback.
func (e *end) port() netip.AddrPort {
	e.t.Helper()
	said, err := e.dev.IpcGet()
	if err != nil {
		e.t.Fatal(err)
	}
	var port uint16
	for line := range strings.Lines(said) {
		_, _ = fmt.Sscanf(line, "listen_port=%d", &port)
	}
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
}

func (e *end) peer(other *end, endpoint netip.AddrPort) {
	e.t.Helper()
	key := other.key.PublicKey()
	text := fmt.Sprintf("public_key=%s\nallowed_ip=%s/32\n", hex.EncodeToString(key[:]), other.addr)
	if endpoint.IsValid() {
		text += fmt.Sprintf("endpoint=%s\n", endpoint)
	}
	e.set("%s", text)
}

// sendUntil sends packets to other until one arrives.
func (e *end) sendUntil(other *end) {
	e.t.Helper()
	for quiet := false; !quiet; { // those of before do not count
		select {
		case <-other.tun.Inbound:
		case <-time.After(50 * time.Millisecond):
			quiet = true
		}
	}
	deadline := time.After(20 * time.Second)
	for {
		select {
		case e.tun.Outbound <- tuntest.Ping(other.addr, e.addr):
		case <-deadline:
			e.t.Fatal("the device takes no packet")
		}
		select {
		case <-other.tun.Inbound:
			return
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			e.t.Fatalf("no packet came from %s to %s", e.addr, other.addr)
		}
	}
}

// startServer runs a server on loopback until the returned function is called.
func startServer(t *testing.T, listen string, target netip.AddrPort) (addr string, stop func()) {
	t.Helper()
	var l net.Listener
	for deadline := time.Now().Add(10 * time.Second); ; {
		var err error
		if l, err = net.Listen("tcp", listen); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Server{Target: target}.serve(ctx, l) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func startClient(t *testing.T, server string, wg netip.AddrPort) *Client {
	t.Helper()
	c, err := Dial(Options{Server: server, WireGuard: wg})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestRelay_CarriesWireGuardBothWaysAndReconnects(t *testing.T) {
	a, b := newEnd(t, "10.0.0.1"), newEnd(t, "10.0.0.2")
	addr, stop := startServer(t, "127.0.0.1:0", b.port())
	c := startClient(t, addr, a.port())
	a.peer(b, c.LocalAddr())
	b.peer(a, netip.AddrPort{})
	a.sendUntil(b)
	b.sendUntil(a)
	if !c.Connected() {
		t.Error("packets pass over no connection")
	}

	stop()
	_, _ = startServer(t, addr, b.port())
	a.sendUntil(b)
	b.sendUntil(a)
}

func TestRelay_FirstHandshakeWaitsForTheConnection(t *testing.T) {
	a, b := newEnd(t, "10.0.0.1"), newEnd(t, "10.0.0.2")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close() // nobody listens yet
	c := startClient(t, addr, a.port())
	a.peer(b, c.LocalAddr())
	b.peer(a, netip.AddrPort{})
	a.tun.Outbound <- tuntest.Ping(b.addr, a.addr)
	began := time.Now()
	_, _ = startServer(t, addr, b.port())
	<-b.tun.Inbound
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the first packet took %v: its handshake was lost, and WireGuard made another after 5 s", took)
	}
}

func TestServer_GivesStrangersLittle(t *testing.T) {
	sink, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	_ = sink.SetReadBuffer(4 << 20)
	addr, _ := startServer(t, "127.0.0.1:0", sink.LocalAddr().(*net.UDPAddr).AddrPort())

	streams := []*tls.Conn{}
	for i := range maxUnprovenPerSource + 1 {
		stream, err := connect(addr, Protocol)
		if err != nil {
			if i < maxUnprovenPerSource {
				t.Fatalf("connection %d: %v", i, err)
			}
			break
		}
		defer stream.Close()
		streams = append(streams, stream)
	}
	if len(streams) != maxUnprovenPerSource {
		t.Errorf("%d unproven sessions of one source, want %d", len(streams), maxUnprovenPerSource)
	}

	w := bufio.NewWriter(streams[0])
	datagram := make([]byte, 1024)
	for range 2 * provenBytes / len(datagram) {
		if err := appendFrame(w, datagram); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	var got int
	buf := make([]byte, 65536)
	for {
		_ = sink.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		n, from, err := sink.ReadFromUDPAddrPort(buf)
		if err != nil {
			break
		}
		if from.Addr() == netip.MustParseAddr("127.0.0.1") {
			t.Fatal("all sources look the same to WireGuard")
		}
		got += n
	}
	if got == 0 || got > provenBytes {
		t.Errorf("%d bytes passed of a stranger, want at most %d", got, provenBytes)
	}
}

func connect(addr, protocol string) (*tls.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
}

func TestServer_EndsWhatIsNotTheProtocol(t *testing.T) {
	addr, _ := startServer(t, "127.0.0.1:0", netip.MustParseAddrPort("127.0.0.1:9"))
	if stream, err := connect(addr, "h2"); err == nil {
		_ = stream.Close()
		t.Error("another protocol was taken")
	}
	stream, err := connect(addr, Protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Write([]byte{0xff, 0xff, 1}); err != nil {
		t.Fatal(err)
	}
	_ = stream.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := stream.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("after a frame of impossible length: %v, want the end", err)
	}
}

func TestDoor(t *testing.T) {
	d := door{bySource: map[netip.Prefix]int{}}
	a, b := source(netip.MustParseAddr("2001:db8::1")), source(netip.MustParseAddr("::ffff:192.0.2.1"))
	if a != source(netip.MustParseAddr("2001:db8::ffff:2")) || b != netip.MustParsePrefix("192.0.2.1/32") {
		t.Errorf("sources %v %v", a, b)
	}
	for range maxUnprovenPerSource {
		if !d.enter(a) {
			t.Fatal("refused below the limit")
		}
	}
	if d.enter(a) {
		t.Error("let in above the limit per source")
	}
	if !d.enter(b) {
		t.Error("one source keeps another out")
	}
	d.prove(a)
	if !d.enter(a) {
		t.Error("a proven session still counts for its source")
	}
	d.leave(a, true)
	d.leave(b, false)
	for range maxUnprovenPerSource {
		d.leave(a, false)
	}
	if d.sessions != 0 || d.unproven != 0 || len(d.bySource) != 0 {
		t.Errorf("something is left: %+v", d)
	}
	for i := range maxUnproven {
		if !d.enter(source(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))) {
			t.Fatalf("refused at %d", i)
		}
	}
	if d.enter(b) {
		t.Error("let in above the limit of all unproven")
	}
}

func TestFrames_RoundTrip(t *testing.T) {
	var stream bytes.Buffer
	w := bufio.NewWriter(&stream)
	sizes := []int{1, 32, 148, 1452, maxDatagram}
	for _, n := range sizes {
		if err := appendFrame(w, bytes.Repeat([]byte{byte(n)}, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReaderSize(&stream, streamBuffer)
	buf := make([]byte, maxDatagram)
	for i, want := range sizes {
		if n, err := readFrame(r, buf); err != nil || n != want || buf[n-1] != byte(want) {
			t.Fatalf("frame %d: %d bytes, %v; want %d", i, n, err, want)
		}
		if waiting := frameWaiting(r); waiting != (i < len(sizes)-1) {
			t.Errorf("after frame %d: waiting %v", i, waiting)
		}
	}
	if _, err := readFrame(r, buf); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestQueue_DropsTheOldest(t *testing.T) {
	q := newQueue()
	for i := range queueLength + 3 {
		q.put([]byte{byte(i >> 8), byte(i)})
	}
	first := <-q.c
	if first[1] != 3 || q.dropped.Load() != 3 {
		t.Errorf("first is %d after %d drops, want 3 and 3", first[1], q.dropped.Load())
	}
	q.free(first)
}
