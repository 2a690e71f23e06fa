package endpoint

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/spillway-dev/spillway/tunnel/relay"
)

const (
	// linger is how long a relay goes on after UDP took over: WireGuard is told a little later, and what is under way
	// still arrives.
	linger = time.Second
	// openAgain is when the port of a relay is opened again that could not be.
	openAgain = time.Second
)

// running is a relay client at work.
type running struct {
	name   string
	client *relay.Client
	turned time.Time // the turn of the choice that it serves
	until  time.Time // zero: in use; else when it ends
}

// runner is what Run owns. Its methods are called with Chooser.mu held.
type runner struct {
	c      *Chooser
	wg     sync.WaitGroup
	relays map[*entry]*running
	next   time.Time // when to pass again; zero: when something is told
}

// by notes that there is something to do at a time; zero: there is not.
func (r *runner) by(t time.Time) {
	if !t.IsZero() && (r.next.IsZero() || t.Before(r.next)) {
		r.next = t
	}
}

// Run chooses until ctx ends and returns when all relays have ended.
func (c *Chooser) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	r := &runner{c: c, relays: map[*entry]*running{}}
	defer r.wg.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := c.pass(ctx, r)
		for _, key := range changed {
			if c.o.Changed != nil {
				c.o.Changed(key)
			}
		}
		var due <-chan time.Time
		if !r.next.IsZero() {
			timer.Reset(time.Until(r.next))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-due:
		}
	}
}

// pass does what is due for all paths and lists those whose way has changed.
func (c *Chooser) pass(ctx context.Context, r *runner) []Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	var changed []Key
	r.next = time.Time{}
	r.by(c.resolveLocked(ctx, r, now))
	for key, e := range c.entries {
		try := e.choice.step(now)
		way := r.way(ctx, now, e)
		if try {
			r.try(ctx, e)
		}
		r.by(e.choice.due())
		if way != e.way {
			c.o.Log.Info("way to a peer", zap.String("peer", key.Peer), zap.Int("slot", key.Slot), zap.String("transport", way.Transport),
				zap.String("endpoint", way.Name), zap.Stringer("address", way.Addr))
			e.way = way
			changed = append(changed, key)
		}
	}
	r.sweep(now)
	return changed
}

// way makes the way that is chosen, with its relay.
func (r *runner) way(ctx context.Context, now time.Time, e *entry) Way {
	choice := &e.choice
	run := r.relays[e]
	switch {
	case !choice.onTLS && choice.use.addr.IsValid():
		return Way{Addr: choice.use.addr, Transport: UDP, Name: choice.use.name}
	case !choice.onTLS:
		return Way{}
	case run != nil && run.name == choice.relay:
		if !choice.up && run.turned != choice.turned {
			run.client.Renew()
		}
		run.turned, run.until = choice.turned, time.Time{}
	default:
		if run = r.open(ctx, e); run == nil {
			r.by(now.Add(openAgain))
			return Way{}
		}
	}
	return Way{Addr: run.client.LocalAddr(), Transport: TLS, Name: run.name}
}

// open starts the relay that a path has chosen in place of its former one.
func (r *runner) open(ctx context.Context, e *entry) *running {
	if old := r.relays[e]; old != nil {
		_ = old.client.Close()
		delete(r.relays, e)
	}
	o := relay.Options{
		Server: e.choice.relay, Log: r.c.o.Log,
		WireGuard: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), r.c.o.Port+uint16(e.key.Slot)),
	}
	client, err := relay.Dial(o)
	if err != nil {
		r.c.o.Log.Warn("no relay", zap.String("peer", e.key.Peer), zap.Int("slot", e.key.Slot), zap.Error(err))
		return nil
	}
	run := &running{name: e.choice.relay, client: client, turned: e.choice.turned}
	r.relays[e] = run
	r.wg.Go(func() { _ = client.Run(ctx) }) // tries for ever
	return run
}

// try has the relay of a path find out whether UDP passes by now.
func (r *runner) try(ctx context.Context, e *entry) {
	run := r.relays[e]
	if run == nil {
		e.choice.failed(time.Now())
		return
	}
	targets := e.choice.udp
	var addrs []netip.AddrPort
	for _, t := range targets {
		addrs = append(addrs, t.addr)
	}
	r.wg.Go(func() {
		i, err := run.client.Try(ctx, addrs)
		r.c.mu.Lock()
		defer r.c.mu.Unlock()
		if err == nil {
			e.choice.passed(time.Now(), targets[i])
		} else {
			e.choice.failed(time.Now())
		}
		r.c.poke()
	})
}

// sweep ends the relays that no path uses any more.
func (r *runner) sweep(now time.Time) {
	for e, run := range r.relays {
		switch {
		case r.c.entries[e.key] != e, !run.until.IsZero() && !now.Before(run.until):
			_ = run.client.Close() // its Run ends
			delete(r.relays, e)
			continue
		case run.until.IsZero() && !e.choice.onTLS:
			run.until = now.Add(linger)
		}
		r.by(run.until)
	}
}
