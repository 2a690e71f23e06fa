package gateway

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"
)

const (
	startGrace   = 2 * time.Second        // for the other gateways to appear, before free slots are taken
	unknownGrace = 5 * time.Second        // for a holder that one has only heard of
	hearsayTime  = time.Second            // for a new holder to say so itself
	settleTime   = 5 * time.Second        // before a gateway takes what another holds
	unfitTime    = 5 * time.Second        // for others to take the slots of one that is no gateway any more
	retryTime    = 250 * time.Millisecond // after the fence has refused
	fenceAgain   = 5 * time.Second        // for a claim that was made without it
	dropBackoff  = 10 * time.Second       // before a slot that was taken away is taken again; doubles
	dropLongest  = 10 * time.Minute
)

// Holder is who fills a slot.
type Holder struct {
	// Node is its name; empty: nobody.
	Node string
	// Epoch of its claim. A later holder has a higher one.
	Epoch uint64
}

// over reports whether h wins against other. Equal epochs come from claims without the fence.
func (h Holder) over(other Holder) bool {
	return h.Epoch > other.Epoch || h.Epoch == other.Epoch && h.Node != "" && (other.Node == "" || h.Node < other.Node)
}

// member is another node of the pool.
type member struct {
	addr   netip.Addr
	port   uint16
	said   announcement
	since  time.Time
	misses int       // pings without answer, in a row
	spared time.Time // another member has reached it
	lost   bool      // neither we nor others reach it
}

// ownClaim is a claim of this node.
type ownClaim struct {
	epoch  uint64
	fenced bool
	again  time.Time // when to ask the fence again, if not fenced
}

// table is what this node knows of the pool, and what follows from it. Pure: the time is handed in. Not safe for
// concurrent use.
type table struct {
	self             string
	role             bool // gateway, while the cluster is not known
	session, version uint32
	start            time.Time
	leaving          bool
	unfit            time.Time // since when this node is no gateway though it holds slots

	known    bool // the next three are
	gateways []string
	nodes    []NodeAddr
	slots    int

	members map[string]*member
	met     map[string]bool  // was a member since the start
	last    [MaxSlots]Holder // the best claim ever heard of
	heard   [MaxSlots]time.Time
	own     map[int]ownClaim
	pending map[int]Holder    // takes under way → last at their beginning
	wait    map[int]time.Time // not to be taken before
	drops   map[int]int
}

func newTable(self string, role bool, session uint32, start time.Time) *table {
	return &table{
		self: self, role: role, session: session, start: start, members: map[string]*member{}, met: map[string]bool{},
		own: map[int]ownClaim{}, pending: map[int]Holder{}, wait: map[int]time.Time{}, drops: map[int]int{},
	}
}

// announce is what this node says of itself.
func (t *table) announce() announcement {
	a := announcement{session: t.session, version: t.version, gateway: t.isGateway(t.self), leaving: t.leaving, claims: map[int]uint64{}}
	for slot, c := range t.own {
		a.claims[slot] = c.epoch
	}
	return a
}

func (t *table) isGateway(name string) bool {
	if t.known {
		return slices.Contains(t.gateways, name)
	}
	if name == t.self {
		return t.role
	}
	m, ok := t.members[name]
	return ok && m.said.gateway
}

// join notes a new member, leave one that is gone.
func (t *table) join(name string, m member) { t.members[name], t.met[name] = &m, true }
func (t *table) leave(name string)          { delete(t.members, name) }

// hear takes what a member says of itself.
func (t *table) hear(name string, a announcement, now time.Time) {
	m, ok := t.members[name]
	if !ok || a.session == m.said.session && a.version < m.said.version {
		return
	}
	m.said = a
	for slot, epoch := range a.claims {
		t.observe(slot, Holder{Node: name, Epoch: epoch}, now)
	}
}

// observe takes a claim. It ends one of ours to the same slot at once if it wins over it.
func (t *table) observe(slot int, h Holder, now time.Time) {
	if slot < 0 || slot >= MaxSlots || !h.over(t.last[slot]) {
		return
	}
	t.last[slot], t.heard[slot] = h, now
	if h.Node != t.self {
		delete(t.own, slot)
	}
}

// holders returns who fills each slot: the last that is known to, even where it does not answer, until there is another;
// nobody if it says itself that it does not.
func (t *table) holders(now time.Time) []Holder {
	holders := make([]Holder, t.slots)
	for slot := range holders {
		h := t.last[slot]
		if !t.claims(h, slot) && (h.Node == t.self || now.Sub(t.heard[slot]) >= hearsayTime) {
			h.Node = ""
		}
		holders[slot] = h
	}
	return holders
}

// claims reports whether h does not say that it does not fill the slot.
func (t *table) claims(h Holder, slot int) bool {
	if h.Node == t.self {
		c, ok := t.own[slot]
		return ok && c.epoch == h.Epoch
	}
	m, ok := t.members[h.Node]
	if !ok || m.said.session == 0 {
		return h.Node != ""
	}
	return m.said.claims[slot] == h.Epoch
}

