package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/client-go/rest"
)

const (
	// dialTimeout is how long a peer may take to take a connection, connectTimeout until that is ready: a caller is to have an
	// answer within five seconds.
	dialTimeout    = 3 * time.Second
	connectTimeout = 4 * time.Second
	// answerTimeout is how long a peer that took a connection may take to answer. Its API server waits that long for its own
	// kubelets, and has a better sentence than ours when one of those is away.
	answerTimeout = 45 * time.Second
	// readBuffer is that of a log: a whole TLS record.
	readBuffer = 16 << 10
	// sessions is how many TLS sessions are kept for resumption, which takes most of the work out of a new connection.
	sessions = 32
)

// peer is the way to a peer's API server, made once and used by every stream. Safe for concurrent use.
//
// There is one connection per stream, over HTTP/1.1: an upgrade needs that, a log then has the whole of TCP's flow control for
// itself, and nobody waits on a kept connection whose other end is gone.
type peer struct {
	config  *rest.Config // what it was made from
	base    url.URL      // of the API server, with port; its scheme is that on the inside of dial
	tls     *tls.Config  // nil: the peer speaks none
	connect func(ctx context.Context, network, address string) (net.Conn, error)

	logs    http.RoundTripper
	upgrade proxy.UpgradeRequestRoundTripper
}

// newPeer makes the way. Config must not change; answer is how long the header of an answer may take.
func newPeer(config *rest.Config, answer time.Duration) (*peer, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("read the address of the API server: %w", err)
	}
	p := &peer{config: config, base: *base, connect: config.Dial}
	if p.connect == nil {
		p.connect = (&net.Dialer{KeepAlive: 10 * time.Second}).DialContext
	}
	if base.Scheme == "https" {
		if p.tls, err = tlsOf(config, base.Hostname()); err != nil {
			return nil, err
		}
	}
	p.base.Host = withPort(base)
	p.base.Path = "/" + strings.TrimPrefix(base.Path, "/")
	p.base.Scheme = "http" // dial speaks TLS itself, so that its limits hold for that too
	if p.logs, err = rest.HTTPWrappersForConfig(config, &http.Transport{
		DialContext: p.dial, DisableKeepAlives: true, DisableCompression: true,
		ResponseHeaderTimeout: answer, ReadBufferSize: readBuffer,
	}); err != nil {
		return nil, fmt.Errorf("read the credential: %w", err)
	}
	headers, err := rest.HTTPWrappersForConfig(config, proxy.MirrorRequest)
	if err != nil {
		return nil, fmt.Errorf("read the credential: %w", err)
	}
	p.upgrade = proxy.NewUpgradeRequestRoundTripper(&http.Transport{DialContext: p.dialUpgrade}, headers)
	return p, nil
}

// tlsOf is for HTTP/1.1 only: HTTP/2 has no upgrades.
func tlsOf(config *rest.Config, host string) (*tls.Config, error) {
	c, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("read the certificates for the API server: %w", err)
	}
	if c == nil { // nothing said: as every client does, by the CAs of this machine
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.ServerName == "" {
		c.ServerName = host
	}
	c.NextProtos = []string{"http/1.1"}
	c.ClientSessionCache = tls.NewLRUClientSessionCache(sessions)
	return c, nil
}

func withPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// location of a subresource of a pod at the peer.
func (p *peer) location(namespace, pod, subresource string, query url.Values) *url.URL {
	u := p.base.JoinPath("api", "v1", "namespaces", namespace, "pods", pod, subresource)
	u.RawQuery = query.Encode()
	return u
}

// dial connects to the API server, and says so plainly when nothing comes of it in time.
func (p *peer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := p.dialTCP(ctx, network, address)
	if err != nil || p.tls == nil {
		return conn, err
	}
	secure := tls.Client(conn, p.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // there is nothing to lose
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, inTime(err, connectTimeout))
	}
	return secure, nil
}

func (p *peer) dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := p.connect(ctx, network, address)
	if err != nil {
		return nil, inTime(err, dialTimeout)
	}
	return conn, nil
}

// inTime says how long was waited.
func inTime(err error, limit time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("nothing came within %s: %w", limit, err)
	}
	return err
}

// dialUpgrade is dial for a connection that nobody but us closes: it does not outlive the request.
func (p *peer) dialUpgrade(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := p.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return conn, nil
}
