package endpoint

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Key names a path: a peer and a gateway slot.
type Key struct {
	Peer string
	Slot int
}

// Candidates are where the peer says that the holder of the slot may be reached, as HOST:PORT in order of preference.
// None at all: the peer begins.
type Candidates struct{ UDP, TLS []string }

// The transports of a Way.
const (
	UDP = "UDP"
	TLS = "TLS"
)

// Way is what a path uses.
type Way struct {
	// Addr is WireGuard's endpoint: the peer's, or over TLS a port of this process on loopback. Not valid: none is known.
	Addr netip.AddrPort
	// Transport is UDP, TLS, or empty.
	Transport string
	// Name is the candidate in use, HOST:PORT as announced.
	Name string
}

// Options of a Chooser.
type Options struct {
	Log *zap.Logger
	// Port is the UDP port of WireGuard for slot 0 on this node; slot k has Port+k. Nobody else is heard by a relay.
	Port uint16
	// Changed is called after Current of a key has changed, not concurrently with itself. It may call the Chooser.
	Changed func(Key)
}

// Chooser chooses ways. Safe for concurrent use; no call blocks but Run.
type Chooser struct {
	o    Options
	wake chan struct{}

	mu      sync.Mutex
	entries map[Key]*entry     // guarded by mu, with what they point to
	hosts   map[string]*lookup // guarded by mu; by HOST
}

// entry is one path.
type entry struct {
	key    Key
	wanted Candidates
	choice choice
	way    Way
}

// New returns a Chooser without paths.
func New(o Options) *Chooser {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Chooser{o: o, wake: make(chan struct{}, 1), entries: map[Key]*entry{}, hosts: map[string]*lookup{}}
}

// Set hands over all paths there are to be, as often as the caller likes. A path that stays keeps what is known of it,
// and while it is up what it uses. A candidate that is not HOST:PORT is passed over.
func (c *Chooser) Set(all map[Key]Candidates) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	changed := false
	for key, wanted := range all {
		e := c.entries[key]
		if e != nil && slices.Equal(e.wanted.UDP, wanted.UDP) && slices.Equal(e.wanted.TLS, wanted.TLS) {
			continue
		}
		if e == nil {
			e = &entry{key: key}
			c.entries[key] = e
		}
		e.wanted = Candidates{UDP: slices.Clone(wanted.UDP), TLS: slices.Clone(wanted.TLS)}
		c.feedLocked(now, e)
		changed = true
	}
	for key := range c.entries {
		if _, ok := all[key]; !ok {
			delete(c.entries, key)
			changed = true
		}
	}
	if changed {
		c.poke()
	}
}

// feedLocked hands an entry's choice what there is to choose from now.
func (c *Chooser) feedLocked(now time.Time, e *entry) {
	udp, waiting := c.targetsLocked(e.wanted.UDP)
	var tls []string
	for _, name := range e.wanted.TLS {
		if _, _, ok := split(name); ok && !slices.Contains(tls, name) {
			tls = append(tls, name)
		}
	}
	e.choice.set(now, udp, tls, waiting)
}

// Report tells whether packets pass on a path now. Call it often: what is unchanged costs nothing. A path that Set does
// not know is none of this Chooser's.
func (c *Chooser) Report(key Key, up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil && e.choice.up != up {
		e.choice.report(time.Now(), up)
		c.poke()
	}
}

// Current is what a path is to use now; the zero Way when nothing is known: then the peer begins.
func (c *Chooser) Current(key Key) Way {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		return e.way
	}
	return Way{}
}

// poke has Run look at everything.
func (c *Chooser) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
