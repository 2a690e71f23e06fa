package lab

import (
	"net"
	"sync"
	"time"
)

// linkConn is one connection through a Link.
type linkConn struct {
	link   *Link
	client net.Conn
	once   sync.Once
	done   chan struct{} // closed by close

	mu     sync.Mutex // guards server
	server net.Conn
}

func (c *linkConn) close() {
	c.once.Do(func() {
		close(c.done)
		_ = c.client.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.server != nil {
			_ = c.server.Close()
		}
	})
}

func (c *linkConn) run() {
	defer c.close()
	// The kernel has answered the client's SYN already; what a far server's
	// answer would have cost is waited for here.
	if !c.wait(2*c.link.delay()) || !c.link.pass(c.done) || !c.dial() {
		return
	}
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); c.pump(c.server, c.client) }()
	go func() { defer wg.Done(); c.pump(c.client, c.server) }()
	wg.Wait()
}

func (c *linkConn) dial() bool {
	server, err := net.Dial("tcp", c.link.target)
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
		_ = server.Close()
		return false
	default:
		c.server = server
		return true
	}
}

func (c *linkConn) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.done:
		return false
	}
}

const (
	chunkSize = 64 << 10
	// queueSize bounds what is on its way in one direction: 64 MiB, so at
	// 200 ms round trip more than 5 Gbit/s.
	queueSize = 1024
)

// parcel is a chunk on its way; the last one, without data, is the end.
type parcel struct {
	data []byte
	due  time.Time
}

// pump carries one direction. It writes what it reads at once while the link
// is fast; from the first delay on, chunks go through a queue to a second
// goroutine, for the rest of the connection, so that their order is kept.
func (c *linkConn) pump(dst, src net.Conn) {
	buf := make([]byte, chunkSize)
	for {
		n, err := src.Read(buf)
		if delay := c.link.delay(); delay > 0 {
			c.pumpSlow(dst, src, buf[:n], err)
			return
		}
		if n > 0 && (!c.link.pass(c.done) || !c.write(dst, buf[:n])) {
			return
		}
		if err != nil {
			c.end(dst)
			return
		}
	}
}

// pumpSlow carries on from what was read last.
func (c *linkConn) pumpSlow(dst, src net.Conn, first []byte, err error) {
	queue := make(chan parcel, queueSize)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { defer wg.Done(); c.deliver(dst, queue) }()
	defer wg.Wait()
	defer close(queue)

	data := append([]byte(nil), first...)
	buf := make([]byte, chunkSize)
	for {
		due := time.Now().Add(c.link.delay())
		if len(data) > 0 && !c.enqueue(queue, parcel{data, due}) {
			return
		}
		if err != nil {
			c.enqueue(queue, parcel{nil, due})
			return
		}
		var n int
		n, err = src.Read(buf)
		data = append([]byte(nil), buf[:n]...)
	}
}

func (c *linkConn) enqueue(queue chan<- parcel, p parcel) bool {
	select {
	case queue <- p:
		return true
	case <-c.done:
		return false
	}
}

func (c *linkConn) deliver(dst net.Conn, queue <-chan parcel) {
	for p := range queue {
		if !c.wait(time.Until(p.due)) || !c.link.pass(c.done) {
			return
		}
		if p.data == nil {
			c.end(dst)
		} else if !c.write(dst, p.data) {
			return
		}
	}
}

func (c *linkConn) write(dst net.Conn, data []byte) bool {
	if _, err := dst.Write(data); err != nil {
		c.close()
		return false
	}
	return true
}

// end passes on that the other side has finished sending.
func (c *linkConn) end(dst net.Conn) {
	if tcp, ok := dst.(*net.TCPConn); ok && tcp.CloseWrite() == nil {
		return
	}
	c.close()
}
