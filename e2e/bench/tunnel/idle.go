package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/spillway-dev/spillway/tunnel"
	"github.com/spillway-dev/spillway/tunnel/probe"
)

// idle is what a gateway costs that has peers, all of which are up, and nothing to do.
type idle struct {
	Peers       int     `json:"peers"`
	Seconds     float64 `json:"seconds"`
	CorePercent float64 `json:"corePercent"`
	memory
	OtherCores float64 `json:"otherCores"`
}

// settling is how long an idle gateway is left alone before it is watched: what probes search for is found by then.
const settling = 5 * time.Second

// watchIdle gives a gateway many peers that really are there: another process is all of them.
func watchIdle(ctx context.Context, o options, say *teller) (*idle, error) {
	p := &place{}
	defer p.close()
	var err error
	if p.sides, err = newClusters(false); err != nil {
		return nil, err
	}
	for i := range p.gateways {
		if p.gateways[i], err = p.start(ctx); err != nil {
			return nil, err
		}
	}
	if err := p.joinGateways(); err != nil {
		return nil, err
	}
	watched := p.gateways[0]
	if err := p.startIdle(o.idlePeers); err != nil {
		return nil, err
	}
	say.line("%d peers are up", o.idlePeers)
	if err := wait(ctx, settling); err != nil {
		return nil, err
	}
	if o.profiles != "" {
		if _, err := watched.ask(order{Profile: o.idle, ProfileTo: filepath.Join(o.profiles, "idle.pprof"), HeapTo: filepath.Join(o.profiles, "idle-heap.pprof")}); err != nil {
			return nil, err
		}
	}
	before, err := ranSeconds(watched.pid())
	if err != nil {
		return nil, err
	}
	began, others := time.Now(), foreignSeconds()
	if err := wait(ctx, o.idle); err != nil {
		return nil, err
	}
	after, err := ranSeconds(watched.pid())
	if err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	out := &idle{Peers: o.idlePeers, Seconds: took, CorePercent: 100 * (after - before) / took, OtherCores: (foreignSeconds() - others) / took}
	out.memory, err = readMemory(watched.pid())
	return out, err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// startIdle configures the gateway with peers and lets them all come up. The gateway asks all of them: that costs more
// than answering.
func (p *place) startIdle(peers int) error {
	own, other := p.sides[0], p.sides[1]
	here := tunnel.SlotAddr(own.id, 0)
	t := own.topology(other, 0)
	crowd, err := own.crowd(peers)
	if err != nil {
		return err
	}
	t.Peers = crowd
	s := swarm{Remote: here}
	targets := make([]probe.Target, 0, peers)
	for i := range crowd {
		key, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			return fmt.Errorf("make a key: %w", err)
		}
		crowd[i].Slots[0].PublicKey = key.PublicKey()
		there := tunnel.SlotAddr(crowd[i].ClusterID, 0)
		s.Addrs = append(s.Addrs, there)
		s.Devices = append(s.Devices, bareDevice{
			Key: key, Peer: own.key.PublicKey(), MTU: innerMTU,
			Endpoint: netip.AddrPortFrom(own.nodes[0], wireguardPort), Allowed: []netip.Prefix{single(here)},
		})
		targets = append(targets, probe.Target{
			Key: probe.Key{Peer: crowd[i].Name}, Local: here, Remote: there, Initiate: true, MaxMTU: innerMTU,
		})
	}
	if _, err := p.gateways[0].ask(order{Topology: &t}); err != nil {
		return fmt.Errorf("set up the idle gateway: %w", err)
	}
	if _, err := p.gateways[1].ask(order{Swarm: &s}); err != nil {
		return fmt.Errorf("set up its peers: %w", err)
	}
	if _, err := p.gateways[0].ask(order{Probe: targets}); err != nil {
		return fmt.Errorf("probe its peers: %w", err)
	}
	return nil
}
