// Package agent is `spillwayd node`: it joins what the API says of peerings (peering/view), who holds the gateway slots
// (tunnel/gateway), where peers are reached (tunnel/endpoint) and what probes measured (tunnel/probe) into the topology
// that the engine of package tunnel builds on this node. It only wires: each decision is in one of those packages or in
// the pure functions of topology.go.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/peering/view"
	"github.com/spillway-dev/spillway/tunnel"
	"github.com/spillway-dev/spillway/tunnel/endpoint"
	"github.com/spillway-dev/spillway/tunnel/gateway"
	"github.com/spillway-dev/spillway/tunnel/probe"
)

// Config says on which node the agent works.
type Config struct {
	// REST reaches this cluster's API server; Client is made from it.
	REST   *rest.Config
	Client kubernetes.Interface
	// Node is the name of this node. Address is where other nodes reach it; zero: the first internal one of the Node.
	Node    string
	Address netip.Addr
	// Port is the UDP (and, for TLS, TCP) port of gateway slot 0, GossipPort that of the membership, HTTPPort that of
	// /metrics, /report, /healthz and /readyz.
	Port, GossipPort, HTTPPort uint16
	// StateFile keeps the last view for a start without an API server.
	StateFile string
	// Userspace uses wireguard-go even where the kernel has WireGuard.
	Userspace bool
	// Sysctls is where the kernel's settings under net can be written; empty means /proc/sys/net.
	Sysctls string
	// DNS for the pods of tenants.
	DNS DNS
	Log *zap.Logger
}

// Agent works on one node. Make it with New, then Run it once.
type Agent struct {
	cfg     Config
	view    *view.View
	engine  *tunnel.Engine
	prober  *probe.Prober
	chooser *endpoint.Chooser
	relays  *relays
	names   *forwarder
	pub     *publisher
	wake    chan struct{}
	taken   chan struct{} // has one when the holders of slots changed
	stale   atomic.Bool   // the view may have changed since the last pass
	passed  atomic.Int64  // when the last pass ended, Unix nanoseconds

	mu          sync.Mutex
	pool        *gateway.Pool           // guarded by mu; nil until the key of the gossip is known
	snapshot    view.Snapshot           // guarded by mu; of the last pass
	offline     bool                    // guarded by mu; snapshot comes from the state file
	holders     []string                // guarded by mu; of the last pass
	problems    map[string]error        // guarded by mu; by part
	stopPool    func()                  // belongs to Run's goroutine
	poolKey     []byte                  // belongs to Run's goroutine; what pool was started with
	poolGateway bool                    // likewise
	pathMTUs    map[probe.Key]pathMTU   // belongs to Run's goroutine
	transports  map[endpoint.Key]string // belongs to Run's goroutine; of the last pass
	saved       view.Snapshot           // belongs to Run's goroutine
	renewed     map[probe.Key]time.Time // belongs to Run's goroutine
}

// settle is how long changes are collected before a pass.
const settle = 5 * time.Millisecond

// New returns an Agent that does nothing before Run.
func New(cfg Config) (*Agent, error) {
	a := &Agent{cfg: cfg, wake: make(chan struct{}, 1), taken: make(chan struct{}, 1), problems: map[string]error{}, renewed: map[probe.Key]time.Time{}, pathMTUs: map[probe.Key]pathMTU{}}
	var err error
	if a.view, err = view.New(view.Config{REST: cfg.REST, Client: cfg.Client, Node: cfg.Node, DNS: !cfg.DNS.Off, Changed: a.viewChanged}); err != nil {
		return nil, err
	}
	if a.engine, err = tunnel.New(tunnel.Options{Log: cfg.Log.Named("tunnel"), Userspace: cfg.Userspace, Sysctls: cfg.Sysctls}); err != nil {
		return nil, err
	}
	a.prober = probe.New(probe.Options{Log: cfg.Log.Named("probe"), Changed: func(probe.Key) { a.Wake() }})
	a.chooser = endpoint.New(endpoint.Options{Log: cfg.Log.Named("endpoint"), Port: cfg.Port, Changed: func(endpoint.Key) { a.Wake() }})
	a.relays = newRelays(cfg)
	a.names = newForwarder(cfg)
	a.pub = newPublisher(a)
	return a, nil
}

