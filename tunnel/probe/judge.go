package probe

import "time"

// expire finds questions that were not answered in time.
func (i *initiator) expire(now time.Duration) {
	kept := i.sent[:0]
	for _, s := range i.sent {
		if !s.lost && now >= s.deadline {
			i.miss(now, &s)
		}
		if now < s.at+keepSent {
			kept = append(kept, s)
		}
	}
	i.sent = kept
}

// miss counts a question that was not answered in time.
func (i *initiator) miss(now time.Duration, s *sentProbe) {
	s.lost = true
	if s.search {
		return
	}
	s.number = i.losses.add(true)
	if s.pulse {
		if i.lostPulses == 0 {
			i.firstLost = s.at
		}
		i.lostPulses++
	}
	if s.size == i.mtu {
		i.lostFull++
	}
	if s.size == i.base() {
		i.lostBase++
		i.healed, i.healFull = 0, false
	}
	if i.phase == idle {
		i.enter(suspect)
		i.nextRound = now
	}
}

// enter begins a phase. What was lost in a row stays counted.
func (i *initiator) enter(p phase) {
	i.phase, i.heard, i.healed, i.healFull = p, false, 0, false
}

// judge decides whether the path is still up, and how large packets may be.
func (i *initiator) judge(now time.Duration) {
	switch i.phase {
	case suspect:
		switch {
		case i.lostPulses >= lostRounds && now >= i.firstLost+minSilence:
			i.fail(now, false)
		case !i.heard || i.lostFull < lostRounds:
		case i.mtu > i.base():
			i.shrink(now)
		default:
			i.fail(now, true)
		}
	case down:
		if i.lostPulses >= lostRounds && !i.heard {
			i.decided = true
		}
		if i.heard && i.lostBase >= lostRounds {
			i.decided, i.largeLost = true, true
		}
		if i.silent(now) {
			i.heard, i.largeLost = false, false
		}
	}
}

// silent reports whether nothing at all was answered for long.
func (i *initiator) silent(now time.Duration) bool {
	return i.lostPulses >= lostRounds && now >= i.firstLost+2*time.Second
}

// fail says that the path is down: nothing passes, or only small packets do.
func (i *initiator) fail(now time.Duration, large bool) {
	i.up, i.decided, i.largeLost = false, true, large
	i.enter(down)
	i.heard = large
	i.nextRound = now
	i.search.active = false
}

// shrink stops relying on a size that does not pass any more.
func (i *initiator) shrink(now time.Duration) {
	i.mtu, i.lostFull = i.base(), i.lostBase
	i.search.stop(i.search.fell(now))
	if i.lostBase == 0 && i.healed > 0 {
		i.enter(idle)
	}
}

// receive takes a message of the other side and appends what to send for it.
func (i *initiator) receive(now time.Duration, m message, out []message) []message {
	switch m.kind {
	case question:
		if i.rate.take(now, answersPerTarget) {
			a := answerTo(m)
			a.nonce = i.nonce
			out = append(out, a)
		}
	case hello:
		if i.phase == down && now >= i.lastRound+helloGap && (m.echo == i.nonce || m.echo == 0) {
			i.nextRound = min(i.nextRound, now)
		}
	case answer:
		i.take(now, m)
	}
	return out
}

// take takes an answer, if it is one to a question of ours.
func (i *initiator) take(now time.Duration, m message) {
	if m.echo != i.nonce {
		return
	}
	s, ok := i.answered(m)
	if !ok {
		return
	}
	if m.nonce != i.peer {
		i.peer = m.nonce
		if m.nonce != 0 {
			i.nextRound = now // the other side believes us from the next question on
		}
	}
	if m.max != i.peerMax && m.max > 0 {
		i.peerMax = m.max
		i.fit(now)
	}
	if !s.untimed {
		i.trips.add(now - s.at)
	}
	if s.search {
		if i.search.active && i.search.passed(now, s.size) {
			i.found(now)
		}
	} else if s.lost {
		i.losses.found(s.number)
	} else {
		i.losses.add(false)
	}
	i.pass(now, s)
}

// answered takes the question that m answers off the list.
func (i *initiator) answered(m message) (sentProbe, bool) {
	for n, s := range i.sent {
		if s.seq == m.seq && s.size == m.size {
			i.sent = append(i.sent[:n], i.sent[n+1:]...)
			return s, true
		}
	}
	return sentProbe{}, false
}

// pass draws the conclusions from a question that was answered.
func (i *initiator) pass(now time.Duration, s sentProbe) {
	i.lostPulses, i.heard = 0, true
	if s.size < i.base() {
		return
	}
	i.lostBase = 0
	full := s.size >= i.mtu
	if full {
		i.lostFull = 0
	}
	if s.size >= i.base() && (i.healed == 0 || s.round != i.healRound) {
		i.healed++
		i.healRound = s.round
	}
	i.healFull = i.healFull || full
	switch {
	case i.phase == suspect && full:
		i.enter(idle)
	case i.phase == down && i.healed >= healRounds:
		i.rise(now)
	case i.phase == down:
		i.nextRound = now // one more, at once
	}
}

// rise says that the path is up.
func (i *initiator) rise(now time.Duration) {
	if !i.healFull {
		i.mtu, i.lostFull = i.base(), 0
	}
	i.up, i.ever, i.decided, i.largeLost = true, true, true, false
	i.enter(idle)
	i.nextRound = now // the other side learns by it
	i.search.stop(now)
}

// tooBig is called when the system did not send a question because it is larger than the device takes.
func (i *initiator) tooBig(now time.Duration, m message) {
	s, ok := i.answered(m)
	switch {
	case !ok:
	case s.search:
		if i.search.active && s.size == i.search.size && i.search.failed(now, s.size) {
			i.found(now)
		}
	case s.size > i.base() && s.size == i.mtu:
		i.mtu, i.lostFull = i.base(), i.lostBase
		i.search.stop(i.search.fell(now))
		i.nextRound = min(i.nextRound, now+fastEvery)
	default:
		i.miss(now, &s)
	}
}

// slept notes that time has passed in which the process did not run: round trips that span it mean nothing.
func (i *initiator) slept() {
	for n := range i.sent {
		i.sent[n].untimed = true
	}
}
