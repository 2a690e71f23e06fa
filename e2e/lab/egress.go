package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab/realnode"
)

// egress leads an API server to the nodes, pods and Services of its cluster,
// which are in networks of their own: of two clusters they may have the same
// addresses. It is a proxy (HTTP CONNECT on a Unix socket) that dials from
// inside a real node of the cluster, whose kube-proxy knows the Services. The
// API server is sent there by an EgressSelectorConfiguration, see
// https://kep.k8s.io/1281.
type egress struct {
	dial   func(ctx context.Context, address string) (net.Conn, error)
	server *http.Server
	served chan struct{}

	mu     sync.Mutex // guards open and closed
	open   map[net.Conn]struct{}
	closed bool
	wg     sync.WaitGroup
}

// egressConfig sends all that is meant for the cluster through the socket.
const egressConfig = `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport: {uds: {udsName: %q}}
`

// serveEgress listens on a Unix socket until close.
func serveEgress(ctx context.Context, socket string, dial func(context.Context, string) (net.Conn, error)) (*egress, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen for the API server: %w", err)
	}
	e := &egress{dial: dial, served: make(chan struct{}), open: map[net.Conn]struct{}{}}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(e.served)
		_ = e.server.Serve(ln) // until close
	}()
	return e, nil
}

// ServeHTTP answers CONNECT.
func (e *egress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	far, err := e.dial(r.Context(), r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, _, err := http.NewResponseController(w).Hijack() // nothing is buffered: the caller waits for the answer
	if err != nil {
		return
	}
	defer near.Close()
	if !e.keep(near, far) {
		return
	}
	defer e.forget(near, far)
	if _, err := fmt.Fprint(near, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { passOn(far, near) })
	passOn(near, far)
	both.Wait()
}

// passOn copies until the end of from, and tells to that there is no more.
func passOn(to, from net.Conn) {
	_, _ = io.Copy(to, from) // either end may go at any time
	if w, ok := to.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}

// keep notes connections that close has to end; false when it is too late.
func (e *egress) keep(conns ...net.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.wg.Add(1)
	for _, c := range conns {
		e.open[c] = struct{}{}
	}
	return true
}

func (e *egress) forget(conns ...net.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range conns {
		delete(e.open, c)
	}
	e.wg.Done()
}

// close ends all connections and waits for those who serve them.
func (e *egress) close() {
	_ = e.server.Close()
	<-e.served
	e.mu.Lock()
	e.closed = true
	for c := range e.open {
		_ = c.Close()
	}
	e.mu.Unlock()
	e.wg.Wait()
}

// startEgress serves the cluster's API server, which need not run yet.
func (c *Cluster) startEgress(ctx context.Context) error {
	var err error
	c.egress, err = serveEgress(ctx, c.layout.egressSocket(), c.dialInside)
	return err
}

// dialInside connects with an address as the cluster's nodes see it: from the
// first of them that runs. What listens on this machine alone, such as
// metrics-server, is reached from here.
func (c *Cluster) dialInside(ctx context.Context, address string) (net.Conn, error) {
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().IsLoopback() {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	nodes, err := realnode.Open(realDir(c.lab.Name())) // also before all nodes are ready
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, node := range c.lab.real.names(c.index) {
		conn, err := nodes.Dial(ctx, node, address)
		if !errors.Is(err, realnode.ErrNotRunning) {
			return conn, err
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
