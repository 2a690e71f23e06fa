package names

import (
	"net"
	"net/netip"
	"sync"
)

// Bounds on what waits at one time. One pod cannot take the places of all.
const (
	mostQueries, mostQueriesPerSource         = 4096, 64
	mostConnections, mostConnectionsPerSource = 2048, 32
)

// gate counts what is inside, by who brought it.
type gate struct {
	most, mostOfOne int

	mu     sync.Mutex
	inside int                // guarded by mu
	of     map[netip.Addr]int // guarded by mu
}

func newGate(most, mostOfOne int) *gate {
	return &gate{most: most, mostOfOne: mostOfOne, of: map[netip.Addr]int{}}
}

// enter lets one in or does not; who was let in must leave.
func (g *gate) enter(from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside >= g.most || g.of[from] >= g.mostOfOne {
		return false
	}
	g.inside++
	g.of[from]++
	return true
}

func (g *gate) leave(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.of[from]--; g.of[from] == 0 {
		delete(g.of, from)
	}
}

// limited is a listener that closes connections of those who have too many.
type limited struct {
	net.Listener
	gate *gate
}

func (l limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := sourceOf(conn.RemoteAddr())
		if l.gate.enter(from) {
			return &counted{Conn: conn, left: sync.OnceFunc(func() { l.gate.leave(from) })}, nil
		}
		_ = conn.Close() // the asker sees it
	}
}

// counted leaves the gate when it is closed.
type counted struct {
	net.Conn
	left func()
}

func (c *counted) Close() error {
	c.left()
	return c.Conn.Close()
}
