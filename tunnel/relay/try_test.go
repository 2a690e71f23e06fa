package relay

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/tun/tuntest"
)

// pour sends n packets from a to b, 10 ms apart, and returns how many arrive.
func pour(t *testing.T, a, b *end, n int) int {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	got := 0
	for quiet := time.After(15 * time.Second); ; {
		select {
		case <-b.tun.Inbound:
			got++
		case <-ticker.C:
			if n--; n < 0 {
				continue
			}
			a.tun.Outbound <- tuntest.Ping(b.addr, a.addr)
			if n == 0 {
				quiet = time.After(300 * time.Millisecond)
			}
		case <-quiet:
			return got
		}
	}
}

func silentPort(t *testing.T) netip.AddrPort {
	t.Helper()
	hole, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hole.Close() })
	return hole.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestTry_BlockedUDPCostsNoPacket(t *testing.T) {
	a, b := newEnd(t, "10.0.0.1"), newEnd(t, "10.0.0.2")
	addr, _ := startServer(t, "127.0.0.1:0", b.port())
	c := startClient(t, addr, a.port())
	b.peer(a, netip.AddrPort{})
	a.peer(b, c.LocalAddr())
	a.sendUntil(b)
	done := make(chan error, 1)
	go func() {
		_, err := c.Try(t.Context(), []netip.AddrPort{silentPort(t), netip.MustParseAddrPort("127.0.0.1:9")})
		done <- err
	}()
	if got := pour(t, a, b, 100); got < 100 { // one more of sendUntil may come
		t.Errorf("%d of 100 packets arrived", got)
	}
	if err := <-done; !errors.Is(err, errNoAnswer) {
		t.Errorf("nobody answered, but: %v", err)
	}
	if got := pour(t, a, b, 10); got != 10 {
		t.Errorf("%d of 10 packets arrived after the try", got)
	}
}

// answer sends packets from b to a, 10 ms apart, until the returned function is called.
func answer(b, a *end) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-a.tun.Inbound:
			case <-ticker.C:
				b.tun.Outbound <- tuntest.Ping(a.addr, b.addr)
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// TestTry_OpenUDPIsFoundWithoutLoss: until WireGuard is told, all goes through the client's own socket; Renew goes back.
func TestTry_OpenUDPIsFoundWithoutLoss(t *testing.T) {
	a, b := newEnd(t, "10.0.0.1"), newEnd(t, "10.0.0.2")
	addr, stop := startServer(t, "127.0.0.1:0", b.port())
	c := startClient(t, addr, a.port())
	b.peer(a, netip.AddrPort{})
	a.peer(b, c.LocalAddr())
	a.sendUntil(b)
	b.sendUntil(a)
	found := make(chan int, 1)
	go func() {
		i, err := c.Try(t.Context(), []netip.AddrPort{silentPort(t), b.port()})
		if err != nil {
			t.Error(err)
		}
		found <- i
	}()
	stopAnswers := answer(b, a)
	if got := pour(t, a, b, 50); got < 50 {
		t.Errorf("%d of 50 packets arrived", got)
	}
	if i := <-found; i != 1 {
		t.Errorf("address %d is said to answer, want 1", i)
	}
	stopAnswers()
	stop() // the relay is not needed now
	if got := pour(t, a, b, 10); got != 10 {
		t.Errorf("%d of 10 packets arrived over UDP", got)
	}
	_, _ = startServer(t, addr, b.port())
	c.Renew()
	if c.trial.Load() != nil {
		t.Error("the trial outlived Renew")
	}
	a.sendUntil(b)
	b.sendUntil(a)
}

func TestRenew_ConnectsAnew(t *testing.T) {
	a, b := newEnd(t, "10.0.0.1"), newEnd(t, "10.0.0.2")
	addr, _ := startServer(t, "127.0.0.1:0", b.port())
	c := startClient(t, addr, a.port())
	b.peer(a, netip.AddrPort{})
	a.peer(b, c.LocalAddr())
	a.sendUntil(b)
	before := c.connected.Load()
	c.Renew()
	a.sendUntil(b)
	if after := c.connected.Load(); after == before {
		t.Error("the connection is still the former one")
	}
}

func TestClient_CloseEndsATry(t *testing.T) {
	c, err := Dial(Options{Server: "127.0.0.1:9", WireGuard: silentPort(t)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Try(t.Context(), []netip.AddrPort{silentPort(t)})
		done <- err
	}()
	_ = c.Close()
	_ = c.Close()
	select {
	case err := <-done:
		if !errors.Is(err, errNoAnswer) {
			t.Error(err)
		}
	case <-time.After(tryFor / 2):
		t.Error("the try goes on")
	}
}

// FuzzReadFrame shows that no stream makes a reader take more than there is room for or believe that a frame is whole
// which is not.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 1, 7, 0, 2, 7, 7}, uint8(3))
	f.Add([]byte{0, 0}, uint8(1))
	f.Add([]byte{0xff, 0xff, 1, 2, 3}, uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, chunk uint8) {
		source := bytes.NewReader(stream)
		r := bufio.NewReaderSize(&chunks{source, int(chunk) + 1}, streamBuffer)
		buf := make([]byte, maxDatagram)
		var again bytes.Buffer
		w := bufio.NewWriter(&again)
		for {
			waiting, left := frameWaiting(r), source.Len()
			n, err := readFrame(r, buf)
			if waiting && source.Len() != left {
				t.Fatal("a frame was said to wait, and reading it had to read on")
			}
			if err != nil {
				break
			}
			if n <= 0 || n > maxDatagram {
				t.Fatalf("frame of %d bytes", n)
			}
			if err := appendFrame(w, buf[:n]); err != nil {
				t.Fatal(err)
			}
		}
		_ = w.Flush()
		if !bytes.HasPrefix(stream, again.Bytes()) {
			t.Fatalf("read % x out of % x", again.Bytes(), stream)
		}
	})
}

// chunks gives at most n bytes at a time.
type chunks struct {
	r io.Reader
	n int
}

func (c *chunks) Read(p []byte) (int, error) { return c.r.Read(p[:min(c.n, len(p))]) }
