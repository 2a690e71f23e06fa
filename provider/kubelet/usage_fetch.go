package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

const (
	// usagePath is the usage service of a peer's Spillway, through its API server.
	usagePath = "api/v1/namespaces/spillway-system/services/https:spillway-usage:usage/proxy/v1"
	// headerToken repeats the bearer token: an API server does not hand Authorization on to what is behind it.
	headerToken = "Spillway-Authorization"
	// headerScraped is when the oldest figure of an answer was taken, in Unix milliseconds by the peer's clock.
	headerScraped = "Spillway-Scraped"
	// headerFailed is how many machines with pods of ours are missing in an answer.
	headerFailed = "Spillway-Nodes-Failed"

	// beginWithin is how long a peer may take until its answer begins, answerWithin until it ends: readers are promised one within 5 s.
	beginWithin  = 3 * time.Second
	answerWithin = 4500 * time.Millisecond
	// askAtMost is how often at most a peer is asked, however old its figures are.
	askAtMost = 2 * time.Second
	// retryAfter is how soon a peer is asked again after an error that may pass.
	retryAfter = 2 * time.Second
	// maxAnswer bounds an answer, unpacked: ten thousand pods are some 400 MB of cAdvisor's text.
	maxAnswer = 512 << 20
)

// usageKind is what is asked for: the last part of the path.
type usageKind string

const (
	kindResource usageKind = "resource"
	kindCadvisor usageKind = "cadvisor"
	kindSummary  usageKind = "summary"
)

var (
	// errNoUsage: there is nobody to ask behind the peer's API server.
	errNoUsage = errors.New("tells no usage: its Spillway is older or runs without --usage-address")
	errSlow    = errors.New("no answer in time")
	errLong    = fmt.Errorf("the answer is longer than %d MiB", maxAnswer>>20)
)

// told is what a peer told, or why it told nothing. It does not change.
type told struct {
	kind    usageKind
	scrape  uint64        // its number
	at      time.Time     // when it was asked for
	scraped int64         // Unix milliseconds: when the oldest figure was taken, or at
	age     time.Duration // how long before the answer that was, by one clock
	partial bool          // machines with pods of ours are missing
	page    *page         // of kindResource and kindCadvisor
	stats   *podStats     // of kindSummary
	err     error
}

// fresh says whether an answer is good at some time. The peer keeps figures for an interval too: what is left of it counts, or what
// readers are told could be two intervals old.
func (a *told) fresh(now time.Time, interval time.Duration) bool {
	switch {
	case a.err == nil:
		interval = max(interval-a.age, min(interval, askAtMost))
	case !errors.Is(a.err, errNoUsage):
		interval = min(interval, retryAfter)
	}
	return now.Sub(a.at) < interval
}

// peerUsage asks one peer.
type peerUsage struct {
	cfg        UsageConfig
	nextScrape func() uint64
	peer       string
	remote     *rest.Config // as the node gave it; only compared
	client     *http.Client
	base       *url.URL
	group      singleflight.Group // by kind

	mu      sync.Mutex
	answers map[usageKind]*told // guarded by mu
}

// newPeerUsage makes a client of its own, for it alone shows the token to what is behind the API server.
func newPeerUsage(peer string, remote *rest.Config) (*peerUsage, error) {
	config := rest.CopyConfig(remote)
	config.DisableCompression = false
	// The innermost wrapper sees the request last, so with the token on it, whoever put it there.
	config.WrapTransport = transport.Wrappers(repeatToken, config.WrapTransport)
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("reach peer %s: %w", peer, err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("reach peer %s: %w", peer, err)
	}
	// A redirect would take the token elsewhere.
	client = &http.Client{Transport: client.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &peerUsage{
		peer: peer, remote: remote, client: client, base: base.JoinPath(usagePath), answers: map[usageKind]*told{},
	}, nil
}

// close gives up idle connections; what is being read is read to its end.
func (p *peerUsage) close() { utilnet.CloseIdleConnectionsFor(p.client.Transport) }

// tokenRepeater copies the bearer token of a request into a header that passes the peer's API server.
type tokenRepeater struct{ next http.RoundTripper }

func repeatToken(next http.RoundTripper) http.RoundTripper { return &tokenRepeater{next} }

func (t *tokenRepeater) RoundTrip(r *http.Request) (*http.Response, error) {
	if token := r.Header.Get("Authorization"); strings.HasPrefix(token, "Bearer ") {
		r = utilnet.CloneRequest(r)
		r.Header.Set(headerToken, token)
	}
	return t.next.RoundTrip(r)
}

// WrappedRoundTripper implements utilnet.RoundTripperWrapper, by which connections are found to be closed.
func (t *tokenRepeater) WrappedRoundTripper() http.RoundTripper { return t.next }

// get returns the newest answer. Who comes while one is on its way waits for it, until ctx ends: it is for others too.
func (p *peerUsage) get(ctx context.Context, what usageKind) (*told, error) {
	if a := p.kept(what); a != nil {
		return a, a.err
	}
	shared := context.WithoutCancel(ctx)
	result := p.group.DoChan(string(what), func() (any, error) {
		if a := p.kept(what); a != nil { // it came since
			return a, nil
		}
		a := p.fetch(shared, what)
		p.keep(a)
		return a, nil
	})
	limit := time.NewTimer(answerWithin) // a token may be waited for without a context
	defer limit.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-limit.C:
		return nil, fmt.Errorf("ask peer %s for %s: %w", p.peer, what, errSlow)
	case got := <-result:
		a := got.Val.(*told)
		return a, a.err
	}
}

