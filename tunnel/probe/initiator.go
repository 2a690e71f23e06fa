package probe

import (
	"time"

	"github.com/spillway-dev/spillway/tunnel"
)

// The times of probing. With a round trip below 50 ms a dead path is found after 1 + 0.1 + 4 × 0.1 s at most, and no
// five packets lost within less than half a second pass for a dead path.
const (
	idleEvery    = time.Second
	leastEvery   = 250 * time.Millisecond // where answers are slow
	fastEvery    = 100 * time.Millisecond
	downEvery    = 250 * time.Millisecond
	sampleEvery  = 5 * time.Second
	sampleDown   = time.Second
	grid         = 250 * time.Millisecond // idle questions of targets with slow answers are sent on it, those of others every idleEvery: many at once cost less
	minTimeout   = 100 * time.Millisecond
	firstTimeout = 600 * time.Millisecond
	maxTimeout   = time.Second
	minSilence   = 550 * time.Millisecond // from the first lost question to "down": round trips may grow by that much at once
	lostRounds   = 5
	healRounds   = 2
	graceWait    = 250 * time.Millisecond
	keepSent     = 5 * time.Second // a late answer still counts
	helloGap     = 50 * time.Millisecond
	smallAgain   = 4 // rounds

	searchGap   = 50 * time.Millisecond
	searchTries = 3
	searchGrain = 8 // bytes
	searchAgain = 5 * time.Minute
)

// phase of an initiator.
type phase uint8

const (
	down    phase = iota
	idle          // all is well
	suspect       // a question was not answered in time
)

// sentProbe is a question that waits for its answer.
type sentProbe struct {
	seq          uint32
	round        uint32
	size         int
	at, deadline time.Duration
	pulse        bool // the one of its round that stands for all
	search       bool
	lost         bool // the deadline has passed
	number       int  // in the window of losses, when lost
	untimed      bool // the process slept meanwhile
}

// initiator is the side that asks. Pure: all time is handed in. Not safe for concurrent use.
type initiator struct {
	target      Target
	nonce, peer uint64
	seq, round  uint32
	phase       phase
	decided     bool // up or down, no longer unknown
	up, ever    bool
	largeLost   bool
	mtu         int // relied on; sizes below base never are
	peerMax     int // 0: not known
	sent        []sentProbe
	nextRound   time.Duration
	lastRound   time.Duration

	lostPulses, lostBase, lostFull int           // in a row
	firstLost                      time.Duration // when the first of lostPulses was sent
	heard                          bool          // something was answered since the phase began
	healed                         int           // rounds whose base size was answered, in a row
	healRound                      uint32
	healFull                       bool

	search search
	trips  roundTrips
	losses lossWindow
	rate   bucket
}

func newInitiator(t Target, nonce uint64, now time.Duration) *initiator {
	i := &initiator{target: t, nonce: nonce, nextRound: now + time.Duration(nonce%100)*time.Millisecond, lastRound: now - helloGap}
	i.mtu = i.base()
	return i
}

// sample reports whether the target is a sample of two nodes, whose size is given and not searched for.
func (i *initiator) sample() bool { return i.target.Slot < 0 }

// limit is the largest packet that both devices take.
func (i *initiator) limit() int {
	own := i.target.MaxMTU
	if own == 0 {
		own = tunnel.BaseMTU
	}
	if i.peerMax > 0 {
		return min(own, i.peerMax)
	}
	return own
}

// base is the size that must pass for the path to be up.
func (i *initiator) base() int {
	if i.sample() {
		return i.limit()
	}
	return min(tunnel.BaseMTU, i.limit())
}

// setTarget takes a changed target with the same addresses.
func (i *initiator) setTarget(now time.Duration, t Target) {
	raised := t.MaxMTU > i.target.MaxMTU
	i.target = t
	i.fit(now)
	if raised && !i.search.active {
		i.search.stop(now)
	}
}

// fit brings mtu within what the devices take.
func (i *initiator) fit(now time.Duration) {
	if i.sample() && i.mtu != i.limit() || i.mtu > i.limit() {
		i.mtu, i.lostFull, i.lostBase = i.limit(), 0, 0
		i.search.stop(now)
	}
	i.mtu = max(i.mtu, i.base())
}

