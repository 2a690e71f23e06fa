package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Options of a Client.
type Options struct {
	// Server is HOST:PORT of the other end, an IP address or a DNS name, which is resolved at every attempt.
	Server string
	// WireGuard is the port of this side's device on loopback, for example 127.0.0.1:51820. Nobody else is heard.
	WireGuard netip.AddrPort
	Log       *zap.Logger
}

// Client gives this side's WireGuard an endpoint on loopback behind which the peer is. Safe for concurrent use.
type Client struct {
	o         Options
	socket    *socket
	queue     *queue
	connected atomic.Pointer[tls.Conn] // nil: not
	again     chan struct{}            // has one: do not wait before the next attempt
	trial     atomic.Pointer[trial]    // nil: none runs
	closed    chan struct{}
	once      sync.Once
}

// Dial opens the endpoint. It does not connect: Run does.
func Dial(o Options) (*Client, error) {
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, net.UDPAddrFromAddrPort(o.WireGuard))
	if err != nil {
		return nil, fmt.Errorf("open an endpoint for the relay by %s: %w", o.Server, err)
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Client{o: o, socket: newSocket(c), queue: newQueue(), again: make(chan struct{}, 1), closed: make(chan struct{})}, nil
}

// LocalAddr is what WireGuard is to be told as the peer's endpoint.
func (c *Client) LocalAddr() netip.AddrPort { return c.socket.LocalAddr().(*net.UDPAddr).AddrPort() }

// Connected says that there is a connection to the server now. It does not say that anything useful listens behind it.
func (c *Client) Connected() bool { return c.connected.Load() != nil }

// Renew gives up the present connection, if there is one, for a new one, at once: who listens there may be gone or be
// another. What Try found is forgotten. It does not block.
func (c *Client) Renew() {
	c.endTrial()
	select {
	case c.again <- struct{}{}:
	default:
	}
	if stream := c.connected.Load(); stream != nil {
		_ = stream.NetConn().Close() // its carry ends
	}
}

// Close ends Run and the endpoint. It may be called twice, and without Run.
func (c *Client) Close() error {
	var err error
	c.once.Do(func() {
		close(c.closed)
		err = c.socket.Close()
	})
	return err
}

const (
	dialTimeout  = 5 * time.Second
	firstBackoff = 100 * time.Millisecond
	// maxBackoff is short: WireGuard's own retries are 5 s apart, and a peer comes back without notice.
	maxBackoff = 5 * time.Second
	// wellAfter is how long a connection must have lasted for the next attempt to come without delay.
	wellAfter = 10 * time.Second
)

// Run connects and carries, again and again, until ctx ends or Close is called, and then closes the endpoint.
func (c *Client) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer c.endTrial()
	defer wg.Wait()
	defer c.Close()
	defer cancel()
	wg.Go(func() {
		defer cancel()
		_ = c.socket.receive(c.take) // ends with Close
	})
	backoff := firstBackoff
	for {
		began := time.Now()
		err := c.carry(ctx)
		c.connected.Store(nil)
		if time.Since(began) > wellAfter {
			backoff = firstBackoff
		}
		c.o.Log.Debug("relay is not connected", zap.String("server", c.o.Server), zap.Error(err))
		select {
		case <-ctx.Done():
			return nil
		case <-c.closed:
			return nil
		case <-c.again:
			backoff = firstBackoff
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// take takes what comes from WireGuard.
func (c *Client) take(datagram []byte) {
	if t := c.trial.Load(); t == nil || !t.take(datagram) {
		c.queue.put(datagram)
	}
}

// carry is one connection from beginning to end.
func (c *Client) carry(ctx context.Context) error {
	host, _, err := net.SplitHostPort(c.o.Server)
	if err != nil {
		return fmt.Errorf("parse the relay's address: %w", err)
	}
	dialer := tls.Dialer{Config: &tls.Config{
		// WireGuard inside knows the peer by its key; a certificate would only be one more thing to expire.
		InsecureSkipVerify: true,
		ServerName:         host,
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{Protocol},
	}}
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := dialer.DialContext(dialCtx, "tcp", c.o.Server)
	if err != nil {
		return fmt.Errorf("connect to the relay at %s: %w", c.o.Server, err)
	}
	stream := conn.(*tls.Conn)
	if stream.ConnectionState().NegotiatedProtocol != Protocol {
		return errors.Join(fmt.Errorf("connect to the relay at %s: it speaks something else", c.o.Server), stream.Close())
	}
	tune(stream.NetConn())
	c.connected.Store(stream)
	b := bridge{stream: stream, socket: c.socket, queue: c.queue, moved: func() {}}
	return b.run(ctx)
}
