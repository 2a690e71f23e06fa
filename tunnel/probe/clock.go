package probe

import "time"

// lateness is how late a timer may fire before the process counts as having slept.
const lateness = 50 * time.Millisecond

// clock counts the time in which the process ran: while it is stopped, or its machine paused, the clock stands still. So
// nothing is found lost for want of somebody to read the answer.
type clock struct {
	awake time.Duration
	last  time.Time
	due   time.Duration // when the next timer was to fire
}

// advance moves the clock to now and reports whether the process slept on the way there.
func (c *clock) advance(now time.Time) (awake time.Duration, slept bool) {
	passed := now.Sub(c.last)
	c.last = now
	if most := max(c.due-c.awake, 0) + lateness; passed > most {
		passed, slept = most, true
	}
	c.awake += passed
	return c.awake, slept
}
