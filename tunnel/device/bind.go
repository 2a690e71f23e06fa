package device

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

var _ conn.Bind = (*bind)(nil)

// bind is wireguard-go's own UDP sockets with four additions: they open in the right namespace, packets are counted, a
// batch that is too large for the path is sent unsegmented, and a source address that is no longer ours is forgotten.
//
// One segment above the path MTU fails a whole batch, and would do so for ever: ping works and bulk TCP is dead. Sent
// one by one, the kernel fragments what does not fit. wireguard-go watches routes to forget source addresses only for
// sockets that are nobody's wrapper, so that a failure is the sign here.
type bind struct {
	conn.Bind
	d *Device

	mu     sync.Mutex
	narrow map[netip.Addr]narrow // guarded by mu; few, and rarely any
}

// narrow is a path that refused to take segments.
type narrow struct {
	from  int // bytes of the smallest packet that was refused
	until time.Time
}

// narrowFor is how long a path is held to be narrow. Trying again costs one failed system call.
const narrowFor = 10 * time.Second

func newBind(d *Device) *bind {
	return &bind{Bind: conn.NewStdNetBind(), d: d, narrow: map[netip.Addr]narrow{}}
}

// Open opens the sockets. A port that somebody else has is tried again: wireguard-go would leave the device down.
func (b *bind) Open(port uint16) (fns []conn.ReceiveFunc, actual uint16, err error) {
	err = b.d.netNS.run(func() error {
		fns, actual, err = b.Bind.Open(port)
		return err
	})
	if err != nil {
		b.d.log.Warn("udp port cannot be opened", zap.Uint16("port", port), zap.Error(err))
		b.d.wg.Go(b.reopen)
		return nil, 0, err
	}
	for i, receive := range fns {
		fns[i] = b.counting(receive)
	}
	return fns, actual, nil
}

// reopen brings the device up again after a while. The port is then any; who configures the device sees that, sets it
// again, and gets the error if there still is one.
func (b *bind) reopen() {
	select {
	case <-b.d.closing:
	case <-time.After(retryAfter):
		b.d.mu.Lock()
		user := b.d.user
		b.d.mu.Unlock()
		_ = user.Up() // Open logs an error
	}
}

func (b *bind) counting(receive conn.ReceiveFunc) conn.ReceiveFunc {
	return func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		n, err := receive(packets, sizes, eps)
		data := uint64(0)
		for i := range n {
			if isData(packets[i][:sizes[i]]) {
				data++
			}
		}
		b.d.refused.received.Add(data)
		return n, err
	}
}

func isData(packet []byte) bool {
	return len(packet) >= device.MessageTransportSize && binary.LittleEndian.Uint32(packet) == device.MessageTransportType
}

func (b *bind) Send(bufs [][]byte, to conn.Endpoint) error {
	largest := 0
	for _, buf := range bufs {
		largest = max(largest, len(buf))
	}
	addr := to.DstIP()
	if b.isNarrow(addr, largest) {
		return b.Bind.Send(apart(bufs), to)
	}
	err := b.Bind.Send(bufs, to)
	switch {
	case errors.Is(err, syscall.EMSGSIZE), len(bufs) > 1 && errors.Is(err, syscall.EINVAL): // EINVAL before Linux 5.16
		b.setNarrow(addr, largest)
		err = b.Bind.Send(apart(bufs), to)
	}
	if err != nil && lostSource(err) && to.SrcIP().IsValid() {
		if fresh, parseErr := b.ParseEndpoint(to.DstToString()); parseErr == nil {
			return b.Bind.Send(bufs, fresh)
		}
	}
	return err
}

// lostSource says that err may come from a source address or link that is no more.
func lostSource(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ENODEV) ||
		errors.Is(err, syscall.ENETUNREACH)
}

// apart returns bufs without spare room behind them: wireguard-go then cannot join them to one segmented message, and
// sends them as they are in one system call.
func apart(bufs [][]byte) [][]byte {
	out := make([][]byte, len(bufs))
	for i, buf := range bufs {
		out[i] = buf[:len(buf):len(buf)]
	}
	return out
}

func (b *bind) isNarrow(to netip.Addr, size int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.narrow) == 0 {
		return false
	}
	path, ok := b.narrow[to]
	if ok && time.Now().After(path.until) {
		delete(b.narrow, to)
		return false
	}
	return ok && size >= path.from
}

func (b *bind) setNarrow(to netip.Addr, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if path, ok := b.narrow[to]; ok {
		size = min(size, path.from)
	} else {
		b.d.log.Debug("path takes no segments of this size", zap.Stringer("to", to), zap.Int("bytes", size))
	}
	b.narrow[to] = narrow{from: size, until: time.Now().Add(narrowFor)}
}