// candidates are the gateways that are there.
func (t *table) candidates(now time.Time) []candidate {
	var present []candidate
	if t.isGateway(t.self) && !t.leaving {
		present = append(present, candidate{t.self, now.Sub(t.start) >= settleTime})
	}
	for name, m := range t.members {
		if t.isGateway(name) && !m.said.leaving && !m.lost {
			present = append(present, candidate{name, now.Sub(m.since) >= settleTime})
		}
	}
	return present
}

// due returns the slots that this node shall take now, and notes that it is about to.
func (t *table) due(now time.Time) []int {
	t.giveUp(now)
	if t.leaving || !t.isGateway(t.self) {
		return nil
	}
	var slots []int
	for slot, to := range assign(t.free(now)) {
		_, busy := t.pending[slot]
		if to == t.self && !busy && !now.Before(t.wait[slot]) {
			slots = append(slots, slot)
		}
	}
	for slot, c := range t.own {
		if _, busy := t.pending[slot]; !busy && !c.fenced && !now.Before(c.again) {
			slots = append(slots, slot)
		}
	}
	slices.Sort(slots)
	for _, slot := range slots {
		t.pending[slot] = t.last[slot]
	}
	return slots
}

// free returns the candidates, and who of them holds which slot.
func (t *table) free(now time.Time) ([]candidate, []string) {
	present := t.candidates(now)
	names := make([]string, len(present))
	for n, c := range present {
		names[n] = c.name
	}
	waiting := now.Sub(t.start) < startGrace && slices.ContainsFunc(t.gateways, func(g string) bool { return g != t.self && !t.met[g] })
	const somebody = "\x00" // no name of a node
	holders := make([]string, t.slots)
	for slot, h := range t.holders(now) {
		holders[slot] = h.Node
		switch {
		case slices.Contains(names, h.Node):
		case waiting || t.mayAppear(h, slot, now):
			holders[slot] = somebody
		default:
			holders[slot] = ""
		}
	}
	return present, holders
}

// mayAppear reports whether a holder that was no member so far may be one soon: somebody has told of it just now.
func (t *table) mayAppear(h Holder, slot int, now time.Time) bool {
	if h.Node == "" || h.Node == t.self || t.met[h.Node] {
		return false
	}
	return t.isGateway(h.Node) && now.Sub(t.start) < unknownGrace && now.Sub(t.heard[slot]) < unknownGrace
}

// giveUp lets go of slots that are no more, and of all when this node has not been a gateway for a while.
func (t *table) giveUp(now time.Time) {
	if t.isGateway(t.self) || len(t.own) == 0 {
		t.unfit = time.Time{}
	} else if t.unfit.IsZero() {
		t.unfit = now
	}
	for slot := range t.own {
		if t.known && slot >= t.slots || !t.unfit.IsZero() && now.Sub(t.unfit) >= unfitTime {
			delete(t.own, slot)
		}
	}
}

// taken notes what the fence said to the take of a slot, and reports whether this node holds the slot by it.
func (t *table) taken(slot int, epoch uint64, err error, now time.Time) bool {
	before := t.pending[slot]
	delete(t.pending, slot)
	mine, held := t.own[slot]
	other := t.last[slot] // if it has changed meanwhile: somebody else was faster
	raced := !held && other != before
	switch {
	case t.leaving && !held:
		return false
	case err == nil && raced && epoch <= other.Epoch:
		return false
	case err == nil:
		if held {
			epoch = max(epoch, mine.epoch)
		} else {
			epoch = max(epoch, other.Epoch+1)
		}
		t.claim(slot, ownClaim{epoch: epoch, fenced: true}, now)
		return true
	case !errors.Is(err, ErrUnreachable) && !errors.Is(err, context.DeadlineExceeded):
		t.wait[slot] = now.Add(retryTime)
	case held:
	case !raced && majority(len(t.candidates(now)), len(t.gateways)):
		t.claim(slot, ownClaim{epoch: other.Epoch + 1, again: now.Add(fenceAgain)}, now)
		return true
	default:
		t.wait[slot] = now.Add(2 * retryTime)
	}
	if held {
		mine.again = now.Add(fenceAgain)
		t.own[slot] = mine
	}
	return false
}

func (t *table) claim(slot int, c ownClaim, now time.Time) {
	t.own[slot] = c
	t.last[slot], t.heard[slot] = Holder{Node: t.self, Epoch: c.epoch}, now
}

// drop lets go of a slot that was taken away, and does not take it back soon.
func (t *table) drop(slot int, now time.Time) {
	if _, ok := t.own[slot]; !ok {
		return
	}
	delete(t.own, slot)
	t.wait[slot] = now.Add(min(dropBackoff<<min(t.drops[slot], 10), dropLongest))
	t.drops[slot]++
}
