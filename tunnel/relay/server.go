package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Server takes connections and hands their datagrams to a WireGuard port on loopback, each connection from a source of
// its own, so that WireGuard tells them apart and its limits per address hold.
//
// A session is proven when WireGuard answers it with a handshake or data: it does so only to a peer it knows. Until then
// a session may pass 1 MiB within 20 s, and there are few of them per source and in all. A proven one ends after three
// silent minutes; WireGuard's keepalives come more often.
type Server struct {
	// Listen is the TCP address; an unspecified one takes both families.
	Listen netip.AddrPort
	// Target is the WireGuard port, for example 127.0.0.1:51820.
	Target netip.AddrPort
	Log    *zap.Logger
}

const (
	provenBytes  = 1 << 20
	provenWithin = 20 * time.Second
	idleAfter    = 3 * time.Minute
)

// Run listens until ctx ends, and then waits for all sessions.
func (s Server) Run(ctx context.Context) error {
	var config net.ListenConfig
	address := s.Listen.String()
	if s.Listen.Addr().IsUnspecified() {
		address = ":" + strconv.Itoa(int(s.Listen.Port())) // "[::]" fails where the kernel has no IPv6
	}
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for the relay on %s: %w", s.Listen, err)
	}
	return s.serve(ctx, l)
}

// serve is Run with an open listener, which it closes.
func (s Server) serve(ctx context.Context, l net.Listener) error {
	cert, err := selfSigned(time.Now())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if s.Log == nil {
		s.Log = zap.NewNop()
	}
	h := &house{
		Server: s, seed: maphash.MakeSeed(), door: door{bySource: map[netip.Prefix]int{}},
		config: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{Protocol}},
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // out of files, most likely: others may end
			s.Log.Warn("relay takes no connection", zap.Error(err))
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		from := source(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
		if !h.enter(from) {
			_ = c.Close() // a stranger's
			continue
		}
		wg.Go(func() { h.session(ctx, c, from) })
	}
}

// house is a running server.
type house struct {
	Server
	config *tls.Config
	seed   maphash.Seed

	mu   sync.Mutex
	door door // guarded by mu
}

func (h *house) enter(from netip.Prefix) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.door.enter(from)
}

// session is one connection from beginning to end.
func (h *house) session(ctx context.Context, c net.Conn, from netip.Prefix) {
	v := &visit{from: from}
	defer func() {
		_ = c.Close()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.door.leave(from, v.proven.Load())
	}()
	tune(c)
	_ = c.SetDeadline(time.Now().Add(provenWithin)) // a strict one until something valid passes
	stream := tls.Server(c, h.config)
	if err := stream.HandshakeContext(ctx); err != nil {
		return // a stranger's
	}
	if stream.ConnectionState().NegotiatedProtocol != Protocol {
		return
	}
	udp, err := net.DialUDP("udp", h.localAddr(from), net.UDPAddrFromAddrPort(h.Target))
	if err != nil {
		h.Log.Warn("relay cannot reach WireGuard", zap.Stringer("target", h.Target), zap.Error(err))
		return
	}
	v.socket, v.stream, v.queue = newSocket(udp), c, newQueue()
	err = h.pass(ctx, v, stream)
	if v.proven.Load() {
		h.Log.Debug("relay session ended", zap.Stringer("remote", from), zap.Error(err))
	}
}

// visit is what a session knows of itself.
type visit struct {
	from   netip.Prefix
	stream net.Conn
	socket *socket
	queue  *queue
	proven atomic.Bool
	passed atomic.Int64 // bytes, until proven
	idle   atomic.Int64 // when the deadline was last set, unix seconds
}

func (h *house) pass(ctx context.Context, v *visit, stream net.Conn) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer v.socket.Close()
	wg.Go(func() {
		_ = v.socket.receive(func(datagram []byte) { // ends with the socket
			if !v.proven.Load() && valid(datagram) {
				h.prove(v)
			}
			v.queue.put(datagram)
		})
	})
	b := bridge{stream: stream, socket: v.socket, queue: v.queue, moved: v.moved, admit: func(datagram []byte) bool {
		return v.proven.Load() || v.passed.Add(int64(len(datagram))) <= provenBytes
	}}
	return b.run(ctx)
}

// valid says that WireGuard sends such a datagram only to a peer it knows: a handshake's response or data. It answers
// strangers with cookies, and begins handshakes with whoever it takes for a peer's address.
func valid(datagram []byte) bool {
	return len(datagram) >= 32 && (datagram[0] == 2 || datagram[0] == 4)
}

func (h *house) prove(v *visit) {
	h.mu.Lock()
	h.door.prove(v.from)
	h.mu.Unlock()
	v.proven.Store(true)
	v.moved()
}

// moved puts the end of a proven session off, at most once a second.
func (v *visit) moved() {
	now := time.Now()
	if last := v.idle.Load(); !v.proven.Load() || last == now.Unix() || !v.idle.CompareAndSwap(last, now.Unix()) {
		return
	}
	_ = v.stream.SetDeadline(now.Add(idleAfter))
}

// localAddr gives each source an address of its own in 127.0.0.0/8, so that WireGuard, which limits handshakes per
// address under load, does not take all who come through the relay for one.
func (h *house) localAddr(from netip.Prefix) *net.UDPAddr {
	if !h.Target.Addr().Unmap().Is4() || !h.Target.Addr().Unmap().IsLoopback() {
		return nil
	}
	n := maphash.Comparable(h.seed, from)
	return &net.UDPAddr{IP: net.IPv4(127, 64|byte(n>>16)&63, byte(n>>8), 1+byte(n)%254)}
}
