package probe

import (
	"time"

	"github.com/spillway-dev/spillway/tunnel"
)

const (
	helloEvery       = 250 * time.Millisecond
	answersPerTarget = 200  // per second
	answersToOthers  = 1000 // per second
)

// responder is the side that answers. It believes the view that comes with the questions, as long as they come. Pure:
// all time is handed in. Not safe for concurrent use.
type responder struct {
	target      Target
	nonce, peer uint64
	lastSeq     uint32
	view        State
	heard       time.Duration // last question that is believed
	wait        time.Duration // without questions until the path counts as down
	listening   bool          // questions come
	nextHello   time.Duration
	rate        bucket
}

func newResponder(t Target, nonce uint64, now time.Duration) *responder {
	r := &responder{target: t, nonce: nonce, heard: now, nextHello: now + time.Duration(nonce%100)*time.Millisecond}
	r.view.MTU = tunnel.BaseMTU
	r.view.Undecided = true
	return r
}

func (r *responder) setTarget(_ time.Duration, t Target) { r.target = t }

func (r *responder) next() time.Duration {
	if r.listening {
		return r.heard + r.wait
	}
	return r.nextHello
}

func (r *responder) tick(now time.Duration, out []message) []message {
	if r.listening && now >= r.heard+r.wait {
		r.listening, r.nextHello = false, now
		r.view.Up, r.view.LargeLost, r.view.LossPercent = false, false, 100
	}
	if !r.listening && now >= r.nextHello {
		r.nextHello = now + helloEvery
		out = append(out, message{kind: hello, size: r.small(), max: r.target.MaxMTU, nonce: r.nonce, echo: r.peer})
		if now >= r.heard+firstTimeout+lostRounds*downEvery {
			r.view.Undecided = false
		}
	}
	return out
}

func (r *responder) small() int {
	if r.target.Remote.Is4() {
		return headerSize + overheadIP4
	}
	return headerSize + overheadIP6
}

func (r *responder) receive(now time.Duration, m message, out []message) []message {
	if m.kind != question {
		return out
	}
	if m.echo == r.nonce {
		r.believe(now, m)
	}
	if !r.rate.take(now, answersPerTarget) {
		return out
	}
	a := answerTo(m)
	a.nonce, a.max, a.mtu, a.loss = r.nonce, r.target.MaxMTU, r.view.MTU, uint8(r.view.LossPercent)
	if r.view.Up {
		a.flags |= flagUp
	}
	return append(out, a)
}

// believe takes over the view of an initiator that has proven to hear us.
func (r *responder) believe(now time.Duration, m message) {
	if m.nonce != r.peer {
		r.peer, r.lastSeq = m.nonce, 0
	}
	if m.seq <= r.lastSeq {
		return
	}
	r.lastSeq = m.seq
	if m.flags&flagUndecided != 0 {
		return // it has just begun: what we know is worth more
	}
	r.heard, r.wait, r.listening = now, max(m.wait, fastEvery), true
	r.view.Undecided = false
	r.view.Up = m.flags&flagUp != 0
	r.view.Ever = r.view.Ever || r.view.Up
	r.view.LargeLost = m.flags&flagLargeLost != 0
	r.view.RTT, r.view.LossPercent, r.view.PeerMTU = m.rtt, int(m.loss), m.max
	if m.mtu > 0 {
		r.view.MTU = m.mtu
	}
}

func (r *responder) state() State { return r.view }

func (r *responder) tooBig(time.Duration, message) {}

func (r *responder) slept() {}
