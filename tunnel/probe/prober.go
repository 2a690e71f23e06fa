package probe

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/spillway-dev/spillway/tunnel"
)

// Options of a Prober.
type Options struct {
	Log *zap.Logger
	// Changed is called after Up, LargeLost, Undecided or MTU of a target have changed; not concurrently with itself. It may
	// call the Prober. The figures change without a call.
	Changed func(Key)
	// Port is the UDP port of all sides; 0: tunnel.ProbePort.
	Port uint16

	remotePort uint16                               // for tests: not Port
	links      func(tick func(packet)) []packetLink // for tests: instead of sockets
}

// machine is an initiator or a responder.
type machine interface {
	setTarget(now time.Duration, t Target)
	next() time.Duration
	tick(now time.Duration, out []message) []message
	receive(now time.Duration, m message, out []message) []message
	tooBig(now time.Duration, m message)
	slept()
	state() State
}

// Prober probes targets. Safe for concurrent use.
type Prober struct {
	log     *zap.Logger
	options Options
	wake    chan struct{} // the queue has a new head
	notify  chan struct{} // changed is not empty

	mu      sync.Mutex // guards all below, and machines
	clock   clock
	entries map[Key]*entry
	pairs   map[pair]*entry
	queue   queue
	sources []netip.Prefix // answered though no target
	others  bucket
	changed []Key
	links   [2]packetLink // IPv4, IPv6
	scratch []message
}

type pair struct{ local, remote netip.Addr }

// New returns a Prober without targets.
func New(o Options) *Prober {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Port == 0 {
		o.Port = tunnel.ProbePort
	}
	if o.remotePort == 0 {
		o.remotePort = o.Port
	}
	return &Prober{
		log: o.Log, options: o, wake: make(chan struct{}, 1), notify: make(chan struct{}, 1),
		clock: clock{last: time.Now()}, entries: map[Key]*entry{}, pairs: map[pair]*entry{},
	}
}

// Set hands over all targets, as often as the caller likes. What is known of a target stays while its addresses and
// Initiate do. Of two targets between the same addresses the first counts.
func (p *Prober) Set(targets []Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.advance()
	wanted := map[Key]bool{}
	for _, t := range targets {
		t.Local, t.Remote, t.MaxMTU = t.Local.Unmap(), t.Remote.Unmap(), min(t.MaxMTU, maxPacket)
		if t.Local.Is4() != t.Remote.Is4() || !t.Local.IsValid() || !t.Remote.IsValid() || wanted[t.Key] {
			continue
		}
		wanted[t.Key] = true
		e := p.entries[t.Key]
		if e != nil && e.target.Local == t.Local && e.target.Remote == t.Remote && e.target.Initiate == t.Initiate {
			if e.target != t {
				e.target = t
				e.machine.setTarget(now, t)
				p.settle(e)
			}
			continue
		}
		p.remove(e)
		p.add(now, t)
	}
	for key, e := range p.entries {
		if !wanted[key] {
			p.remove(e)
		}
	}
	p.poke()
}

// Answer says whose questions are answered though they come from no target: those of the nodes of peers, to nodes of
// ours. Questions from elsewhere are dropped.
func (p *Prober) Answer(sources []netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sources = slices.Clone(sources)
}

// State of a target; false if there is none of that key.
func (p *Prober) State(k Key) (State, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[k]
	if !ok {
		return State{}, false
	}
	return e.report(), true
}

// States of all targets.
func (p *Prober) States() map[Key]State {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make(map[Key]State, len(p.entries))
	for key, e := range p.entries {
		states[key] = e.report()
	}
	return states
}

// Run probes until ctx ends. It returns an error when no socket can be opened.
func (p *Prober) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	if err := p.open(ctx, &group); err != nil {
		return err
	}
	defer p.close()
	group.Go(func() { p.tell(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-p.wake:
		}
		timer.Reset(p.due())
	}
}

// open opens the sockets and begins to read them.
func (p *Prober) open(ctx context.Context, group *sync.WaitGroup) error {
	var opened []packetLink
	if p.options.links != nil {
		opened = p.options.links(p.take1)
	} else {
		four, err4 := openSocket(false, p.options.Port)
		six, err6 := openSocket(true, p.options.Port)
		if err4 != nil && err6 != nil {
			return fmt.Errorf("open probe sockets: %w", errors.Join(err4, err6))
		}
		for _, err := range []error{err4, err6} {
			if err != nil {
				p.log.Warn("probes of one address family are not possible", zap.Error(err))
			}
		}
		for _, s := range []*udpSocket{four, six} {
			if s == nil {
				opened = append(opened, nil)
				continue
			}
			opened = append(opened, s)
			group.Go(func() { s.read(ctx, p.take) })
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	copy(p.links[:], opened)
	p.clock = clock{awake: p.clock.awake, last: time.Now(), due: p.clock.due}
	return nil
}

func (p *Prober) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, l := range p.links {
		if l != nil {
			l.close()
		}
		p.links[n] = nil
	}
}

// due does everything that is due and returns how long to wait for the next.
func (p *Prober) due() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.advance()
	var out [2][]packet
	for len(p.queue) > 0 && p.queue[0].at <= now {
		e := p.queue[0]
		p.scratch = e.machine.tick(now, p.scratch[:0])
		out[e.family()] = e.address(p.scratch, out[e.family()])
		p.settle(e)
		if e.at <= now { // a machine that is always due must not keep the others from theirs
			e.at = now + time.Millisecond
			heap.Fix(&p.queue, e.index)
		}
	}
	p.send(now, out)
	p.clock.due = now + time.Hour
	if len(p.queue) > 0 {
		p.clock.due = p.queue[0].at
	}
	return max(p.clock.due-now, 0)
}