// kept is the answer that is still good, if any.
func (p *peerUsage) kept(what usageKind) *told {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.answers[what]; a != nil && a.fresh(p.cfg.Now(), p.cfg.Interval) {
		return a
	}
	return nil
}

// keep keeps an answer until nobody can want it any more: those of large peers are large.
func (p *peerUsage) keep(a *told) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[a.kind] = a
	time.AfterFunc(2*p.cfg.Interval, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.answers[a.kind] == a {
			delete(p.answers, a.kind)
		}
	})
}

// fetch asks the peer.
func (p *peerUsage) fetch(ctx context.Context, what usageKind) *told {
	a := &told{kind: what, scrape: p.nextScrape(), at: p.cfg.Now()}
	a.scraped = a.at.UnixMilli()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	end := time.AfterFunc(answerWithin, func() { cancel(errSlow) })
	defer end.Stop()
	if err := p.read(ctx, cancel, a); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
			p.close() // a connection that is dead must not cost the next reader too
		}
		a.err = err
		if !errors.Is(err, errNoUsage) {
			a.err = fmt.Errorf("ask peer %s for %s: %w", p.peer, what, err)
		}
	}
	return a
}

// read does the request and reads the answer as it comes.
func (p *peerUsage) read(ctx context.Context, cancel context.CancelCauseFunc, a *told) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base.JoinPath(string(a.kind)).String(), nil)
	if err != nil {
		return err
	}
	begin := time.AfterFunc(beginWithin, func() { cancel(errSlow) })
	defer begin.Stop()
	response, err := p.client.Do(request)
	if err != nil {
		p.close() // of a connection that outlived an outage nobody can tell
		return err
	}
	begin.Stop()
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return p.refusal(response)
	}
	a.readHeader(response.Header)
	body := &bounded{from: response.Body, left: maxAnswer}
	if a.kind == kindSummary {
		a.stats, err = readStats(body)
		return err
	}
	if a.page, err = readPage(body); err == nil && a.page.unread > 0 {
		p.cfg.Log.Warn("lines of a peer's usage are not in the text format", zap.String("peer", p.peer),
			zap.String("kind", string(a.kind)), zap.Int("lines", a.page.unread))
	}
	return err
}

// readHeader reads what an answer says of itself.
func (a *told) readHeader(h http.Header) {
	if millis, err := strconv.ParseInt(h.Get(headerScraped), 10, 64); err == nil && millis > 0 {
		a.scraped = millis
		if sent, err := http.ParseTime(h.Get("Date")); err == nil { // in whole seconds
			a.age = max(0, sent.Sub(time.UnixMilli(millis)))
		}
	}
	failed := h.Get(headerFailed)
	a.partial = failed != "" && failed != "0"
}

// refusal puts an answer without figures into a sentence. A Status (JSON) is the API server's own: the usage service writes text.
func (p *peerUsage) refusal(response *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10)) // what could be read of it
	var status metav1.Status
	if json.Unmarshal(text, &status) != nil || status.Kind != "Status" {
		return fmt.Errorf("its usage service answers %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	switch response.StatusCode {
	case http.StatusNotFound, http.StatusForbidden, http.StatusServiceUnavailable:
		return fmt.Errorf("peer %s %w (%s)", p.peer, errNoUsage, status.Message)
	}
	return fmt.Errorf("its API server answers %s: %s", response.Status, status.Message)
}

// bounded reads no more than what is left, and then fails: half an answer must not be taken for a whole one.
type bounded struct {
	from io.Reader
	left int64
}

func (b *bounded) Read(to []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLong
	}
	if int64(len(to)) > b.left {
		to = to[:b.left]
	}
	n, err := b.from.Read(to)
	b.left -= int64(n)
	return n, err
}