func (a *Agent) viewChanged() {
	a.stale.Store(true)
	a.Wake()
}

// Wake makes a pass soon. It does not block.
func (a *Agent) Wake() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends and returns when all its goroutines have. What is in the kernel stays, so that an upgrade of
// the agent interrupts ordinary nodes not at all; `spillwayd node clean` takes it away.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	run := func(name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	run("view", func(ctx context.Context) error { a.view.Run(ctx); return nil })
	run("engine", a.engine.Run)
	run("probes", func(ctx context.Context) error { a.again(ctx, "probes", a.prober.Run); return nil })
	run("endpoints", func(ctx context.Context) error { a.chooser.Run(ctx); return nil })
	run("entrances", func(ctx context.Context) error { a.entrances(ctx); return nil })
	run("publisher", func(ctx context.Context) error { a.pub.run(ctx); return nil })
	run("http", a.serve)
	begin := a.names.begin
	run("dns", func(ctx context.Context) error { a.answerNames(ctx, begin); return nil })
	a.passes(ctx)
	if a.stopPool != nil {
		a.stopPool()
	}
	a.relays.close()
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// again runs f until ctx ends, and again a second after it failed: an agent that is being replaced may still have its
// ports.
func (a *Agent) again(ctx context.Context, part string, f func(context.Context) error) {
	for {
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		a.note(part, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
			a.note(part, nil)
		}
	}
}

// passes makes one pass per collected change, and one a second: a peer that does not answer is dialled anew.
func (a *Agent) passes(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	timer := time.NewTimer(settle)
	defer timer.Stop()
	a.passed.Store(time.Now().UnixNano())
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-a.wake:
			timer.Reset(settle)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		a.pass(ctx)
		a.passed.Store(time.Now().UnixNano())
	}
}

// pass hands everybody what they are to do now. It waits for nothing outside the process.
func (a *Agent) pass(ctx context.Context) {
	s, ok := a.look()
	if !ok {
		return
	}
	a.ensurePool(ctx, s)
	f := a.facts(s)
	a.mu.Lock()
	if !slices.Equal(a.holders, f.holders) {
		select {
		case a.taken <- struct{}{}:
		default:
		}
	}
	countFailovers(a.holders, f.holders)
	a.snapshot, a.holders = s, f.holders
	a.mu.Unlock()

	ways := map[endpoint.Key]endpoint.Candidates{}
	mine := paths(s, f)
	for _, p := range mine {
		ways[endpoint.Key{Peer: p.peer.Name, Slot: p.slot}] = candidates(p)
	}
	a.chooser.Set(ways)
	a.prober.Set(targets(s, f, a.maxMTU))
	a.prober.Answer(sources(s))
	a.engine.Set(topology(s, f))
	a.note("names of tenants", a.names.set(s, time.Now()))
	a.note("relay", a.relays.set(ctx, f.held()))
	a.follow(mine)
	a.judge(mine)
	a.pub.wake()
}

// look gives the present view, or before the API server has answered the one that was kept.
func (a *Agent) look() (view.Snapshot, bool) {
	if !a.stale.Swap(false) && a.saved.Nodes != nil {
		return a.saved, true
	}
	s, ok := a.view.Snapshot()
	if ok {
		if !reflect.DeepEqual(s, a.saved) {
			a.note("state file", save(a.cfg.StateFile, s))
			a.saved = s
		}
		a.setOffline(false)
		return s, true
	}
	a.stale.Store(true) // not everything was read yet; the next pass looks again
	if a.saved.Nodes == nil {
		s, ok, err := load(a.cfg.StateFile)
		a.note("state file", err)
		if !ok {
			return s, false
		}
		a.cfg.Log.Info("working from the last known view until the API server answers")
		a.saved = s
		a.setOffline(true)
	}
	return a.saved, true
}

func (a *Agent) setOffline(offline bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.offline = offline
}

