package kubelet

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	certutil "k8s.io/client-go/util/cert"
)

// namedNode is a Node that has nothing but a name.
type namedNode struct {
	Node
	name string
}

func (n namedNode) Name() string { return n.name }

// sayName answers with the name of the node; /hang and /stream last until the connection ends.
func sayName(n Node) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("/name", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, n.Name()) })
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})
	return mux, nil
}

func selfSigned(t *testing.T) *tls.Certificate {
	t.Helper()
	cert, key, err := certutil.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

// freePort is a port from which on some are free.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func testServer(t *testing.T) *Server {
	pair := selfSigned(t)
	return NewServer(ServerConfig{
		Address: netip.MustParseAddr("127.0.0.1"), FirstPort: freePort(t), Handler: sayName, Log: zaptest.NewLogger(t),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair, nil },
	})
}

// serve runs a node until stop, which waits.
func listen(t *testing.T, s *Server, name string) (port uint16, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	listening, done := make(chan uint16, 1), make(chan error, 1)
	go func() { done <- s.Serve(ctx, namedNode{name: name}, func(port uint16) { listening <- port }) }()
	select {
	case port = <-listening:
	case err := <-done:
		t.Fatalf("node %s: %v", name, err)
	}
	return port, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("node %s: %v", name, err)
		}
	})
}

func clientOf(t *testing.T) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func get(t *testing.T, client *http.Client, port uint16, path string) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	return client.Do(request)
}

func wantName(t *testing.T, client *http.Client, port uint16, name string) {
	t.Helper()
	answer, err := get(t, client, port, "/name")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || string(body) != name {
		t.Errorf("port %d answers %q (%v), want %q", port, body, err, name)
	}
}

func TestServer_NodesHaveTheirOwnPorts(t *testing.T) {
	s, client := testServer(t), clientOf(t)
	east, stopEast := listen(t, s, "east")
	west, stopWest := listen(t, s, "west")
	defer stopWest()
	wantName(t, client, east, "east")
	wantName(t, client, west, "west")

	stopEast()
	if answer, err := get(t, client, east, "/name"); err == nil {
		answer.Body.Close()
		t.Error("a node that is not served answers")
	}
	wantName(t, client, west, "west")
	again, stop := listen(t, s, "east")
	defer stop()
	if again != east {
		t.Errorf("the node has port %d now, had %d", again, east)
	}
}

// TestServer_Hundreds of nodes fit into a process, and all of them stop.
func TestServer_Hundreds(t *testing.T) {
	s, client := testServer(t), clientOf(t)
	before, began := runtime.NumGoroutine(), time.Now()
	seen := map[uint16]bool{}
	var stops []func()
	for i := range 300 {
		port, stop := listen(t, s, fmt.Sprint("node-", i))
		seen[port], stops = true, append(stops, stop)
		if i == 299 {
			wantName(t, client, port, "node-299")
		}
	}
	took, goroutines := time.Since(began), runtime.NumGoroutine()-before
	t.Logf("300 nodes in %s, with %d goroutines", took, goroutines)
	if len(seen) != 300 {
		t.Errorf("300 nodes have %d ports", len(seen))
	}
	if goroutines > 2*300 {
		t.Errorf("300 nodes that nobody asks have %d goroutines", goroutines)
	}
	for _, stop := range stops {
		stop()
	}
}

// TestServer_StopLeavesNothing: requests, streams that left http.Server, idle connections and strangers that say nothing end.
func TestServer_StopLeavesNothing(t *testing.T) {
	s, client := testServer(t), clientOf(t)
	before := runtime.NumGoroutine()
	port, stop := listen(t, s, "east")
	wantName(t, client, port, "east")

	hanging, err := get(t, client, port, "/hang")
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Body.Close()
	stream, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	fmt.Fprint(stream, "GET /stream HTTP/1.1\r\nHost: east\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
	first := make([]byte, len("HTTP/1.1 101"))
	if _, err := io.ReadFull(stream, first); err != nil || !strings.HasSuffix(string(first), "101") {
		t.Fatalf("%q, %v", first, err)
	}
	silent, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	stop()
	if _, err := io.ReadAll(hanging.Body); err == nil {
		t.Error("a request that was cut ends as if it were complete")
	}
	if _, err := io.Copy(io.Discard, stream); err != nil && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the stream ends with %v", err)
	}
	client.CloseIdleConnections()
	eventually(t, func() bool { return runtime.NumGoroutine() <= before }, func() string {
		stacks := make([]byte, 1<<16)
		return string(stacks[:runtime.Stack(stacks, true)])
	})
}

// TestServer_NoCertificate: the handshake fails, and works as soon as there is one.
func TestServer_NoCertificate(t *testing.T) {
	s, client := testServer(t), clientOf(t)
	certificate, err := NewCertificate(CertificateConfig{})
	if err != nil {
		t.Fatal(err)
	}
	working := s.cfg.Certificate
	s.cfg.Certificate = certificate.Get
	port, stop := listen(t, s, "east")
	if _, err := get(t, client, port, "/name"); err == nil || !strings.Contains(err.Error(), "tls:") {
		t.Errorf("without a certificate: %v", err)
	}
	stop()
	s.cfg.Certificate = working
	port, stop = listen(t, s, "east")
	defer stop()
	wantName(t, client, port, "east")
}

func TestServer_ErrorsNameTheNode(t *testing.T) {
	s := testServer(t)
	s.cfg.Address = netip.MustParseAddr("192.0.2.1") // nobody's (RFC 5737)
	err := s.Serve(t.Context(), namedNode{name: "east"}, func(uint16) { t.Error("listens on an address of another machine") })
	if err == nil || !strings.Contains(err.Error(), "node east") {
		t.Errorf("error %v, want one that names the node", err)
	}
}

func eventually(t *testing.T, is func() bool, otherwise func() string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatal(otherwise())
		}
		<-time.After(5 * time.Millisecond)
	}
}
