package probe

import (
	"slices"
	"time"
)

// roundTrips keeps the last round trips.
type roundTrips struct {
	last         [15]time.Duration
	n            int
	smooth, vary time.Duration // RFC 6298
}

func (r *roundTrips) add(d time.Duration) {
	r.last[r.n%len(r.last)] = d
	if r.n == 0 {
		r.smooth, r.vary = d, d/2
	} else {
		r.vary += (max(r.smooth-d, d-r.smooth) - r.vary) / 4
		r.smooth += (d - r.smooth) / 8
	}
	r.n++
}

func (r *roundTrips) median() time.Duration {
	n := min(r.n, len(r.last))
	if n == 0 {
		return 0
	}
	sorted := r.last
	slices.Sort(sorted[:n])
	return sorted[n/2]
}

// timeout is how long to wait for an answer before asking again quickly. Answers are welcome later, too.
func (r *roundTrips) timeout() time.Duration {
	if r.n == 0 {
		return firstTimeout
	}
	return min(max(r.smooth+max(4*r.vary, minTimeout/2), minTimeout), maxTimeout)
}

// lossWindow counts what became of the last 100 probes.
type lossWindow struct {
	lost  [100]bool
	n     int // probes so far
	total int // lost among the last 100
}

// add notes the fate of a probe and returns its number.
func (w *lossWindow) add(lost bool) int {
	w.set(w.n, lost)
	w.n++
	return w.n - 1
}

// found takes back that the probe of that number was lost.
func (w *lossWindow) found(number int) {
	if number >= w.n-len(w.lost) {
		w.set(number, false)
	}
}

func (w *lossWindow) set(number int, lost bool) {
	slot := &w.lost[number%len(w.lost)]
	if *slot {
		w.total--
	}
	if lost {
		w.total++
	}
	*slot = lost
}

func (w *lossWindow) percent() int {
	if w.n == 0 {
		return 0
	}
	return w.total * 100 / min(w.n, len(w.lost))
}

// bucket lets n things pass per second.
type bucket struct {
	tokens float64
	last   time.Duration
}

func (b *bucket) take(now time.Duration, perSecond float64) bool {
	b.tokens = min(b.tokens+(now-b.last).Seconds()*perSecond, perSecond)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
