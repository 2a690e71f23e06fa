package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/spillway-dev/spillway/tunnel/device"
)

// Options of an Engine.
type Options struct {
	Log *zap.Logger
	// Userspace uses wireguard-go even where the kernel has WireGuard.
	Userspace bool
	// Sysctls is the folder with the kernel's network settings. Default: Sysctls.
	Sysctls string
	// Interval at which kernel state is compared with what is wanted. Default 3 s.
	Interval time.Duration
	// Changed, if set, is called after each round that changed the kernel, succeeded for the first time with a Topology,
	// or has another error than the one before. It must not block.
	Changed func()
}

// defaultInterval leaves two seconds of the five within which what somebody took away must be back.
const defaultInterval = 3 * time.Second

// Engine keeps the kernel of the network namespace it runs in equal to the last Topology. Make it with New, then Run it
// once. Its other methods are safe for concurrent use.
type Engine struct {
	o      Options
	wg     *wgctrl.Client
	wake   chan struct{}
	opened map[string]*device.Device // by link; belongs to Run
	sent   map[string]map[wgtypes.Key]netip.AddrPort
	nft    packetState
	last   plannedFor // belongs to Run

	mu      sync.Mutex
	topo    *Topology                 // guarded by mu; nil before Set
	renew   map[[2]any]bool           // guarded by mu; {peer, slot} to renew
	planned Config                    // guarded by mu; of the last round
	status  roundStatus               // guarded by mu
	devices map[string]*device.Device // guarded by mu; copy of opened for reports
	stats   cachedStats               // guarded by mu
}

// roundStatus is what the last round found.
type roundStatus struct {
	at      time.Time
	took    time.Duration
	err     error
	mtu     int
	have    Config
	repairs uint64
	rounds  uint64
	settled *Topology // with which a round has succeeded last
	changed bool      // anything worth telling
}

// New returns an Engine that does nothing before Run.
func New(o Options) (*Engine, error) {
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	if o.Sysctls == "" {
		o.Sysctls = Sysctls
	}
	client, err := wgctrl.New()
	if err != nil {
		return nil, fmt.Errorf("open the way to WireGuard devices: %w", err)
	}
	return &Engine{
		o: o, wg: client, wake: make(chan struct{}, 1), opened: map[string]*device.Device{}, renew: map[[2]any]bool{},
		sent: map[string]map[wgtypes.Key]netip.AddrPort{},
	}, nil
}

// Set hands over what this node is to know. It does not block; handing over the same again costs a comparison.
func (e *Engine) Set(t Topology) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.topo != nil && reflect.DeepEqual(*e.topo, t) {
		return
	}
	e.topo = &t
	e.kick()
}

// Renew begins a new session with a peer whose probes fail. It does not block.
func (e *Engine) Renew(peer string, slot int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.renew[[2]any{peer, slot}] = true
	e.kick()
}

func (e *Engine) kick() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// MTU is the largest packet that fits into a tunnel from this node, bytes; 0 before the first round.
func (e *Engine) MTU() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status.mtu
}

// Run applies what was Set and repairs what others change, until ctx ends. WireGuard devices inside this process end
// with it; everything else stays in the kernel.
func (e *Engine) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	losses, err := losses(ctx)
	if err != nil {
		return err
	}
	timer := time.NewTimer(e.o.Interval)
	defer timer.Stop()
	defer e.closeDevices()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-losses:
			// Many come at once, and some of them from ourselves.
			timer.Reset(min(lossDelay, e.o.Interval))
			select {
			case <-ctx.Done():
				return nil
			case <-e.wake:
			case <-timer.C:
			}
		case <-e.wake:
		case <-timer.C:
		}
		e.round()
		timer.Reset(e.o.Interval)
	}
}

func (e *Engine) closeDevices() {
	for _, d := range e.opened {
		if !d.Kernel() {
			_ = d.Close() // the process ends
		}
	}
	_ = e.wg.Close()
}

// round makes the kernel equal to what is wanted, as far as it goes: one thing that fails does not keep others away.
func (e *Engine) round() {
	e.mu.Lock()
	topo, settled := e.topo, e.topo == e.status.settled
	renewals := e.renew
	e.renew = map[[2]any]bool{}
	e.mu.Unlock()
	if topo == nil {
		return
	}
	began := time.Now()
	uplink, underlay, err := underlayLinkOf(*topo)
	if err != nil {
		e.finish(roundStatus{at: began, err: err}, Config{}, 0)
		return
	}
	want := e.plan(topo, uplink, underlay)
	have, repaired, err := e.applyAll(want)
	err = errors.Join(err, e.renewPeers(want, renewals))
	status := roundStatus{at: began, took: time.Since(began), err: err, have: have}
	if err == nil {
		status.settled = topo
	}
	status.mtu = InnerMTU(underlay, selfAddrs(*topo))
	status.changed = len(repaired) > 0 || !settled && err == nil
	if !settled {
		repaired = nil
	}
	if len(repaired) > 0 {
		e.o.Log.Warn("kernel state was changed by somebody and put right", zap.Strings("repaired", repaired))
	}
	e.finish(status, want, len(repaired))
}

// plan is Plan, which is asked again only when something is new.
func (e *Engine) plan(topo *Topology, uplink string, underlay int) Config {
	if p := e.last; p.topo == topo && p.uplink == uplink && p.underlay == underlay {
		return p.config
	}
	want := Plan(*topo, underlay)
	if len(want.Packets.Peers) > 0 {
		want.Packets.Uplink = uplink
	}
	e.last = plannedFor{topo: topo, uplink: uplink, underlay: underlay, config: want}
	return want
}

