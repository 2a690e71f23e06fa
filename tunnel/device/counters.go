package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// Refused is how many packets a device refused since it was opened, by reason.
type Refused struct {
	// Handshakes from a key the device does not know, replayed or forged, and packets that are not WireGuard's.
	Handshakes uint64
	// Sources outside the ranges of the peer that sent the packet.
	Sources uint64
	// Data packets that were replayed, forged, of no session, or lost in an overload of this process. wireguard-go drops
	// them without a word: it is what was received less what came out. For the kernel's device it is what the link
	// counts as receive errors.
	Data uint64
}

// Refused reads the counters.
func (d *Device) Refused() Refused {
	if d.kernel {
		link, err := netlink.LinkByName(d.name)
		if err != nil || link.Attrs().Statistics == nil {
			return Refused{}
		}
		s := link.Attrs().Statistics
		return Refused{Sources: s.RxFrameErrors, Data: s.RxErrors - min(s.RxErrors, s.RxFrameErrors)}
	}
	c := d.counts
	in, out := c.received.Load(), c.written.Load()+c.sources.Load()+c.empty.Load()
	return Refused{Handshakes: c.handshakes.Load(), Sources: c.sources.Load(), Data: in - min(in, out)}
}

// counts are what happened in a userspace device.
type counts struct {
	received, written, empty, handshakes, sources atomic.Uint64
}

// note counts what wireguard-go says of refused packets. The words are its own, the only sign it gives; a test with
// such packets fails when they change.
func (c *counts) note(format string, _ ...any) {
	switch {
	case strings.Contains(format, "disallowed source address"):
		c.sources.Add(1)
	case strings.HasPrefix(format, "Received packet with invalid mac1"), strings.HasPrefix(format, "Received invalid initiation"),
		strings.HasPrefix(format, "Received invalid response"), strings.HasPrefix(format, "Received message with unknown type"),
		strings.Contains(format, "handshake replay"), strings.Contains(format, "handshake flood"):
		c.handshakes.Add(1)
	}
}

// noteError logs what wireguard-go calls an error. A peer that cannot be reached is none: the probes say it better.
func (c *counts) noteError(log *zap.Logger) func(string, ...any) {
	return func(format string, args ...any) {
		for _, a := range args {
			if err, ok := a.(error); ok && (errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) ||
				errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL)) {
				return
			}
		}
		if !strings.Contains(format, "no known endpoint") {
			log.Debug("wireguard-go", zap.String("says", fmt.Sprintf(format, args...)))
		}
	}
}

// countingTUN counts the packets that came out of a device.
type countingTUN struct {
	tun.Device
	counts *counts
}

func (t *countingTUN) Write(bufs [][]byte, offset int) (int, error) {
	t.counts.written.Add(uint64(len(bufs)))
	return t.Device.Write(bufs, offset)
}

// bind is wireguard-go's own UDP sockets with two additions: packets are counted, and a batch that is too large for the
// path is sent packet by packet. One segment above the path MTU fails a whole batch, and would do so for ever; single
// packets the kernel fragments.
type bind struct {
	conn.Bind
	counts *counts
}

func (b *bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	fns, actual, err := b.Bind.Open(port)
	for i, receive := range fns {
		fns[i] = func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			n, err := receive(packets, sizes, eps)
			for j := range n {
				b.count(packets[j][:sizes[j]])
			}
			return n, err
		}
	}
	return fns, actual, err
}

func (b *bind) count(packet []byte) {
	if len(packet) < device.MinMessageSize || binary.LittleEndian.Uint32(packet) != device.MessageTransportType {
		return
	}
	b.counts.received.Add(1)
	if len(packet) == device.MinMessageSize {
		b.counts.empty.Add(1) // a keepalive
	}
}

func (b *bind) Send(bufs [][]byte, to conn.Endpoint) error {
	err := b.Bind.Send(bufs, to)
	if !errors.Is(err, syscall.EMSGSIZE) {
		return err
	}
	var last error
	for i := range bufs {
		if err := b.Bind.Send(bufs[i:i+1], to); err != nil {
			last = err
		}
	}
	return last
}