// every is the time between questions while all is well.
func (i *initiator) every() time.Duration {
	if i.sample() {
		return sampleEvery
	}
	return max(idleEvery-(i.trips.timeout()-minTimeout), leastEvery)
}

// next returns when tick must be called again.
func (i *initiator) next() time.Duration {
	next := i.nextRound
	if i.phase == idle && (i.search.active || i.mtu < i.limit()) && !i.sample() {
		next = min(next, i.search.at)
	}
	for _, s := range i.sent {
		if !s.lost {
			next = min(next, s.deadline)
		}
	}
	if i.phase == suspect && i.lostPulses >= lostRounds {
		next = min(next, i.firstLost+minSilence)
	}
	return next
}

// tick does what is due and appends the messages to send.
func (i *initiator) tick(now time.Duration, out []message) []message {
	i.expire(now)
	i.judge(now)
	if now >= i.nextRound {
		out = i.ask(now, out)
	}
	if i.phase == idle && !i.sample() {
		out = i.look(now, out)
	}
	return out
}

// ask sends the questions of one round.
func (i *initiator) ask(now time.Duration, out []message) []message {
	i.round++
	i.lastRound = now
	pulse := true
	send := func(size int) {
		out = append(out, i.question(now, sentProbe{size: size, pulse: pulse}))
		pulse = false
	}
	switch i.phase {
	case idle:
		send(i.mtu)
		step := i.every()
		if step < idleEvery {
			step = grid
		}
		i.nextRound = max((now+i.every())/step*step, now+leastEvery/2)
	case suspect:
		send(i.small())
		i.sendLarge(send)
		i.nextRound = now + fastEvery
	case down:
		i.sendLarge(send)
		if i.largeLost || i.heard || i.round%smallAgain == 0 {
			send(i.small())
		}
		i.nextRound = now + downEvery
		if i.sample() && i.decided {
			i.nextRound = now + sampleDown
		}
	}
	return out
}

func (i *initiator) sendLarge(send func(int)) {
	if i.mtu > i.base() {
		send(i.mtu)
	}
	send(i.base())
}

func (i *initiator) small() int {
	if i.target.Remote.Is4() {
		return headerSize + overheadIP4
	}
	return headerSize + overheadIP6
}

// question notes that s is sent and returns its message.
func (i *initiator) question(now time.Duration, s sentProbe) message {
	i.seq++
	timeout := i.trips.timeout()
	s.seq, s.round, s.at, s.deadline = i.seq, i.round, now, now+timeout
	i.sent = append(i.sent, s)
	return message{
		kind: question, flags: i.flags(), loss: uint8(i.losses.percent()), seq: i.seq, size: s.size, max: i.target.MaxMTU, mtu: i.mtu,
		wait: i.every() + timeout + (lostRounds-2)*fastEvery + graceWait, rtt: i.trips.median(), nonce: i.nonce, echo: i.peer,
	}
}

func (i *initiator) flags() flags {
	var f flags
	if i.up {
		f |= flagUp
	}
	if i.ever {
		f |= flagEver
	}
	if i.largeLost {
		f |= flagLargeLost
	}
	if !i.decided {
		f |= flagUndecided
	}
	return f
}

// look takes a step of the search for a larger size.
func (i *initiator) look(now time.Duration, out []message) []message {
	if !i.search.active {
		if now < i.search.at || i.mtu >= i.limit() {
			return out
		}
		i.search.begin(now, i.mtu, i.limit())
	}
	size, done := i.search.step(now, i.trips.timeout())
	if done {
		i.found(now)
	}
	if size > 0 {
		out = append(out, i.question(now, sentProbe{size: size, search: true}))
	}
	return out
}

// found relies on what the search has proven.
func (i *initiator) found(now time.Duration) {
	if proven := min(i.search.lo, i.limit()); proven > i.mtu {
		i.mtu, i.lostFull = proven, 0
	}
	i.search.stop(now + searchAgain)
}

func (i *initiator) state() State {
	return State{
		Up: i.up, Ever: i.ever, LargeLost: i.largeLost, RTT: i.trips.median(), LossPercent: i.losses.percent(), MTU: i.mtu, PeerMTU: i.peerMax,
		Undecided: !i.decided,
	}
}
