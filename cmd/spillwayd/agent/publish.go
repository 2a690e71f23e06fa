package agent

import (
	"context"
	"reflect"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-dev/spillway/peering/view"
	"github.com/spillway-dev/spillway/tunnel/endpoint"
	"github.com/spillway-dev/spillway/tunnel/probe"
)

const (
	// figuresEvery is how often figures alone are written.
	figuresEvery = time.Minute
	// publishAgain is when a write that failed is tried again; publishTimeout bounds one.
	publishAgain   = time.Second
	publishTimeout = 2 * time.Second
)

// publisher writes the paths of the slots this node holds into the status of Peerings: a change at once, figures once a
// minute.
type publisher struct {
	agent *Agent
	woken chan struct{}
	wrote map[probe.Key]written // belongs to run
}

type written struct {
	path view.Path
	at   time.Time
}

func newPublisher(a *Agent) *publisher {
	return &publisher{agent: a, woken: make(chan struct{}, 1), wrote: map[probe.Key]written{}}
}

func (p *publisher) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

func (p *publisher) run(ctx context.Context) {
	ticker := time.NewTicker(publishAgain)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-p.woken:
		}
		p.publish(ctx)
	}
}

// publish writes what differs, several at a time: when many peers are lost at once, the last is not to be told late.
func (p *publisher) publish(ctx context.Context) {
	now := p.agent.paths()
	for key := range p.wrote {
		if _, ok := now[key]; !ok {
			delete(p.wrote, key) // another gateway speaks of it now
		}
	}
	var due []probe.Key
	for key, path := range now {
		if p.due(key, path, time.Now()) {
			due = append(due, key)
		}
	}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(8)
	for _, key := range due {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, publishTimeout)
			defer cancel()
			if err := p.agent.view.Publish(ctx, key.Peer, now[key]); err != nil {
				p.agent.cfg.Log.Debug("path not written", zap.String("peer", key.Peer), zap.Error(err))
				return nil // the next round tries again
			}
			mu.Lock()
			defer mu.Unlock()
			p.wrote[key] = written{now[key], time.Now()}
			return nil
		})
	}
	_ = group.Wait() // no error is returned above
}

// due says whether a path is to be written. Up, transport, endpoint and MTU are news; the rest are figures.
func (p *publisher) due(key probe.Key, path view.Path, now time.Time) bool {
	last, ok := p.wrote[key]
	if !ok {
		return true
	}
	news := path.Up != last.path.Up || path.Transport != last.path.Transport || path.Endpoint != last.path.Endpoint ||
		path.MTU != last.path.MTU || !path.Since.Equal(last.path.Since)
	return news || now.Sub(last.at) >= figuresEvery && !reflect.DeepEqual(path, last.path)
}

// paths are the tunnels this node keeps, as they are now.
func (a *Agent) paths() map[probe.Key]view.Path {
	out := map[probe.Key]view.Path{}
	a.mu.Lock()
	s, f := a.snapshot, facts{self: a.cfg.Node, holders: a.holders}
	a.mu.Unlock()
	counts := a.traffic()
	for _, p := range paths(s, f) {
		key := probe.Key{Peer: p.peer.Name, Slot: p.slot}
		state, ok := a.prober.State(key)
		if !ok || state.Undecided {
			continue // not judged yet: what the former holder said stays until then
		}
		way := a.chooser.Current(endpoint.Key(key))
		out[key] = view.Path{
			Slot: p.slot, Node: a.cfg.Node, Up: state.Up, Reason: reason(state), Transport: way.Transport, Endpoint: way.Name,
			RTT: state.RTT.Round(100 * time.Microsecond), LossPercent: state.LossPercent, MTU: state.MTU,
			ReceivedBytes: int64(counts[key].rx), SentBytes: int64(counts[key].tx), Since: state.Since.Truncate(time.Second),
		}
	}
	return out
}

// reason says why a path is not up, in the words of condition TunnelUp.
func reason(s probe.State) string {
	switch {
	case s.Up:
		return ""
	case s.LargeLost:
		return "LargePacketsLost"
	case s.Ever:
		return "ProbesLost"
	default:
		return "NoHandshake"
	}
}
