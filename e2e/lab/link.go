package lab

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// CutMode is how a cut link behaves.
type CutMode string

const (
	// Refuse closes all connections and refuses new ones, like a machine whose
	// server has ended.
	Refuse CutMode = "refuse"
	// Blackhole keeps connections and takes new ones, but passes nothing, like
	// a network that loses every packet. After Restore what was sent goes on.
	Blackhole CutMode = "blackhole"
)

// Link is a TCP proxy in front of a cluster's API server, in the process that
// owns the lab: the network between that cluster and the world. Its methods
// may be called by several goroutines.
type Link struct {
	port   *port
	target string

	mu     sync.Mutex // guards the following
	ln     net.Listener
	cut    CutMode       // "" when not cut
	oneWay time.Duration // half the round trip time
	open   chan struct{} // closed while bytes may pass
	conns  map[*linkConn]struct{}
	closed bool
	wg     sync.WaitGroup
}

// newLink listens at a port of its own of the address.
func newLink(ctx context.Context, address, target string) (*Link, error) {
	p, err := holdPort(address)
	if err != nil {
		return nil, err
	}
	l := &Link{port: p, target: target, conns: map[*linkConn]struct{}{}, open: make(chan struct{})}
	close(l.open)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.listenLocked(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return l, nil
}

// Addr is IP:PORT of the proxy; it never changes.
func (l *Link) Addr() string { return l.port.addr() }

// Cut interrupts the link until Restore.
func (l *Link) Cut(mode CutMode) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch mode {
	case Refuse:
		if l.ln != nil {
			_ = l.ln.Close()
			l.ln = nil
		}
		for c := range l.conns {
			c.close()
		}
		l.openLocked()
	case Blackhole:
		if err := l.listenLocked(context.Background()); err != nil {
			return err
		}
		if l.cut != Blackhole {
			l.open = make(chan struct{})
		}
	default:
		return fmt.Errorf("unknown way to cut a link %q: use %q or %q", mode, Refuse, Blackhole)
	}
	l.cut = mode
	return nil
}

// Slow makes every round trip take rtt longer, without limiting how much
// passes at a time. A new connection costs one round trip more, as TCP's does.
// It does not restore a link that is cut. 0 is as fast as can be.
func (l *Link) Slow(rtt time.Duration) error {
	if rtt < 0 {
		return fmt.Errorf("round trip time %s: must not be negative", rtt)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oneWay = rtt / 2
	return nil
}

// Restore ends Cut and Slow.
func (l *Link) Restore() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oneWay = 0
	l.openLocked()
	l.cut = ""
	return l.listenLocked(context.Background())
}

// LinkState is what was asked of a Link.
type LinkState struct {
	Cut CutMode       `json:"cut,omitempty"`
	RTT time.Duration `json:"rtt,omitempty"` // nanoseconds
}

// State says what the link does at present.
func (l *Link) State() LinkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return LinkState{Cut: l.cut, RTT: 2 * l.oneWay}
}

func (l *Link) openLocked() {
	if l.cut == Blackhole {
		close(l.open)
	}
}

// listenLocked makes sure that connections are taken.
func (l *Link) listenLocked(ctx context.Context) error {
	if l.ln != nil || l.closed {
		return nil
	}
	ln, err := l.port.listen(ctx)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", l.Addr(), err)
	}
	l.ln = ln
	l.wg.Add(1)
	go l.accept(ln)
	return nil
}

func (l *Link) accept(ln net.Listener) {
	defer l.wg.Done()
	for {
		client, err := ln.Accept()
		if err != nil {
			return // closed
		}
		c := &linkConn{link: l, client: client, done: make(chan struct{})}
		if !l.add(ln, c) {
			_ = client.Close()
			return
		}
		go func() {
			defer l.wg.Done()
			c.run()
			l.remove(c)
		}()
	}
}

// add takes a connection in, unless its listener was closed meanwhile.
func (l *Link) add(ln net.Listener, c *linkConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ln != ln {
		return false
	}
	l.conns[c] = struct{}{}
	l.wg.Add(1)
	return true
}

func (l *Link) remove(c *linkConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *Link) delay() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.oneWay
}

// pass waits while the link is a black hole; false when done comes first.
func (l *Link) pass(done <-chan struct{}) bool {
	for {
		l.mu.Lock()
		open, blocked := l.open, l.cut == Blackhole
		l.mu.Unlock()
		if !blocked {
			return true
		}
		select {
		case <-open:
		case <-done:
			return false
		}
	}
}

// close ends the proxy and all its connections and waits for them.
func (l *Link) close() {
	l.mu.Lock()
	l.closed = true
	if l.ln != nil {
		_ = l.ln.Close()
		l.ln = nil
	}
	for c := range l.conns {
		c.close()
	}
	l.mu.Unlock()
	l.wg.Wait()
	l.port.Close()
}
