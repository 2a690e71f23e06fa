package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tryFor is how long an answer is waited for: a quiet tunnel has a packet about every 0.75 s.
	tryFor = 3 * time.Second
	// copyEvery bounds what a trial sends twice.
	copyEvery = 20 * time.Millisecond
)

// The errors of Try.
var (
	errNoAnswer = errors.New("no answer over UDP")
	errTrying   = errors.New("UDP is being tried already")
)

// trial finds out whether UDP passes without harm to the tunnel: some datagrams are sent over UDP too, a moment before
// they go into the stream. Where UDP is blocked nothing is lost. Where it passes, the first to arrive counts and the
// second is dropped as a replay, so that the other side's WireGuard roams to where the first came from and answers there.
type trial struct {
	sockets  []*net.UDPConn // nil where none could be opened
	wg       sync.WaitGroup
	answered chan int // index of the socket that was answered first
	winner   atomic.Pointer[net.UDPConn]
	next     time.Time // belongs to who calls take
}

// newTrial opens sockets to addrs. What comes over them goes to WireGuard until close.
func newTrial(addrs []netip.AddrPort, wireguard *socket) *trial {
	t := &trial{answered: make(chan int, 1)}
	for _, a := range addrs {
		s, _ := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(a)) // an error: no route to that family, most likely
		t.sockets = append(t.sockets, s)
	}
	for i, s := range t.sockets {
		if s != nil {
			t.wg.Go(func() { t.listen(i, wireguard) })
		}
	}
	return t
}

// close may be called twice.
func (t *trial) close() {
	for _, s := range t.sockets {
		if s != nil {
			_ = s.Close()
		}
	}
	t.wg.Wait()
}

// take sends a datagram over UDP; true: it need not go into the stream.
func (t *trial) take(datagram []byte) bool {
	if w := t.winner.Load(); w != nil {
		_, _ = w.Write(datagram) // lost at worst, as datagrams are
		return true
	}
	now := time.Now()
	if now.Before(t.next) {
		return false
	}
	t.next = now.Add(copyEvery)
	for _, s := range t.sockets {
		if s != nil {
			_, _ = s.Write(datagram) // what does not pass is not answered
		}
	}
	return false
}

func (t *trial) listen(i int, wireguard *socket) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := t.sockets[i].Read(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // ICMP said that nobody is there
		}
		if valid(buf[:n]) {
			select {
			case t.answered <- i:
			default:
			}
		}
		_, _ = wireguard.Write(buf[:n])
	}
}

// Try finds out whether WireGuard's datagrams are answered over UDP at one of the addresses, and returns the index of the
// first that is. It takes up to 3 s and does not disturb the tunnel. When one is, all goes that way at once, until Renew or
// Close; WireGuard is then to be given that address, and a new session, so that what is still under way through the relay
// does not lead it back here.
func (c *Client) Try(ctx context.Context, addrs []netip.AddrPort) (int, error) {
	t := newTrial(addrs, c.socket)
	if !c.trial.CompareAndSwap(nil, t) {
		t.close()
		return 0, errTrying
	}
	timer := time.NewTimer(tryFor)
	defer timer.Stop()
	select {
	case i := <-t.answered:
		t.winner.Store(t.sockets[i])
		select {
		case <-c.closed: // Run may have ended before it saw this trial
		default:
			return i, nil
		}
	case <-timer.C:
	case <-c.closed:
	case <-ctx.Done():
	}
	c.endTrial()
	return 0, fmt.Errorf("try %v: %w", addrs, errNoAnswer)
}

// endTrial has everything go into the stream again.
func (c *Client) endTrial() {
	if t := c.trial.Swap(nil); t != nil {
		t.close()
	}
}
