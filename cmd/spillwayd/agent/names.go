package agent

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/spillway-dev/spillway/peering/view"
	"github.com/spillway-dev/spillway/tunnel/names"
)

// DNS says how the agent answers DNS for the pods of tenants.
type DNS struct {
	// Off: it does not.
	Off bool
	// Upstream is asked in place of Service kube-system/kube-dns.
	Upstream []netip.AddrPort
	// Domain is the cluster's, for example cluster.local.
	Domain string
}

// forwarder answers DNS while the cluster shares. Its method set belongs to the goroutine of passes.
type forwarder struct {
	cfg    Config
	server *names.Server
	begin  chan []netip.Addr // has where to answer once it is to run
	last   names.Table
	parts  []tenantNames
	bare   time.Time // since when no upstream is known; zero: one is
}

// errNoUpstream: nobody can be answered.
var errNoUpstream = errors.New("the DNS of this cluster is not known: there is no Service kube-system/kube-dns that this agent may read; give --dns-upstream")

// upstreamWithin is how long after its start an agent may not have read where the cluster's DNS is.
const upstreamWithin = 10 * time.Second

// tenantNames is what a Table's Names were made of.
type tenantNames struct {
	namespaces map[string]string
	twins      []netip.Addr
}

func newForwarder(cfg Config) *forwarder {
	return &forwarder{
		cfg: cfg, begin: make(chan []netip.Addr, 1),
		server: names.New(names.Options{Log: cfg.Log.Named("dns"), Domain: cfg.DNS.Domain}),
	}
}

// set hands over what is known at a time, if it is new. The first time that the cluster shares the forwarder begins.
func (f *forwarder) set(s view.Snapshot, now time.Time) error {
	at := f.cfg.answerAt(s)
	if len(at) == 0 {
		return nil
	}
	table, parts := namesTable(s, f.cfg.DNS.Upstream)
	if len(table.Upstream) == 0 { // not read yet in this life; the one that was kept is better than none
		table.Upstream = f.last.Upstream
	}
	f.take(table, parts, at)
	switch {
	case len(table.Upstream) > 0:
		f.bare = time.Time{}
	case f.bare.IsZero():
		f.bare = now
	case now.Sub(f.bare) > upstreamWithin:
		return errNoUpstream
	}
	return nil
}

func (f *forwarder) take(table names.Table, parts []tenantNames, at []netip.Addr) {
	if f.parts != nil && reflect.DeepEqual(f.parts, parts) &&
		slices.Equal(f.last.Upstream, table.Upstream) && slices.Equal(f.last.Pods, table.Pods) {
		return
	}
	f.last, f.parts = table, parts
	f.server.Set(table)
	if f.begin != nil {
		f.begin <- at // it has room for the one
		f.begin = nil
	}
}

// answerNames runs the forwarder when it is to and until ctx ends.
func (a *Agent) answerNames(ctx context.Context, begin <-chan []netip.Addr) {
	select {
	case <-ctx.Done():
	case at := <-begin:
		a.again(ctx, "dns", func(ctx context.Context) error { return a.names.server.Run(ctx, at) })
	}
}

// answerAt are the addresses at which this node answers DNS: none while nobody's pods may run here.
func (c Config) answerAt(s view.Snapshot) []netip.Addr {
	shares := slices.ContainsFunc(s.Peers, func(p view.Peer) bool { return p.Shares })
	if c.DNS.Off || !shares {
		return nil
	}
	var out []netip.Addr
	for _, a := range []netip.Addr{names.Address4(), names.Address6()} {
		if slices.ContainsFunc(podRanges(s), func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() }) {
			out = append(out, a)
		}
	}
	return out
}

// podRanges are where this cluster's pods have their addresses: among the nodes, if none is known for pods alone.
func podRanges(s view.Snapshot) []netip.Prefix {
	if len(s.Pods) > 0 {
		return s.Pods
	}
	return s.NodeRanges
}

// namesTable is what the forwarder is to know, and what its Names were made of. Pure.
func namesTable(s view.Snapshot, upstream []netip.AddrPort) (names.Table, []tenantNames) {
	t := names.Table{Upstream: upstream, Askers: map[netip.Addr]*names.Names{}, Pods: podRanges(s)}
	if len(upstream) == 0 {
		t.Upstream = s.DNS
	}
	parts := []tenantNames{}
	for _, p := range s.Peers {
		if !p.Shares {
			continue
		}
		parts = append(parts, tenantNames{p.Namespaces, p.Twins})
		known := names.Of(p.Namespaces)
		for _, a := range p.Twins {
			t.Askers[a] = known
		}
	}
	return t, parts
}
