package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/spillway-dev/spillway/internal/metrics"
	"github.com/spillway-dev/spillway/peering/view"
	"github.com/spillway-dev/spillway/tunnel/endpoint"
	"github.com/spillway-dev/spillway/tunnel/probe"
)

// serve answers /report, /metrics, /healthz and /readyz until ctx ends. Both only tell; nothing can be changed through them.
func (a *Agent) serve(ctx context.Context) error {
	defer scraped.Add(a.tell)()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler())
	mux.HandleFunc("GET /report", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a.Report()) // the reader went away
	})
	mux.HandleFunc("GET /healthz", answer(a.healthy))
	mux.HandleFunc("GET /readyz", answer(a.ready))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	listener := a.listen(ctx)
	if listener == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// listen waits until the port is free: an agent that is being replaced may still have it, and a tunnel does not wait for
// who wants to look at it. Nil when ctx ends.
func (a *Agent) listen(ctx context.Context) net.Listener {
	host := ""
	if a.cfg.Address.IsValid() {
		host = a.cfg.Address.String()
	}
	address := net.JoinHostPort(host, strconv.Itoa(int(a.cfg.HTTPPort)))
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil {
			a.note("reports", nil)
			return listener
		}
		a.note("reports", fmt.Errorf("serve reports on %s: %w (another agent on this node? choose another --http-port)", address, err))
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}

// Report says what is really there now.
func (a *Agent) Report() Report {
	a.mu.Lock()
	s, holders, offline, pool := a.snapshot, slices.Clone(a.holders), a.offline, a.pool
	var problems []string
	for part, err := range a.problems {
		problems = append(problems, part+": "+err.Error())
	}
	a.mu.Unlock()
	slices.Sort(problems)
	f := facts{self: a.cfg.Node, holders: holders}
	r := Report{
		Node: a.cfg.Node, Cluster: s.ClusterID, Slots: f.held(), Holders: holders, MTU: a.engine.MTU(),
		Tunnel: a.engine.Report(), Problems: problems, Offline: offline, PublicKeys: publicKeys(s),
	}
	r.Kernel = r.Tunnel.Kernel
	for _, n := range s.Nodes {
		r.Gateway = r.Gateway || n.Name == a.cfg.Node && n.Gateway
	}
	if pool != nil {
		for _, m := range pool.Members() {
			r.Members = append(r.Members, m.Name)
		}
	}
	counts := a.traffic()
	for _, p := range paths(s, f) {
		r.Paths = append(r.Paths, a.pathReport(p, counts))
	}
	for _, t := range targets(s, f, func(probe.Key) int { return 0 }) {
		if state, ok := a.prober.State(t.Key); ok && t.Slot < 0 {
			r.Samples = append(r.Samples, measured(t.Key, t.Remote, state))
		}
	}
	return r
}

func (a *Agent) pathReport(p path, counts map[probe.Key]traffic) PathReport {
	key := probe.Key{Peer: p.peer.Name, Slot: p.slot}
	state, _ := a.prober.State(key)
	way := a.chooser.Current(endpoint.Key(key))
	r := measured(key, netip.Addr{}, state)
	r.Remote, r.Transport, r.Endpoint = way.Addr.String(), way.Transport, way.Name
	r.PeerPublicKey, r.RemoteAnnounce = p.peer.Slots[p.slot].PublicKey, p.peer.Slots[p.slot].OurEndpoints
	t := counts[key]
	r.RxBytes, r.TxBytes = t.rx, t.tx
	if !t.handshake.IsZero() {
		r.HandshakeUnix = t.handshake.Unix()
	}
	return r
}

func measured(key probe.Key, remote netip.Addr, s probe.State) PathReport {
	r := PathReport{
		Peer: key.Peer, Slot: key.Slot, Up: s.Up, Ever: s.Ever, LargeLost: s.LargeLost,
		RTTMicros: s.RTT.Microseconds(), LossPercent: s.LossPercent, MTU: s.MTU,
	}
	if remote.IsValid() {
		r.Remote = remote.String()
	}
	if !s.Since.IsZero() {
		r.SinceUnix = s.Since.Unix()
	}
	return r
}

// traffic is what one tunnel has carried as WireGuard counts it.
type traffic struct {
	rx, tx    uint64
	handshake time.Time
}

// traffic reads the counters of the WireGuard peers on this node's devices.
func (a *Agent) traffic() map[probe.Key]traffic {
	out := map[probe.Key]traffic{}
	for _, p := range a.engine.Peers() {
		out[probe.Key{Peer: p.Peer, Slot: p.Slot}] = traffic{p.RxBytes, p.TxBytes, p.Handshake}
	}
	return out
}

func publicKeys(s view.Snapshot) []string {
	var out []string
	for _, private := range s.Keys {
		key, err := wgtypes.ParseKey(private)
		if err != nil {
			out = append(out, "")
			continue
		}
		out = append(out, key.PublicKey().String())
	}
	return out
}
