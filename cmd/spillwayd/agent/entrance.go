package agent

import (
	"context"
	"net/netip"
	"time"

	"github.com/spillway-dev/spillway/peering/view"
)

// enterEvery is how often gateways look whether a slot has got a Service or was taken by another.
const enterEvery = 10 * time.Second

// entrances keeps the Services of held slots leading here until ctx ends. It looks at once when the slots change.
func (a *Agent) entrances(ctx context.Context) {
	ticker := time.NewTicker(enterEvery)
	defer ticker.Stop()
	for {
		a.mu.Lock()
		held := facts{self: a.cfg.Node, holders: a.holders}.held()
		self, slots := selfAddr(a.cfg, a.snapshot), a.snapshot.Slots
		a.mu.Unlock()
		if len(held) > 0 {
			a.observe(ctx, slots)
		}
		for _, slot := range held {
			if self.IsValid() {
				a.note("Service of the gateway", a.enter(ctx, slot, self))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-a.taken:
		}
	}
}

func (a *Agent) enter(ctx context.Context, slot int, self netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err := a.view.Enter(ctx, slot, self, a.cfg.Port+uint16(slot))
	return err
}

// selfAddr is where others reach this node: as configured, else the Node's first internal address.
func selfAddr(cfg Config, s view.Snapshot) netip.Addr {
	if cfg.Address.IsValid() {
		return cfg.Address
	}
	for _, n := range s.Nodes {
		if n.Name == cfg.Node && len(n.Addrs) > 0 {
			return n.Addrs[0]
		}
	}
	return netip.Addr{}
}
