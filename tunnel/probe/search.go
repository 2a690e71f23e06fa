package probe

import "time"

// search looks for the largest packet that passes, by packets of a size that is not relied on yet: their loss says
// nothing about the path (RFC 8899, section 5.3). It tries the largest first, which is right most of the time, and then
// halves what is left.
type search struct {
	active bool
	at     time.Duration // active: of the next step; else: of the next search
	lo, hi int           // lo passes, more than hi does not
	size   int           // being tried
	tries  int
	falls  int // how often what it found did not hold, lately
	fellAt time.Duration
}

// begin starts a search between what passes and the limit.
func (s *search) begin(now time.Duration, passes, limit int) {
	s.active, s.at, s.lo, s.hi, s.size, s.tries = true, now, passes, limit, limit, 0
}

// stop ends a search without result; it starts again in due time.
func (s *search) stop(again time.Duration) {
	s.active, s.at = false, again
}

// step returns the size of a probe to send now, or 0, and whether the search has ended.
func (s *search) step(now, timeout time.Duration) (size int, done bool) {
	if now < s.at {
		return 0, false
	}
	if s.tries == searchTries {
		return 0, s.failed(now, s.size)
	}
	s.tries++
	s.at = now + searchGap
	if s.tries == searchTries {
		s.at = now + timeout
	}
	return s.size, false
}

// failed notes that size does not pass, and reports whether the search has ended.
func (s *search) failed(now time.Duration, size int) bool {
	s.hi = min(s.hi, size-1)
	return s.choose(now)
}

// passed notes that size passes, and reports whether the search has ended.
func (s *search) passed(now time.Duration, size int) bool {
	if size <= s.lo {
		return false
	}
	s.lo = size
	return s.choose(now)
}

func (s *search) choose(now time.Duration) bool {
	if s.hi-s.lo < searchGrain {
		return true
	}
	s.size, s.tries, s.at = (s.lo+s.hi+1)/2, 0, now
	return false
}

// fell returns when to search again after what was found did not hold: soon, then less and less often.
func (s *search) fell(now time.Duration) time.Duration {
	if now-s.fellAt > 2*searchAgain {
		s.falls = 0
	}
	s.falls++
	s.fellAt = now
	return now + min(time.Second<<min(s.falls-1, 10), searchAgain)
}
