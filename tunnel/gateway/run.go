package gateway

import (
	"context"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

const (
	tickEvery   = 200 * time.Millisecond
	joinEvery   = 2 * time.Second
	joinAtOnce  = 4 // nodes
	fenceTime   = 500 * time.Millisecond
	handTime    = 120 * time.Millisecond // for others to take the slots of one that leaves
	leaveTime   = 80 * time.Millisecond
	publishTime = 100 * time.Millisecond
)

// run is a running Pool.
type run struct {
	*Pool
	list   *memberlist.Memberlist
	group  sync.WaitGroup
	gossip chan struct{} // as publish, after all have been told
}

// loop does what follows from the table until ctx ends and the slots are given away.
func (r *run) loop(ctx, inner context.Context) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	done := ctx.Done()
	var end <-chan time.Time
	var before picture
	for {
		select {
		case <-done:
			done, end = nil, time.After(handTime)
			r.change(func(t *table, _ time.Time) { t.leaving = true })
			continue
		case <-end:
			return
		case <-r.wake:
		case <-ticker.C:
		}
		before = r.step(inner, before)
		if done == nil && r.empty() {
			return
		}
	}
}

// picture is what others are told of.
type picture struct {
	said    announcement
	holders []Holder
	members []string
}

// step takes what is due, and tells of what has changed since before.
func (r *run) step(ctx context.Context, before picture) picture {
	r.mu.Lock()
	now := time.Now()
	for _, slot := range r.table.due(now) {
		r.group.Go(func() { r.take(ctx, slot) })
	}
	after := picture{said: r.table.announce(), holders: r.table.holders(now), members: slices.Sorted(maps.Keys(r.table.members))}
	said := before.said.leaving != after.said.leaving || before.said.gateway != after.said.gateway || !maps.Equal(before.said.claims, after.said.claims)
	if said {
		r.table.version++
	}
	r.mu.Unlock()
	if said {
		signal(r.publish)
	}
	if !slices.Equal(before.holders, after.holders) || !slices.Equal(before.members, after.members) {
		if r.config.Changed != nil {
			r.config.Changed()
		}
	}
	return after
}

// empty reports whether this node has no slot left that somebody else could take.
func (r *run) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.table.own) == 0 || len(r.table.candidates(time.Now())) == 0
}

// take asks the fence for a slot.
func (r *run) take(ctx context.Context, slot int) {
	epoch, err := uint64(0), ErrUnreachable
	if r.config.Fence != nil {
		ctx, stop := context.WithTimeout(ctx, fenceTime)
		epoch, err = r.config.Fence.Take(ctx, slot, r.config.Node)
		stop()
	}
	r.mu.Lock()
	_, held := r.table.own[slot]
	ok := r.table.taken(slot, epoch, err, time.Now())
	mine := r.table.own[slot]
	r.mu.Unlock()
	signal(r.wake)
	switch {
	case ok && !held:
		r.log.Info("took gateway slot", zap.Int("slot", slot), zap.Uint64("epoch", mine.epoch), zap.Bool("fenced", mine.fenced))
	case err != nil && r.config.Fence != nil:
		r.log.Debug("ask fence for gateway slot", zap.Int("slot", slot), zap.Error(err))
	}
}

// tell tells each member what this node says of itself, so that none waits for gossip.
func (r *run) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.publish:
		}
		r.mu.Lock()
		n := note{kind: noteClaims, from: r.config.Node, announcement: r.table.announce().encode()}
		names := slices.Collect(maps.Keys(r.table.members))
		r.mu.Unlock()
		for _, name := range names {
			r.send(name, n)
		}
		signal(r.gossip)
	}
}

// spread gossips what this node says of itself, for those that have missed it and those to come.
func (r *run) spread(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.gossip:
		}
		if err := r.list.UpdateNode(publishTime); err != nil {
			r.log.Debug("gossip", zap.Error(err))
		}
	}
}

// send sends a note to a member.
func (r *run) send(name string, n note) {
	to, ok := r.node(name)
	if !ok {
		return
	}
	if err := r.list.SendBestEffort(&to, n.encode()); err != nil {
		r.log.Debug("send to gateway pool", zap.String("node", name), zap.Error(err))
	}
}

// node returns a member as memberlist wants it.
func (r *run) node(name string) (memberlist.Node, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.table.members[name]
	if !ok {
		return memberlist.Node{}, false
	}
	return memberlist.Node{Name: name, Addr: m.addr.AsSlice(), Port: m.port}, true
}

// joinOthers joins nodes that are no members, again and again: memberlist itself does not, after a partition.
func (r *run) joinOthers(ctx context.Context) {
	ticker := time.NewTicker(joinEvery)
	defer ticker.Stop()
	for {
		if missing := r.missing(); len(missing) > 0 {
			if n, err := r.list.Join(missing); err != nil {
				r.log.Debug("join gateway pool", zap.Strings("addresses", missing), zap.Int("joined", n), zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-r.join:
		}
	}
}

// missing returns some addresses of nodes that are no members, gateways first.
func (r *run) missing() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var gateways, others []string
	for _, n := range r.table.nodes {
		if _, ok := r.table.members[n.Name]; ok || n.Name == r.config.Node || !n.Addr.IsValid() {
			continue
		}
		addr := netip.AddrPortFrom(n.Addr, r.config.Port).String()
		if r.table.isGateway(n.Name) {
			gateways = append(gateways, addr)
		} else {
			others = append(others, addr)
		}
	}
	for _, addresses := range [][]string{gateways, others} {
		rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	}
	all := append(gateways, others...)
	return all[:min(len(all), joinAtOnce)]
}

// watch pings the holders of slots, so that their end is noticed in half a second however large the pool is.
func (r *run) watch(ctx context.Context) {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	var group sync.WaitGroup
	defer group.Wait()
	var mu sync.Mutex
	busy := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		names := r.table.watched()
		r.mu.Unlock()
		for _, name := range names {
			mu.Lock()
			skip := busy[name]
			busy[name] = true
			mu.Unlock()
			if skip {
				continue
			}
			group.Go(func() {
				r.ping(name)
				mu.Lock()
				defer mu.Unlock()
				delete(busy, name)
			})
		}
	}
}

// ping pings a member and draws the conclusions.
func (r *run) ping(name string) {
	answered, counts := r.reach(name)
	if !counts {
		return
	}
	r.mu.Lock()
	ask := r.table.pinged(name, answered, time.Now())
	var others []string
	if ask {
		others = r.table.neighbours(name, asked)
	}
	lost := false
	if m, ok := r.table.members[name]; ok {
		lost = m.lost
	}
	r.mu.Unlock()
	for _, other := range others {
		r.send(other, note{kind: noteAsk, from: r.config.Node, about: name})
	}
	if lost {
		signal(r.wake)
	}
}

// vouch tells those who ask whether this node reaches another.
func (r *run) vouch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-r.asks:
			if answered, _ := r.reach(n.about); answered {
				r.send(n.from, note{kind: noteAlive, from: r.config.Node, about: n.about})
			}
		}
	}
}

// reach reports whether a member answers a ping, and whether that counts: not if this process did not run meanwhile.
func (r *run) reach(name string) (answered, counts bool) {
	n, ok := r.node(name)
	if !ok {
		return false, false
	}
	begin := time.Now()
	_, err := r.list.Ping(name, &net.UDPAddr{IP: n.Addr, Port: int(n.Port)})
	return err == nil, err == nil || time.Since(begin) < latePing
}
