package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/util/connrotation"
)

const (
	// headerTimeout bounds the TLS handshake too: whoever says nothing does not hold a connection.
	headerTimeout = 10 * time.Second
	// idleTimeout is that of a kubelet, longer than the interval of usual scrapers.
	idleTimeout = 90 * time.Second
	// maxHeaderBytes is that of a kubelet.
	maxHeaderBytes = 1 << 20
)

// ServerConfig says where the virtual nodes of a process are served, and by what.
type ServerConfig struct {
	// Address is that of all nodes; FirstPort the first port to try for a node that has had none.
	Address   netip.Addr
	FirstPort uint16
	// Certificate gives the certificate of all nodes, for a new connection. Its errors end the handshake.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Handler answers for a node. It is called once per Serve.
	Handler func(Node) (http.Handler, error)
	Log     *zap.Logger
}

// Server serves the kubelet APIs of virtual nodes, each on its own port. Safe for concurrent use.
type Server struct {
	cfg   ServerConfig
	ports *ports
}

// NewServer returns a Server that listens nowhere yet.
func NewServer(cfg ServerConfig) *Server { return &Server{cfg: cfg, ports: newPorts(cfg.FirstPort)} }

// Address is where all nodes listen.
func (s *Server) Address() netip.Addr { return s.cfg.Address }

// Keep notes the port that a node has had: it gets it again if that is free, and no other node does.
func (s *Server) Keep(node string, port uint16) { s.ports.keep(node, port) }

// Forget is to be called when a node is gone for good, and no longer served.
func (s *Server) Forget(node string) { s.ports.forget(node) }

// Serve answers for a node until ctx ends, and tells listening its port as soon as connections are taken. Then it closes all
// connections, those too that streams have taken over, and returns when the requests have ended. An error says why the node is
// not served; nothing is left running then either.
func (s *Server) Serve(ctx context.Context, node Node, listening func(port uint16)) error {
	handler, err := s.cfg.Handler(node)
	if err != nil {
		return fmt.Errorf("make the kubelet API of node %s: %w", node.Name(), err)
	}
	listener, port, err := s.ports.listen(node.Name(), s.bind)
	if err != nil {
		return fmt.Errorf("listen for the kubelet API of node %s: %w", node.Name(), err)
	}
	defer func() { _ = listener.Close() }() // closed already, but where ServeTLS does not like its configuration
	// Requests see the end after their connections are cut: an answer that ended before would look complete.
	base, release := context.WithCancel(context.WithoutCancel(ctx))
	var requests requests
	server, conns := s.server(base, requests.counted(handler)), connrotation.NewConnectionTracker()
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // the error is that of the listener, which Serve returns too
	listening(port)
	err = server.ServeTLS(trackedListener{listener, conns}, "", "")
	stop()
	requests.end(func() { conns.CloseAll(); release() })
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the kubelet API of node %s: %w", node.Name(), err)
}

func (s *Server) bind(port uint16) (net.Listener, error) {
	return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.cfg.Address, port)))
}

// server is set up as that of a kubelet: clients may show a certificate, which the handler judges. Streams have no time limit.
func (s *Server) server(ctx context.Context, handler http.Handler) *http.Server {
	errorLog, err := zap.NewStdLogAt(s.cfg.Log, zap.DebugLevel) // what strangers send is not worth more
	if err != nil {
		panic(err) // only for a level that does not exist
	}
	return &http.Server{
		Handler: handler, ErrorLog: errorLog, BaseContext: func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: s.cfg.Certificate, ClientAuth: tls.RequestClientCert,
		},
	}
}

// trackedListener notes its connections, so that those can be closed that http.Server gave away.
type trackedListener struct {
	net.Listener
	conns *connrotation.ConnectionTracker
}

func (l trackedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.conns.Track(conn), nil
}

// requests counts those under way. The zero value takes them.
type requests struct {
	mu    sync.Mutex
	ended bool // guarded by mu
	wg    sync.WaitGroup
}

func (r *requests) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.wg.Add(1)
	return true
}

// end lets no request begin any more, calls interrupt, and waits for those under way.
func (r *requests) end(interrupt func()) {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	interrupt()
	r.wg.Wait()
}

func (r *requests) counted(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if r.begin() {
			defer r.wg.Done()
			handler.ServeHTTP(w, request)
		}
	})
}
