package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// ErrUnreachable says that a Fence cannot be asked.
var ErrUnreachable = errors.New("fence out of reach")

// Fence decides who takes a slot when gateways do not hear each other.
type Fence interface {
	// Take makes node the holder of the slot, whoever was it before, and returns an epoch higher than all it has returned
	// for the slot. An error that is ErrUnreachable says that nobody was asked; any other that somebody else was faster,
	// and it will be tried again. Called for one slot at a time, for several at once; also for a slot that node holds.
	Take(ctx context.Context, slot int, node string) (epoch uint64, err error)
}

// NodeAddr is where a node of the cluster can be joined.
type NodeAddr struct {
	Name string
	Addr netip.Addr
}

// Config of a Pool.
type Config struct {
	// Node is the name of this node, Addr and Port where its members are reached, UDP and TCP. All nodes use the same port.
	Node string
	Addr netip.Addr
	Port uint16
	// Key of 16, 24 or 32 bytes, the same for all nodes.
	Key []byte
	// Gateway says whether this node is one, until SetCluster is called.
	Gateway bool
	// Fence; nil: always out of reach.
	Fence Fence
	// Known are the holders of an earlier run, by slot; they are believed until others are heard of.
	Known []Holder
	// Changed is called after Holders or Members have changed; not concurrently with itself. It may call the Pool.
	Changed func()
	Log     *zap.Logger

	transport memberlist.Transport // for tests
}

// Member is a node of the pool.
type Member struct {
	Name    string
	Addr    netip.Addr
	Gateway bool
	// Slots that it claims.
	Slots []int
}

// Pool is this node's part in the pool. Safe for concurrent use.
type Pool struct {
	config  Config
	log     *zap.Logger
	seldom  *zap.Logger   // for what comes again and again: once a minute
	wake    chan struct{} // the table has changed
	publish chan struct{} // what this node says of itself has changed
	join    chan struct{} // there may be somebody to join
	asks    chan note     // whether this node reaches another

	mu    sync.Mutex // guards table; never held while memberlist is called, which calls back under a lock of its own
	table *table
}

// New returns a Pool that does nothing until Run.
func New(c Config) *Pool {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	p := &Pool{
		config: c, log: c.Log,
		seldom: c.Log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(core, time.Minute, 1, 0)
		})),
		wake: make(chan struct{}, 1), publish: make(chan struct{}, 1), join: make(chan struct{}, 1), asks: make(chan note, 16),
		table: newTable(c.Node, c.Gateway, rand.Uint32()|1, time.Now()),
	}
	for slot, h := range c.Known {
		p.table.observe(slot, h, time.Now())
	}
	p.table.slots = min(len(c.Known), MaxSlots)
	return p
}

// SetCluster hands over which nodes are gateways, where all nodes are, and how many slots there are. As often as the
// caller likes.
func (p *Pool) SetCluster(gateways []string, nodes []NodeAddr, slots int) {
	p.mu.Lock()
	t := p.table
	t.known, t.gateways, t.nodes, t.slots = true, slices.Clone(gateways), slices.Clone(nodes), min(max(slots, 0), MaxSlots)
	p.mu.Unlock()
	signal(p.join)
	signal(p.wake)
}

// Holders returns who fills each slot. A holder that does not answer is named until there is another.
func (p *Pool) Holders() []Holder {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.table.holders(time.Now())
}

// Members returns all that are reached, this node first.
func (p *Pool) Members() []Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	members := []Member{p.table.member(p.config.Node, p.config.Addr, p.table.announce())}
	for name, m := range p.table.members {
		members = append(members, p.table.member(name, m.addr, m.said))
	}
	slices.SortFunc(members[1:], func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return members
}

func (t *table) member(name string, addr netip.Addr, said announcement) Member {
	m := Member{Name: name, Addr: addr, Gateway: t.isGateway(name)}
	for slot := range MaxSlots {
		if _, ok := said.claims[slot]; ok {
			m.Slots = append(m.Slots, slot)
		}
	}
	return m
}

// Drop lets go of a slot of this node: the fence says that it is another's. It is not taken again for a while.
func (p *Pool) Drop(slot int) {
	p.change(func(t *table, now time.Time) { t.drop(slot, now) })
}

// Observe hands over a holder that was learned elsewhere, for example from the fence; it counts if its epoch is higher
// than those known. It makes a node that is cut off from the pool follow.
func (p *Pool) Observe(slot int, h Holder) {
	p.change(func(t *table, now time.Time) { t.observe(slot, h, now) })
}

// change changes the table and makes Run look at it.
func (p *Pool) change(f func(t *table, now time.Time)) {
	p.mu.Lock()
	f(p.table, time.Now())
	p.mu.Unlock()
	signal(p.wake)
}

// Run takes part in the pool until ctx ends; then it gives its slots to others, which takes 0.2 s at most, and leaves. An
// error says that the pool cannot be entered.
func (p *Pool) Run(ctx context.Context) error {
	list, err := memberlist.Create(p.settings())
	if err != nil {
		return fmt.Errorf("open gateway pool on %s port %d: %w", p.config.Addr, p.config.Port, err)
	}
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &run{Pool: p, list: list, gossip: make(chan struct{}, 1)}
	r.group.Go(func() { r.joinOthers(inner) })
	r.group.Go(func() { r.watch(inner) })
	r.group.Go(func() { r.tell(inner) })
	r.group.Go(func() { r.spread(inner) })
	r.group.Go(func() { r.vouch(inner) })
	r.loop(ctx, inner)
	leave := list.Leave(leaveTime)
	stop()
	r.group.Wait()
	if err := errors.Join(leave, list.Shutdown()); err != nil {
		p.log.Debug("leave gateway pool", zap.Error(err))
	}
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
