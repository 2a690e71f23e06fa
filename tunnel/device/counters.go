package device

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Refused is how many packets a device refused since it was opened (the kernel's: since the link was made, or counting
// began), by reason.
type Refused struct {
	// Handshakes with a key the device does not know, replayed or forged ones, and packets that are not WireGuard's.
	// Of a kernel device they are among Data: nothing tells them apart.
	Handshakes uint64
	// Sources outside the ranges of the peer that sent the packet.
	Sources uint64
	// Data packets that were replayed, forged or of no session. A few after a restart of either side are normal: the
	// other side still uses the session of before. Both devices drop them without a word: it is what was received less
	// what came out, known two seconds late.
	Data uint64
}

// Refused reads the counters. Zero when the link is gone.
func (d *Device) Refused() Refused {
	if d.kernel {
		return d.kernelRefused(time.Now())
	}
	return d.refused.read(time.Now())
}

// refused counts what happens in a userspace device.
type refused struct {
	received, accepted  atomic.Uint64 // data packets that came in; those that came out or are counted elsewhere
	handshakes, sources atomic.Uint64
	least               atomic.Uint64 // difference of the first two since opened, plus one; 0: no sample yet

	mu     sync.Mutex
	data   uint64    // guarded by mu; what settled says
	before uint64    // guarded by mu; what was counted before a restart
	opened time.Time // guarded by mu; when least began
}

// settle is how long the difference of received and accepted packets is watched: at its least, none was on the way
// through the device.
const settle = 2 * time.Second

// sample notes how many packets were received and not accepted. Some of them may still be on their way.
func (r *refused) sample() {
	out := r.accepted.Load() // before received: the difference is then never too small
	r.lower(r.received.Load() - out)
}

func (r *refused) lower(missing uint64) {
	for {
		least := r.least.Load()
		if least != 0 && least <= missing+1 || r.least.CompareAndSwap(least, missing+1) {
			return
		}
	}
}

func (r *refused) read(now time.Time) Refused {
	r.sample()
	return Refused{Handshakes: r.handshakes.Load(), Sources: r.sources.Load(), Data: r.settled(now)}
}

// settled is the least number of packets that were missing for a whole while.
func (r *refused) settled(now time.Time) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opened.IsZero() {
		r.opened = now
	}
	if now.Sub(r.opened) >= settle {
		r.data = max(r.data, r.before+r.least.Swap(0)-1)
		r.opened = now
	}
	return r.data
}

// restart keeps what was counted and takes missing packets from zero.
func (r *refused) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before, r.opened = r.data, time.Time{}
	r.least.Store(0)
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
