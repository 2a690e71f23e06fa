package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/spillway-dev/spillway/peering/view"
	"github.com/spillway-dev/spillway/tunnel/gateway"
)

// ensurePool has the membership of this cluster's agents running with the present key and tells it who there is.
func (a *Agent) ensurePool(ctx context.Context, s view.Snapshot) {
	self, gateways := selfAddr(a.cfg, s), []string(nil)
	isGateway := false
	for _, n := range s.Nodes {
		if n.Gateway {
			gateways = append(gateways, n.Name)
		}
		if n.Name == a.cfg.Node {
			isGateway = n.Gateway
		}
	}
	same := a.pool != nil && bytes.Equal(a.poolKey, s.Gossip) && a.poolGateway == isGateway
	if len(s.Peers) == 0 || len(s.Gossip) == 0 || !self.IsValid() || a.pool != nil && !same {
		a.endPool()
	}
	if a.pool == nil && len(s.Peers) > 0 && len(s.Gossip) > 0 && self.IsValid() {
		a.startPool(ctx, s, self, isGateway)
	}
	if a.pool != nil {
		a.pool.SetCluster(gateways, nodeAddrs(s, self), s.Slots)
	}
}

func (a *Agent) startPool(ctx context.Context, s view.Snapshot, self netip.Addr, isGateway bool) {
	pool := gateway.New(gateway.Config{
		Node: a.cfg.Node, Addr: self, Port: a.cfg.GossipPort, Key: s.Gossip, Gateway: isGateway,
		Fence: fence{a.view}, Changed: a.Wake, Log: a.cfg.Log.Named("gateway"),
	})
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := pool.Run(ctx); err != nil && ctx.Err() == nil {
			a.note("membership", err)
		}
	})
	a.mu.Lock()
	a.pool = pool
	a.mu.Unlock()
	a.poolKey, a.poolGateway = s.Gossip, isGateway
	a.stopPool = func() { cancel(); wg.Wait() }
}

func (a *Agent) endPool() {
	if a.pool == nil {
		return
	}
	a.stopPool()
	a.mu.Lock()
	a.pool, a.stopPool = nil, nil
	a.mu.Unlock()
}

// observe tells the pool what the Leases say, so that a gateway that no longer hears the others learns that it was
// replaced.
func (a *Agent) observe(ctx context.Context, slots int) {
	a.mu.Lock()
	pool := a.pool
	a.mu.Unlock()
	for slot := range slots {
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		node, epoch, err := a.view.Holder(ctx, slot)
		cancel()
		if err == nil && pool != nil && node != "" {
			pool.Observe(slot, gateway.Holder{Node: node, Epoch: epoch})
		}
	}
}

// fence keeps the Leases of slots. An API server that does not answer soon is away: the outage of a slot is what it
// costs to wait.
type fence struct{ view *view.View }

const fenceTimeout = 300 * time.Millisecond

func (f fence) Take(ctx context.Context, slot int, node string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	epoch, err := f.view.TakeLease(ctx, slot, node)
	var status apierrors.APIStatus
	if err != nil && !errors.As(err, &status) {
		return 0, fmt.Errorf("%w: %w", gateway.ErrUnreachable, err) // no answer of an API server at all
	}
	return epoch, err
}
