package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// batch is how many datagrams one system call moves at most.
const batch = 64

// socket is a UDP socket on loopback that is connected to a WireGuard port, read and written in batches.
type socket struct {
	*net.UDPConn
	batches *ipv4.PacketConn
}

func newSocket(c *net.UDPConn) *socket {
	_ = c.SetReadBuffer(2 << 20) // as far as the system lets
	_ = c.SetWriteBuffer(2 << 20)
	return &socket{UDPConn: c, batches: ipv4.NewPacketConn(c)}
}

// receive hands every datagram to take, which copies what it keeps, until the socket is closed. Nobody listens at the
// other end for moments: that is no error.
func (s *socket) receive(take func(datagram []byte)) error {
	messages := more(nil)
	for {
		n, err := s.batches.ReadBatch(messages, 0)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			continue
		case err != nil:
			return fmt.Errorf("receive from WireGuard: %w", err)
		}
		for i := range messages[:n] {
			take(messages[i].Buffers[0][:messages[i].N])
		}
		if n == len(messages) {
			messages = more(messages)
		}
	}
}

// more doubles the messages of a batch as long as it may grow: strangers and idle peers do not cost a mebibyte each.
func more(messages []ipv4.Message) []ipv4.Message {
	for range min(max(len(messages), 1), batch-len(messages)) {
		messages = append(messages, ipv4.Message{Buffers: [][]byte{make([]byte, maxDatagram)}})
	}
	return messages
}

// send gives datagrams to WireGuard. What it does not take is lost, as datagrams are.
func (s *socket) send(messages []ipv4.Message) error {
	for len(messages) > 0 {
		n, err := s.batches.WriteBatch(messages, 0)
		switch {
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("send to WireGuard: %w", err)
		case err != nil:
			n = 1
		}
		messages = messages[n:]
	}
	return nil
}

// bridge moves datagrams between a stream and a socket until one of them fails or ctx ends; then it closes the stream.
type bridge struct {
	stream net.Conn
	socket *socket
	queue  *queue // filled by who receives from the socket
	// admit judges a datagram from the stream; false drops it. Nil takes all.
	admit func(datagram []byte) bool
	// moved is called after each batch in either direction.
	moved func()
}

func (b *bridge) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(b.fromQueue(ctx)) })
	wg.Go(func() { cancel(b.fromStream()) })
	<-ctx.Done()
	_ = b.stream.Close() // ends both
	wg.Wait()
	return context.Cause(ctx)
}

// fromQueue writes what is queued, and flushes when the queue is empty.
func (b *bridge) fromQueue(ctx context.Context) error {
	w := bufio.NewWriterSize(b.stream, streamBuffer)
	for {
		var held []byte
		select {
		case <-ctx.Done():
			return nil
		case held = <-b.queue.c:
		}
		for more := true; more; {
			err := appendFrame(w, held)
			b.queue.free(held)
			if err != nil {
				return fmt.Errorf("write to the relay's other end: %w", err)
			}
			select {
			case held = <-b.queue.c:
			default:
				more = false
			}
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("write to the relay's other end: %w", err)
		}
		b.moved()
	}
}

func (b *bridge) fromStream() error {
	r := bufio.NewReaderSize(b.stream, streamBuffer)
	messages := more(nil)
	for {
		n := 0
		for n == 0 || n < len(messages) && frameWaiting(r) {
			buf := messages[n].Buffers[0][:maxDatagram]
			size, err := readFrame(r, buf)
			if err != nil {
				return fmt.Errorf("read from the relay's other end: %w", err)
			}
			messages[n].Buffers[0] = buf[:size]
			if b.admit == nil || b.admit(buf[:size]) {
				n++
			}
		}
		if err := b.socket.send(messages[:n]); err != nil {
			return err
		}
		b.moved()
		if n == len(messages) {
			messages = more(messages)
		}
	}
}

const (
	// deadAfter is how long sent bytes may stay unacknowledged. Probes pass every second, so that a connection that a
	// middlebox forgot is noticed by then.
	deadAfter = 5 * time.Second
	// unsent bounds what waits in the kernel, bytes: what is queued there delays all behind it.
	unsent = 128 << 10
)

// tune makes a TCP connection fit to carry datagrams. What the system does not know is left out.
func tune(c net.Conn) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: deadAfter, Count: 3})
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
	})
}
