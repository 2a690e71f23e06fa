package kubelet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// UsageConfig says how peers are asked.
type UsageConfig struct {
	// Interval is how long an answer of a peer is good for all readers and all its nodes. 0: 10 s.
	Interval time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	Log *zap.Logger
}

// NewUsage tells what pods of virtual nodes use, as the usage service of their peer tells it: each peer is asked once per interval
// and kind of answer for all readers and all its nodes, and never while nobody reads. An answer takes less than 5 s. Errors are
// sentences that name the peer. One Usage serves the process; it keeps an answer for two intervals at most, and for each node the
// CPU that its pods have used.
func NewUsage(cfg UsageConfig) Usage {
	if cfg.Interval <= 0 {
		cfg.Interval = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &usage{cfg: cfg, peers: map[string]*peerUsage{}, tallies: map[tallyKey]*tally{}}
}

// usage implements Usage.
type usage struct {
	cfg UsageConfig

	mu      sync.Mutex
	peers   map[string]*peerUsage // guarded by mu; by name of the peering
	scrapes uint64                // guarded by mu; numbers scrapes in the order of their beginning
	tallies map[tallyKey]*tally   // guarded by mu, with what they point to
}

// tallyKey: figures of the two kinds are taken at different times, so their sums are kept apart.
type tallyKey struct {
	node string
	kind usageKind
}

// Resource implements Usage. The figures of pods are byte for byte those of the peer's kubelets, those of the node are their sums.
func (u *usage) Resource(ctx context.Context, node Node) ([]byte, error) {
	got, err := u.ask(ctx, node, kindResource)
	if err != nil {
		return nil, err
	}
	pods := podsOf(node)
	uses := make([]podUse, len(pods))
	for i, pod := range pods {
		uses[i] = got.page.use(pod)
	}
	return got.page.render(pods, nodeFamilies(u.count(node, got, uses), got.partial)), nil
}

// Cadvisor implements Usage.
func (u *usage) Cadvisor(ctx context.Context, node Node) ([]byte, error) {
	got, err := u.ask(ctx, node, kindCadvisor)
	if err != nil {
		return nil, err
	}
	return got.page.render(podsOf(node), nil), nil
}

// Summary implements Usage. What its pods point to is shared: do not change it.
func (u *usage) Summary(ctx context.Context, node Node) (*statsv1alpha1.Summary, error) {
	got, err := u.ask(ctx, node, kindSummary)
	if err != nil {
		return nil, err
	}
	pods := podsOf(node)
	stats, uses := got.stats.of(pods)
	return &statsv1alpha1.Summary{Node: nodeStats(node.Name(), u.count(node, got, uses)), Pods: stats}, nil
}

// ask gets the newest answer of the node's peer.
func (u *usage) ask(ctx context.Context, node Node, what usageKind) (*told, error) {
	if err := node.Lost(); err != nil {
		return nil, fmt.Errorf("peer %s does not answer: %w", node.Peer(), err)
	}
	peer, err := u.peer(node)
	if err != nil {
		return nil, err
	}
	return peer.get(ctx, what)
}

// peer finds how to ask the node's peer. Another way to reach it replaces the one before.
func (u *usage) peer(node Node) (*peerUsage, error) {
	remote := node.Remote()
	if remote == nil {
		return nil, fmt.Errorf("peer %s is not connected yet", node.Peer())
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	have := u.peers[node.Peer()]
	if have != nil && have.remote == remote {
		return have, nil
	}
	fresh, err := newPeerUsage(node.Peer(), remote)
	if err != nil {
		return nil, err
	}
	fresh.cfg, fresh.nextScrape = u.cfg, u.nextScrape
	if have != nil {
		have.close()
	}
	u.peers[node.Peer()] = fresh
	return fresh, nil
}

func (u *usage) nextScrape() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.scrapes++
	return u.scrapes
}

// count adds an answer to the sums of a node.
func (u *usage) count(node Node, got *told, uses []podUse) nodeUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := tallyKey{node.Name(), got.kind}
	t := u.tallies[key]
	if t == nil {
		t = newTally(got.at)
		u.tallies[key] = t
	}
	return t.count(got.scrape, got.at, got.scraped, uses)
}
