package usage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

const (
	atOnce = 8 // kubelets
	// nodeTimeout bounds one kubelet's answer, scrapeTimeout all of them: a reader waits no longer.
	nodeTimeout   = 3 * time.Second
	scrapeTimeout = 4500 * time.Millisecond
	// mostAnswer bounds what is read of a kubelet's answer, mostText what is kept of it.
	mostAnswer = 256 << 20
	mostText   = 64 << 20
)

// kind is a page of a kubelet.
type kind int

const (
	resource kind = iota
	cadvisor
	summary
	kinds // how many
)

func (k kind) path() string {
	return [kinds]string{"/metrics/resource", "/metrics/cadvisor", "/stats/summary"}[k]
}

// Source says what is in this cluster. Safe for concurrent use.
type Source interface {
	// Synced is false while that is not known yet.
	Synced() bool
	// Tenant gives the namespaces of the pods of the tenant whose identity is in a namespace; false: there is no such tenant.
	Tenant(identity string) (namespaces map[string]bool, ok bool)
	// Nodes gives all nodes, and by their names the namespaces of tenants that have running pods there. Shared: do not change them.
	Nodes() (nodes []*corev1.Node, tenants map[string]map[string]bool)
}

// scraped is what one kubelet said. Never changed.
type scraped struct {
	target
	page *page      // of resource and cadvisor
	pods []podStats // of summary
	when time.Time  // it was asked
	err  error
}

// snapshot is what all said. Never changed.
type snapshot struct {
	at    time.Time
	nodes []scraped // by name
}

// scraper asks kubelets, and keeps what they say for an interval.
type scraper struct {
	source   Source
	client   *http.Client
	interval time.Duration
	log      *zap.Logger

	flights singleflight.Group
	kept    [kinds]atomic.Pointer[snapshot]
	asked   atomic.Int64 // scrapes of all kubelets, for tests
	mu      sync.Mutex
	failing map[string]bool // guarded by mu; nodes whose failure was logged
}

// kubeletClient speaks to kubelets as config speaks to the API server: with the same identity and the same authority.
func kubeletClient(config *rest.Config, insecure bool) (*http.Client, error) {
	c := rest.CopyConfig(config)
	c.ServerName = "" // that of the API server
	c.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	c.Dial, c.WrapTransport = nil, nil // what counts requests to the API server
	c.DisableCompression = true        // it costs both ends more than the way between them
	if insecure {
		c.Insecure, c.CAFile, c.CAData = true, "", nil
	}
	transport, err := rest.TransportFor(c)
	if err != nil {
		return nil, fmt.Errorf("make client for kubelets: %w", err)
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // not with these rights
	}}, nil
}

// get gives what kubelets said within the last interval; it asks them if nobody has. life outlasts the reader, whose ctx only ends
// his own waiting: others may wait for the same.
func (s *scraper) get(ctx, life context.Context, k kind) (*snapshot, error) {
	if have := s.fresh(k); have != nil {
		return have, nil
	}
	done := s.flights.DoChan(k.path(), func() (any, error) {
		if have := s.fresh(k); have != nil {
			return have, nil
		}
		now := s.scrape(life, k)
		s.kept[k].Store(now)
		time.AfterFunc(s.interval-time.Since(now.at), func() { s.kept[k].CompareAndSwap(now, nil) }) // nobody gets it any more
		return now, nil
	})
	select {
	case result := <-done:
		return result.Val.(*snapshot), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *scraper) fresh(k kind) *snapshot {
	if have := s.kept[k].Load(); have != nil && time.Since(have.at) < s.interval {
		return have
	}
	return nil
}

// scrape asks all kubelets with pods of tenants.
func (s *scraper) scrape(ctx context.Context, k kind) *snapshot {
	s.asked.Add(1)
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	now := &snapshot{at: time.Now()}
	for _, t := range targets(s.source.Nodes()) {
		now.nodes = append(now.nodes, scraped{target: t})
	}
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, i := range s.order(now.nodes) {
		group.Go(func() error {
			s.ask(ctx, k, &now.nodes[i])
			return nil
		})
	}
	_ = group.Wait() // errors are in the nodes
	s.note(now.nodes)
	return now
}

// ask fills in what a kubelet says.
func (s *scraper) ask(ctx context.Context, k kind, n *scraped) {
	n.when = time.Now()
	if !n.target.at.IsValid() {
		n.err = errors.New("its kubelet does not report, or says no address and port")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+n.target.at.String()+k.path(), nil)
	if err != nil {
		n.err = err
		return
	}
	if k != summary {
		request.Header.Set("Accept", "text/plain;version=0.0.4")
	}
	response, err := s.client.Do(request)
	if err != nil {
		n.err = err
		return
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		n.err = fmt.Errorf("kubelet answers %s", response.Status)
		return
	}
	body := &bounded{from: response.Body, left: mostAnswer}
	if k == summary {
		n.pods, n.err = readSummary(body, n.namespaces)
	} else {
		n.page, n.err = readPage(body, n.namespaces)
	}
}

// bounded fails when there is more to read than there should be.
type bounded struct {
	from io.Reader
	left int
}

func (b *bounded) Read(to []byte) (int, error) {
	n, err := b.from.Read(to)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("answer of more than %d MiB", mostAnswer>>20)
	}
	return n, err
}

// order is that in which kubelets are asked: those that failed before hold up nobody.
func (s *scraper) order(nodes []scraped) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first, last []int
	for i, n := range nodes {
		if s.failing[n.node] {
			last = append(last, i)
		} else {
			first = append(first, i)
		}
	}
	return append(first, last...)
}

// note logs nodes that begin to fail, and that no longer do.
func (s *scraper) note(nodes []scraped) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.failing
	s.failing = map[string]bool{}
	for _, n := range nodes {
		switch {
		case n.err != nil:
			s.failing[n.node] = true
			if !before[n.node] {
				s.log.Warn("usage of a node not read", zap.String("node", n.node), zap.Error(n.err))
			}
		case before[n.node]:
			s.log.Info("usage of a node read again", zap.String("node", n.node))
		}
	}
}
