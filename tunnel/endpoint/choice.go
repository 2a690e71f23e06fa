package endpoint

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// udpTurn is how long a silent UDP candidate is waited for: WireGuard begins anew about every 2 s.
	udpTurn = 3 * time.Second
	// udpFor is how long UDP is waited for in all where there is TLS.
	udpFor = 5 * time.Second
	// tlsTurn is longer than udpTurn: TCP and TLS come first.
	tlsTurn = 5 * time.Second
	// tryEvery is how often UDP is tried beside TLS, and tryFirst when at the earliest after TLS came up.
	tryEvery = 5 * time.Minute
	tryFirst = 10 * time.Second
)

// target is one address of a UDP candidate.
type target struct {
	name string // HOST:PORT as announced
	addr netip.AddrPort
}

// choice is what one path uses, and when that is to be thought over. Pure: all time is handed in.
type choice struct {
	udp []target // those whose address is known, in order of preference
	tls []string
	// waiting says that there are UDP candidates, though no address of theirs may be known yet.
	waiting bool

	up     bool
	alone  bool // up though nothing was announced: the peer began
	onTLS  bool
	use    target    // on UDP; zero: nothing to use yet
	relay  string    // on TLS: the candidate
	turned time.Time // when the turn of use or relay began; after up, when it went down
	began  time.Time // on UDP: when this round of it did
	try    time.Time // on TLS and up: when UDP is to be tried; zero: a try runs
	tried  time.Time // the last one
}

// set hands over what there is to choose from. What is up stays in use until it is down, whatever is announced.
func (c *choice) set(now time.Time, udp []target, tls []string, waiting bool) {
	c.udp, c.tls, c.waiting = udp, tls, waiting
	if c.up && (c.alone || c.onTLS || c.use.addr.IsValid()) {
		return
	}
	c.settle(now)
}

// settle leaves what is no longer announced.
func (c *choice) settle(now time.Time) {
	switch {
	case c.onTLS && !slices.Contains(c.tls, c.relay), c.began.IsZero():
		c.beginUDP(now)
	case !c.onTLS && !slices.Contains(c.udp, c.use):
		c.turnTo(now, c.udp, 0)
	}
	c.step(now)
}

// report tells whether packets pass.
func (c *choice) report(now time.Time, up bool) {
	if c.up == up {
		return
	}
	c.up, c.alone = up, up && !c.waiting && len(c.tls) == 0
	switch {
	case !up:
		c.turned, c.began = now, now
		c.settle(now)
	case c.onTLS:
		c.try = now.Add(tryFirst)
		if again := c.tried.Add(tryEvery); !c.tried.IsZero() && again.After(c.try) {
			c.try = again
		}
	}
}

// due is when step must be called again; zero: not before something is told.
func (c *choice) due() time.Time {
	switch {
	case c.up && c.onTLS && len(c.udp) > 0:
		return c.try
	case c.up:
		return time.Time{}
	case c.onTLS:
		return c.turned.Add(tlsTurn)
	case len(c.tls) > 0 && len(c.udp) > 1:
		return earlier(c.turned.Add(udpTurn), c.began.Add(udpFor))
	case len(c.tls) > 0:
		return c.began.Add(udpFor)
	case len(c.udp) > 1:
		return c.turned.Add(udpTurn)
	default:
		return time.Time{}
	}
}

// step does what is due. It reports whether UDP is to be tried beside TLS now; tried is to be called with the outcome.
func (c *choice) step(now time.Time) (try bool) {
	switch {
	case c.up:
		if !c.onTLS || len(c.udp) == 0 || c.try.IsZero() || now.Before(c.try) {
			return false
		}
		c.try, c.tried = time.Time{}, now
		return true
	case c.onTLS:
		if now.Before(c.turned.Add(tlsTurn)) {
			return false
		}
		if i := slices.Index(c.tls, c.relay) + 1; i < len(c.tls) || !c.waiting {
			c.beginTLS(now, i%max(len(c.tls), 1))
		} else {
			c.beginUDP(now)
		}
	case len(c.tls) > 0 && (!c.waiting || !now.Before(c.began.Add(udpFor))):
		c.beginTLS(now, 0)
	case len(c.udp) > 1 && !now.Before(c.turned.Add(udpTurn)):
		c.turnTo(now, c.udp, slices.Index(c.udp, c.use)+1)
	}
	return false
}

// beginUDP begins a round, with the candidate after the one that had the last turn.
func (c *choice) beginUDP(now time.Time) {
	c.onTLS, c.relay, c.began = false, "", now
	c.turnTo(now, c.udp, slices.Index(c.udp, c.use)+1)
}

func (c *choice) beginTLS(now time.Time, i int) {
	if i >= len(c.tls) {
		return
	}
	c.onTLS, c.relay, c.turned = true, c.tls[i], now
}

func (c *choice) turnTo(now time.Time, udp []target, i int) {
	c.use, c.turned = target{}, now
	if len(udp) > 0 {
		c.use = udp[i%len(udp)]
	}
}

// passed says that UDP packets to t were answered while TLS was in use: it is used from now on.
func (c *choice) passed(now time.Time, t target) {
	if c.up && c.onTLS {
		c.onTLS, c.relay, c.use, c.began, c.turned = false, "", t, now, now
	}
}

// failed says that no UDP packet was answered in a try.
func (c *choice) failed(now time.Time) {
	if c.up && c.onTLS {
		c.try = now.Add(tryEvery)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