// take1 takes one packet.
func (p *Prober) take1(received packet) { p.take([]packet{received}) }

// take takes packets that came in.
func (p *Prober) take(received []packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.advance()
	var out [2][]packet
	for _, r := range received {
		e, ok := p.pairs[pair{r.local, r.remote.Addr()}]
		if !ok {
			if a, ok := p.answerOther(now, r); ok {
				out[family(r.local)] = append(out[family(r.local)], a)
			}
			continue
		}
		p.scratch = e.machine.receive(now, r.message, p.scratch[:0])
		for _, m := range p.scratch { // answers go to where the question came from
			out[e.family()] = append(out[e.family()], packet{local: r.local, remote: r.remote, message: m})
		}
		p.scratch = p.scratch[:0]
		if e.machine.next() <= now {
			p.scratch = e.machine.tick(now, p.scratch)
		}
		out[e.family()] = e.address(p.scratch, out[e.family()])
		p.settle(e)
	}
	p.send(now, out)
	p.poke()
}

// answerOther answers a question of somebody who is no target.
func (p *Prober) answerOther(now time.Duration, r packet) (packet, bool) {
	if r.message.kind != question || !slices.ContainsFunc(p.sources, func(s netip.Prefix) bool { return s.Contains(r.remote.Addr()) }) ||
		!p.others.take(now, answersToOthers) {
		return packet{}, false
	}
	return packet{local: r.local, remote: r.remote, message: answerTo(r.message)}, true
}

// send sends packets, and lets machines know of questions that are larger than the device takes.
func (p *Prober) send(now time.Duration, out [2][]packet) {
	for n, packets := range out {
		if len(packets) == 0 || p.links[n] == nil {
			continue
		}
		for _, refused := range p.links[n].write(packets) {
			if e, ok := p.pairs[pair{refused.local, refused.remote.Addr()}]; ok && refused.message.kind == question {
				e.machine.tooBig(now, refused.message)
				p.settle(e)
			}
		}
	}
}

// advance returns the time, and lets machines know of a sleep.
func (p *Prober) advance() time.Duration {
	now, slept := p.clock.advance(time.Now())
	if slept {
		for _, e := range p.entries {
			e.machine.slept()
		}
	}
	return now
}

// poke makes Run look at the queue again if its head is earlier than what it waits for.
func (p *Prober) poke() {
	if len(p.queue) > 0 && p.queue[0].at < p.clock.due {
		signal(p.wake)
	}
}

func (p *Prober) add(now time.Duration, t Target) {
	if p.pairs[pair{t.Local, t.Remote}] != nil {
		p.log.Warn("two targets between the same addresses", zap.String("peer", t.Peer), zap.Int("slot", t.Slot), zap.Stringer("remote", t.Remote))
		return
	}
	e := &entry{target: t, to: netip.AddrPortFrom(t.Remote, p.options.remotePort), since: time.Now()}
	nonce := rand.Uint64() | 1 // ChaCha8, seeded by the system; never 0
	if t.Initiate {
		e.machine = newInitiator(t, nonce, now)
	} else {
		e.machine = newResponder(t, nonce, now)
	}
	e.last = e.machine.state()
	e.at = e.machine.next()
	p.entries[t.Key], p.pairs[pair{t.Local, t.Remote}] = e, e
	heap.Push(&p.queue, e)
}

func (p *Prober) remove(e *entry) {
	if e == nil {
		return
	}
	delete(p.entries, e.target.Key)
	delete(p.pairs, pair{e.target.Local, e.target.Remote})
	heap.Remove(&p.queue, e.index)
}

// settle puts e to its new place in the queue and notes whether its state has changed.
func (p *Prober) settle(e *entry) {
	if at := e.machine.next(); at != e.at {
		e.at = at
		heap.Fix(&p.queue, e.index)
	}
	s := e.machine.state()
	if s.Up != e.last.Up {
		e.since = time.Now()
	}
	if s.Up != e.last.Up || s.LargeLost != e.last.LargeLost || s.Undecided != e.last.Undecided || s.MTU != e.last.MTU {
		p.changed = append(p.changed, e.target.Key)
		signal(p.notify)
	}
	e.last = s
}

// tell calls Changed.
func (p *Prober) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.notify:
		}
		p.mu.Lock()
		changed := p.changed
		p.changed = nil
		p.mu.Unlock()
		for n, key := range changed {
			if p.options.Changed != nil && !slices.Contains(changed[:n], key) {
				p.options.Changed(key)
			}
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
