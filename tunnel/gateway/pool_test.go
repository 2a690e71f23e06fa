package gateway

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

// fence is a Fence in memory.
type fence struct {
	mu    sync.Mutex
	away  bool
	epoch [MaxSlots]uint64
	node  [MaxSlots]string
}

func (f *fence) Take(_ context.Context, slot int, node string) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return 0, fmt.Errorf("take slot %d: %w", slot, ErrUnreachable)
	}
	f.epoch[slot]++
	f.node[slot] = node
	return f.epoch[slot], nil
}

// network is a cluster whose nodes are cut off from each other at will.
type network struct {
	t       *testing.T
	fence   *fence
	port    uint16
	names   []string
	changed chan struct{}

	mu    sync.Mutex
	side  map[string]int // by address; those of different sides do not hear each other, below 0 nobody
	pools map[string]*Pool
	stops map[string]func()
}

// gate is the transport of one node.
type gate struct {
	*memberlist.NetTransport
	net  *network
	self string
}

func (g gate) shut(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	a, b := g.net.side[g.self], g.net.side[host]
	return a != b || a < 0
}

func (g gate) WriteTo(b []byte, address string) (time.Time, error) {
	if g.shut(address) {
		return time.Now(), nil
	}
	return g.NetTransport.WriteTo(b, address)
}

func (g gate) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return g.WriteTo(b, a.Addr)
}

func (g gate) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	if g.shut(address) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
	}
	return g.NetTransport.DialTimeout(address, timeout)
}

func (g gate) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return g.DialTimeout(a.Addr, timeout)
}

func newNetwork(t *testing.T, names ...string) *network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	n := &network{t: t, fence: &fence{}, port: uint16(l.Addr().(*net.TCPAddr).Port), names: names, changed: make(chan struct{}, 1),
		side: map[string]int{}, pools: map[string]*Pool{}, stops: map[string]func(){}}
	t.Cleanup(func() {
		var group sync.WaitGroup
		for _, stop := range n.stops {
			group.Go(stop)
		}
		group.Wait()
	})
	return n
}

func (n *network) addr(name string) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 0, 77, byte(1 + slices.Index(n.names, name))})
}

// start starts a node; those whose name begins with g are gateways.
func (n *network) start(name string, slots int, key []byte) *Pool {
	n.t.Helper()
	transport, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{n.addr(name).String()}, BindPort: int(n.port), Logger: zap.NewStdLog(zap.NewNop()),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	p := New(Config{
		Node: name, Addr: n.addr(name), Port: n.port, Key: key, Fence: n.fence, Log: zaptest.NewLogger(n.t, zaptest.Level(zap.InfoLevel)).Named(name),
		Changed: func() { signal(n.changed) }, transport: gate{transport, n, n.addr(name).String()},
	})
	var gateways []string
	var nodes []NodeAddr
	for _, other := range n.names {
		if other[0] == 'g' {
			gateways = append(gateways, other)
		}
		nodes = append(nodes, NodeAddr{other, n.addr(other)})
	}
	p.SetCluster(gateways, nodes, slots)
	ctx, stop := context.WithCancel(n.t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	n.pools[name] = p
	n.stops[name] = sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			n.t.Error(err)
		}
	})
	return p
}

func (n *network) cut(side int, names ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		n.side[n.addr(name).String()] = side
	}
}

// await waits until all the pools named see what is wanted, and returns how long it took.
func (n *network) await(what string, names []string, seen func(name string, p *Pool) bool) time.Duration {
	n.t.Helper()
	begin := time.Now()
	late := time.After(15 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if !slices.ContainsFunc(names, func(name string) bool { return !seen(name, n.pools[name]) }) {
			return time.Since(begin)
		}
		select {
		case <-n.changed:
		case <-tick.C:
		case <-late:
			for _, name := range names {
				n.t.Logf("%s: members %+v, holders %+v", name, n.pools[name].Members(), n.pools[name].Holders())
			}
			n.t.Fatalf("not seen: %s", what)
		}
	}
}

// held reports whether every slot has a holder that satisfies ok.
func held(p *Pool, ok func(slot int, h Holder) bool) bool {
	holders := p.Holders()
	for slot, h := range holders {
		if h.Node == "" || !ok(slot, h) {
			return false
		}
	}
	return len(holders) > 0
}

func anybody(int, Holder) bool { return true }

func TestPool_KilledHolderIsReplaced(t *testing.T) {
	for _, names := range [][]string{{"g1", "g2", "n1"}, {"g1", "g2"}, {"g1", "g2", "g3", "n1", "n2", "n3"}} {
		t.Run(fmt.Sprint(len(names), " nodes"), func(t *testing.T) {
			n := newNetwork(t, names...)
			for _, name := range names {
				n.start(name, 1, make([]byte, 32))
			}
			t.Log("all members and held after", n.await("a holder", names, func(_ string, p *Pool) bool {
				return len(p.Members()) == len(names) && held(p, anybody)
			}))
			old := n.pools[names[0]].Holders()[0]
			alive := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == old.Node })
			n.cut(-1, old.Node)
			t.Log("another holder known to all after", n.await("another holder", alive, func(_ string, p *Pool) bool {
				return held(p, func(_ int, h Holder) bool { return h.Node != old.Node && h.Epoch > old.Epoch })
			}))
			n.cut(0, old.Node)
			t.Log("the old one follows after", n.await("following", names, func(_ string, p *Pool) bool {
				return len(p.Members()) == len(names) && p.Holders()[0] == n.pools[alive[0]].Holders()[0]
			}))
		})
	}
}

