package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/spillway-dev/spillway/tunnel/relay"
)

// relays are the TLS entrances of the slots that this node holds.
type relays struct {
	port    uint16
	log     *zap.Logger
	running map[int]func()
	mu      sync.Mutex
	failed  map[int]error // guarded by mu; by slot
}

func newRelays(cfg Config) *relays {
	return &relays{port: cfg.Port, log: cfg.Log.Named("relay"), running: map[int]func(){}, failed: map[int]error{}}
}

// set has one entrance per slot; it reports those that ended by themselves.
func (r *relays) set(ctx context.Context, slots []int) error {
	for slot, stop := range r.running {
		if !slices.Contains(slots, slot) || r.takeFailed(slot) {
			stop()
			delete(r.running, slot)
		}
	}
	for _, slot := range slots {
		if r.running[slot] == nil {
			r.start(ctx, slot)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []error
	for _, err := range r.failed {
		all = append(all, err)
	}
	return errors.Join(all...)
}

func (r *relays) start(ctx context.Context, slot int) {
	port := r.port + uint16(slot)
	server := relay.Server{
		Listen: netip.AddrPortFrom(netip.IPv6Unspecified(), port),
		Target: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port),
		Log:    r.log,
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Run(ctx); err != nil && ctx.Err() == nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.failed[slot] = fmt.Errorf("take packets over TLS on port %d: %w", port, err)
		}
	})
	r.running[slot] = func() { cancel(); wg.Wait() }
}

func (r *relays) takeFailed(slot int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, failed := r.failed[slot]
	delete(r.failed, slot)
	return failed
}

func (r *relays) close() {
	for _, stop := range r.running {
		stop()
	}
}