// facts are what is known beside the Snapshot.
func (a *Agent) facts(s view.Snapshot) facts {
	f := facts{
		self: a.cfg.Node, port: a.cfg.Port, holders: make([]string, s.Slots),
		endpoint: func(peer string, slot int) netip.AddrPort {
			return a.chooser.Current(endpoint.Key{Peer: peer, Slot: slot}).Addr
		},
		mtu: a.mtu, answer: a.cfg.answerAt(s),
	}
	if a.pool != nil {
		for k, h := range a.pool.Holders() {
			if k < len(f.holders) {
				f.holders[k] = h.Node
			}
		}
	}
	return f
}

// mtu is the smallest of the peer's paths, since routes are per peer and flows go over all; a node that keeps none itself
// takes what the gateways wrote.
func (a *Agent) mtu(peer view.Peer) int {
	least := peer.MTU
	for key, s := range a.prober.States() {
		if key.Peer == peer.Name && key.Slot >= 0 && s.MTU > 0 && (least == 0 || s.MTU < least) {
			least = s.MTU
		}
	}
	return least
}

// maxMTU is the largest packet that a tunnel may carry: what the device takes and the path carries in one piece.
func (a *Agent) maxMTU(key probe.Key) int {
	known := a.pathMTUs[key]
	if time.Since(known.at) > pathMTUEvery {
		known = pathMTU{a.engine.PathMTU(key.Peer, key.Slot), time.Now()}
		a.pathMTUs[key] = known
	}
	if most := a.engine.MTU(); known.mtu == 0 || known.mtu > most {
		return most
	}
	return known.mtu
}

// pathMTU is what the kernel knew of a path.
type pathMTU struct {
	mtu int
	at  time.Time
}

// pathMTUEvery is how often the kernel is asked.
const pathMTUEvery = 3 * time.Second

func (f facts) held() []int {
	var out []int
	for k, holder := range f.holders {
		if holder == f.self {
			out = append(out, k)
		}
	}
	return out
}

// follow has WireGuard begin anew when a way goes from TLS to UDP: this side then sends at once, and packets still under
// way through the relay do not make WireGuard go back to it.
func (a *Agent) follow(mine []path) {
	now := map[endpoint.Key]string{}
	for _, p := range mine {
		key := endpoint.Key{Peer: p.peer.Name, Slot: p.slot}
		now[key] = a.chooser.Current(key).Transport
		if a.transports[key] == endpoint.TLS && now[key] == endpoint.UDP {
			a.engine.Renew(key.Peer, key.Slot)
		}
	}
	a.transports = now
}

// judge tells the endpoint chooser how the paths are, and has WireGuard begin anew with a peer that is silent: after a
// restart of the side that knows no endpoint, nothing else recovers quickly. Only the side that sends the probes does
// so: two would take each other's sessions away.
func (a *Agent) judge(mine []path) {
	for _, p := range mine {
		key := probe.Key{Peer: p.peer.Name, Slot: p.slot}
		state, ok := a.prober.State(key)
		if !ok || state.Undecided {
			continue
		}
		a.chooser.Report(endpoint.Key(key), state.Up)
		if state.Up || !begins(a.snapshot.ClusterID, p.peer, p.slot) {
			delete(a.renewed, key)
			continue
		}
		if now := time.Now(); now.Sub(a.renewed[key]) >= renewEvery+4*state.RTT {
			a.renewed[key] = now
			a.engine.Renew(p.peer.Name, p.slot)
		}
	}
}

// renewEvery is how often a silent peer is taken off the device and put back.
const renewEvery = 900 * time.Millisecond

// note remembers or forgets a part's trouble for the report, and logs it once.
func (a *Agent) note(part string, err error) {
	a.mu.Lock()
	before := a.problems[part]
	if err == nil {
		delete(a.problems, part)
	} else {
		a.problems[part] = err
	}
	a.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		a.cfg.Log.Warn("part of the agent does not work", zap.String("part", part), zap.Error(err))
	}
}

// nodeAddrs are where the agents of the other nodes answer.
func nodeAddrs(s view.Snapshot, family netip.Addr) []gateway.NodeAddr {
	var out []gateway.NodeAddr
	for _, n := range s.Nodes {
		i := slices.IndexFunc(n.Addrs, func(b netip.Addr) bool { return b.Is4() == family.Is4() })
		if i >= 0 {
			out = append(out, gateway.NodeAddr{Name: n.Name, Addr: n.Addrs[i]})
		}
	}
	return out
}