func TestPool_SlotsAreSpreadAndMoveBack(t *testing.T) {
	names := []string{"g1", "g2", "n1"}
	n := newNetwork(t, names...)
	for _, name := range names {
		n.start(name, 2, make([]byte, 32))
	}
	spread := func(_ string, p *Pool) bool {
		return held(p, anybody) && p.Holders()[0].Node != p.Holders()[1].Node
	}
	n.await("both slots held", names, spread)
	n.stops["g2"]()
	rest := []string{"g1", "n1"}
	n.await("one gateway holds both", rest, func(_ string, p *Pool) bool {
		return held(p, func(_ int, h Holder) bool { return h.Node == "g1" })
	})
	kept := n.pools["n1"].Holders()[0]
	n.start("g2", 2, make([]byte, 32))
	t.Log("spread again after", n.await("spread again", names, spread))
	if got := n.pools["n1"].Holders()[0]; got != kept {
		t.Errorf("slot 0 has moved to %+v", got)
	}
}

func TestPool_LeavesGracefully(t *testing.T) {
	names := []string{"g1", "g2", "n1"}
	n := newNetwork(t, names...)
	for _, name := range names {
		n.start(name, 1, make([]byte, 32))
	}
	n.await("a holder", names, func(_ string, p *Pool) bool { return len(p.Members()) == 3 && held(p, anybody) })
	old := n.pools["n1"].Holders()[0]
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == old.Node })
	begin := time.Now()
	go n.stops[old.Node]()
	took := n.await("another holder", rest, func(_ string, p *Pool) bool {
		return held(p, func(_ int, h Holder) bool { return h.Node != old.Node })
	})
	n.stops[old.Node]()
	t.Log("another holder after", took, "left after", time.Since(begin))
	n.await("one member fewer", rest, func(_ string, p *Pool) bool { return len(p.Members()) == 2 })
}

func TestPool_PartsAndRejoins(t *testing.T) {
	names := []string{"g1", "g2"}
	n := newNetwork(t, names...)
	for _, name := range names {
		n.start(name, 1, make([]byte, 32))
	}
	n.await("a holder", names, func(_ string, p *Pool) bool { return len(p.Members()) == 2 && held(p, anybody) })
	n.cut(1, "g2")
	n.await("parted", names, func(_ string, p *Pool) bool { return len(p.Members()) == 1 })
	n.cut(0, "g2")
	t.Log("rejoined after", n.await("rejoined, of one mind", names, func(_ string, p *Pool) bool {
		return len(p.Members()) == 2 && held(p, anybody) && p.Holders()[0] == n.pools["g1"].Holders()[0]
	}))
	claiming := 0
	for _, m := range n.pools["g1"].Members() {
		claiming += len(m.Slots)
	}
	if claiming != 1 {
		t.Errorf("members %+v", n.pools["g1"].Members())
	}
}

func TestPool_FenceOutOfReach(t *testing.T) {
	names := []string{"g1", "g2", "g3"}
	n := newNetwork(t, names...)
	n.fence.away = true
	for _, name := range names {
		n.start(name, 1, make([]byte, 32))
	}
	n.await("a holder", names, func(_ string, p *Pool) bool { return len(p.Members()) == 3 && held(p, anybody) })
	old := n.pools["g1"].Holders()[0]
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == old.Node })
	n.cut(-1, old.Node)
	t.Log("another holder after", n.await("another holder", rest, func(_ string, p *Pool) bool {
		return held(p, func(_ int, h Holder) bool { return h.Node != old.Node })
	}))
	if h := n.pools[old.Node].Holders()[0]; h != old {
		t.Errorf("the one that is cut off sees %+v", h)
	}
}

func TestPool_ComesBackUnderItsName(t *testing.T) {
	names := []string{"g1", "n1", "n2"}
	n := newNetwork(t, names...)
	for _, name := range names {
		n.start(name, 1, make([]byte, 32))
	}
	n.await("all members", names, func(_ string, p *Pool) bool { return len(p.Members()) == 3 })
	for _, noticed := range []bool{false, true} { // by the others, before the return
		n.cut(-1, "n2") // as if killed: no word of goodbye
		n.stops["n2"]()
		rest := []string{"g1", "n1"}
		if noticed {
			n.await("noticed", rest, func(_ string, p *Pool) bool { return len(p.Members()) == 2 })
		}
		n.cut(0, "n2")
		again := n.start("n2", 1, make([]byte, 32))
		t.Log("accepted after", n.await("the new process", rest, func(_ string, p *Pool) bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			m, ok := p.table.members["n2"]
			return ok && m.said.session == again.table.session
		}))
		n.await("held", names, func(_ string, p *Pool) bool { return len(p.Members()) == 3 && held(p, anybody) })
	}
}

func TestPool_WrongKeyIsRefused(t *testing.T) {
	n := newNetwork(t, "g1", "n1", "n2")
	n.start("g1", 1, make([]byte, 32))
	n.start("n1", 1, make([]byte, 32))
	wrong := n.start("n2", 1, append(make([]byte, 31), 1))
	n.await("two members", []string{"g1", "n1"}, func(_ string, p *Pool) bool { return len(p.Members()) == 2 && held(p, anybody) })
	<-time.After(2 * joinEvery) // it tries
	if members := n.pools["g1"].Members(); len(members) != 2 || len(wrong.Members()) != 1 {
		t.Errorf("members %+v, and %+v of the one with the wrong key", members, wrong.Members())
	}
}

func TestPool_PortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	p := New(Config{Node: "a", Addr: netip.MustParseAddr("127.0.0.1"), Port: uint16(l.Addr().(*net.TCPAddr).Port), Key: make([]byte, 32)})
	if err := p.Run(t.Context()); err == nil {
		t.Error("no error")
	}
}
