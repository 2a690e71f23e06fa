package device

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
)

// Refused is how many packets a device refused since it was opened (the kernel's: since the link was made), by reason.
type Refused struct {
	// Handshakes with a key the device does not know, replayed or forged ones, and packets that are not WireGuard's.
	// The kernel does not count them.
	Handshakes uint64
	// Sources outside the ranges of the peer that sent the packet.
	Sources uint64
	// Data packets that were replayed, forged or of no session. A few after a restart of either side are normal: the
	// other side still uses the session of before. wireguard-go drops them without a word: it is what was received less
	// what came out, known two seconds late. The kernel counts only those whose content is malformed.
	Data uint64
}

// Refused reads the counters. Zero when the link is gone.
func (d *Device) Refused() Refused {
	if !d.kernel {
		return d.refused.read(time.Now())
	}
	var out Refused
	_ = d.netNS.run(func() error {
		link, err := netlink.LinkByName(d.name)
		if err != nil || link.Attrs().Statistics == nil {
			return err
		}
		s := link.Attrs().Statistics
		out = Refused{Sources: s.RxFrameErrors, Data: s.RxErrors - min(s.RxErrors, s.RxFrameErrors)}
		return nil
	})
	return out
}

// refused counts what happens in a userspace device.
type refused struct {
	received, accepted  atomic.Uint64 // data packets that came in; those that came out or are counted elsewhere
	handshakes, sources atomic.Uint64
	least               atomic.Uint64 // difference of the first two since opened, plus one; 0: no sample yet

	mu     sync.Mutex
	data   uint64    // guarded by mu; what read says
	opened time.Time // guarded by mu; when least began
}

// settle is how long the difference of received and accepted packets is watched: at its least, none was on the way
// through the device.
const settle = 2 * time.Second

// sample notes how many packets were received and not accepted. Some of them may still be on their way.
func (r *refused) sample() {
	out := r.accepted.Load() // before received: the difference is then never too small
	missing := r.received.Load() - out + 1
	for {
		least := r.least.Load()
		if least != 0 && least <= missing || r.least.CompareAndSwap(least, missing) {
			return
		}
	}
}

func (r *refused) read(now time.Time) Refused {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sample()
	if r.opened.IsZero() {
		r.opened = now
	}
	if now.Sub(r.opened) >= settle {
		r.data = max(r.data, r.least.Swap(0)-1)
		r.opened = now
	}
	return Refused{Handshakes: r.handshakes.Load(), Sources: r.sources.Load(), Data: r.data}
}

// note counts what wireguard-go says of packets. The words are its own, the only sign it gives; a test with such packets
// fails when they change.
func (r *refused) note(format string, _ ...any) {
	switch {
	case strings.HasSuffix(format, "Receiving keepalive packet"):
		r.accepted.Add(1)
	case strings.Contains(format, "disallowed source address"):
		r.sources.Add(1)
		r.accepted.Add(1)
	case strings.HasPrefix(format, "Received packet with invalid mac1"), strings.HasPrefix(format, "Received invalid initiation"),
		strings.HasPrefix(format, "Received invalid response"), strings.HasPrefix(format, "Received message with unknown type"):
		r.handshakes.Add(1)
	}
}