func (e *Engine) finish(s roundStatus, want Config, repairs int) {
	if e.remember(s, want, repairs) && e.o.Changed != nil {
		e.o.Changed()
	}
}

// remember keeps what a round found for reports; it says whether that is news.
func (e *Engine) remember(s roundStatus, want Config, repairs int) (news bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	news = s.changed || fmt.Sprint(s.err) != fmt.Sprint(e.status.err)
	if s.err != nil && (e.status.err == nil || e.status.err.Error() != s.err.Error()) {
		e.o.Log.Warn("kernel state is not as wanted", zap.Error(s.err))
	}
	s.repairs, s.rounds = e.status.repairs+uint64(repairs), e.status.rounds+1
	if s.mtu == 0 {
		s.mtu = e.status.mtu
	}
	e.status, e.planned, e.stats = s, want, cachedStats{}
	e.devices = map[string]*device.Device{}
	for name, d := range e.opened {
		e.devices[name] = d
	}
	return news
}

// applyAll does one round; done names the differences it found, as an operator would type their repair.
func (e *Engine) applyAll(want Config) (have Config, done []string, err error) {
	var all []error
	note := func(what string, differs bool, err error) {
		if differs {
			done = append(done, what)
		}
		if err != nil {
			all = append(all, err)
		}
	}
	opened, err := e.ensureDevices(want)
	note("wireguard device", opened, err)
	if have, err = observe(); err != nil {
		return have, done, errors.Join(append(all, err)...)
	}
	// Translations come before routes: the first packet of a connection decides how all of it is translated.
	changed, err := e.nft.ensure(want.Packets)
	note("nftables table", changed, err)
	changes := Diff(have, want)
	added := 0
	for added < len(changes) && changes[added].Add {
		note(changes[added].String(), true, apply(changes[added]))
		added++
	}
	note("", false, settings(e.o.Sysctls, want))
	for _, d := range want.Devices {
		if e.sent[d.Link] == nil {
			e.sent[d.Link] = map[wgtypes.Key]netip.AddrPort{}
		}
		changed, err := configure(e.wg, d, e.sent[d.Link])
		note("wireguard peers of "+d.Link, changed, err)
		if opened := e.opened[d.Link]; opened != nil {
			note("", false, opened.CountArrivals(d.Port))
		}
	}
	for _, c := range changes[added:] {
		note(c.String(), true, apply(c))
	}
	if len(done) > 0 { // the report is to say what is there now
		if now, err := observe(); err == nil {
			have = now
		}
	}
	return have, done, errors.Join(all...)
}

// ensureDevices opens the WireGuard devices that are wanted and closes the others.
func (e *Engine) ensureDevices(want Config) (changed bool, err error) {
	wanted := map[string]int{}
	for _, l := range want.Links {
		if !l.VXLAN && !l.Dummy {
			wanted[l.Name] = l.MTU
		}
	}
	var all []error
	for name, d := range e.opened {
		if _, ok := wanted[name]; ok && !ended(d, name) {
			continue
		}
		all = append(all, d.Close())
		delete(e.opened, name)
		delete(e.sent, name)
		changed = true
	}
	for name, mtu := range wanted {
		if e.opened[name] != nil {
			continue
		}
		d, err := device.Open(device.Options{Name: name, MTU: mtu, ForceUserspace: e.o.Userspace, Log: e.o.Log})
		changed = true
		if err != nil {
			all = append(all, err)
			continue
		}
		e.opened[name] = d
	}
	return changed, errors.Join(all...)
}

// ended says that somebody removed the link of a device.
func ended(d *device.Device, name string) bool {
	select {
	case <-d.Done():
		return true
	default:
	}
	_, err := netlink.LinkByName(name)
	return gone(err)
}

func (e *Engine) renewPeers(want Config, renewals map[[2]any]bool) error {
	var all []error
	for _, d := range want.Devices {
		for _, p := range d.Peers {
			if renewals[[2]any{p.Peer, d.Slot}] {
				all = append(all, renew(e.wg, d, p.Peer))
			}
		}
	}
	return errors.Join(all...)
}

func selfAddrs(t Topology) []netip.Addr {
	for _, n := range t.Nodes {
		if n.Name == t.Self {
			return n.Addrs
		}
	}
	return nil
}

// underlayLinkOf is the link that has this node's address, and its MTU.
func underlayLinkOf(t Topology) (name string, mtu int, err error) {
	for _, self := range selfAddrs(t) {
		addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return "", 0, fmt.Errorf("list addresses: %w", err)
		}
		for _, a := range addrs {
			if p, ok := prefixOf(a.IPNet); ok && p.Addr() == self {
				link, err := netlink.LinkByIndex(a.LinkIndex)
				if err != nil {
					return "", 0, fmt.Errorf("read the link of %s: %w", self, err)
				}
				return link.Attrs().Name, link.Attrs().MTU, nil
			}
		}
	}
	if len(t.Peers) == 0 {
		return "", defaultMTU, nil
	}
	return "", 0, fmt.Errorf("no link of this node has an address of Node %s: is the agent on the host network, and is it told the right node?", t.Self)
}

// defaultMTU is Ethernet's, bytes.
const defaultMTU = 1500
