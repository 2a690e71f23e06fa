package kubelet

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

// upgrade sends an exec over a connection of its own and gives that back after the header of the answer.
func upgrade(t *testing.T, server *httptest.Server) (net.Conn, *http.Response) {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(server.URL, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, "POST /exec/shop/web/main?command=cat&input=1 HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return conn, response
}

// ended fails the test when a connection is not closed soon.
func ended(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("connection is not closed: %v", err)
	}
}

// switcher is a peer that takes every upgrade and hands its connections out.
func switcher(t *testing.T) (*rest.Config, <-chan net.Conn) {
	t.Helper()
	conns := make(chan net.Conn, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
		conns <- conn
	}))
	t.Cleanup(s.Close)
	return &rest.Config{Host: s.URL}, conns
}

func TestStreams_OneEndEndsTheOther(t *testing.T) {
	ctx, shutdown := context.WithCancel(t.Context())
	defer shutdown()
	remote, conns := switcher(t)
	node := &fakeNode{pods: []*corev1.Pod{webPod()}, remote: remote}
	s := httptest.NewUnstartedServer(NewHandler(HandlerConfig{Node: node, Auth: everyone{}, Log: zap.NewNop()}))
	s.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	s.StartTLS()
	t.Cleanup(s.Close)
	for _, row := range []struct {
		name string
		end  func(client, peer net.Conn)
	}{
		{"client", func(client, _ net.Conn) { _ = client.Close() }},
		{"peer", func(_, peer net.Conn) { _ = peer.Close() }},
		{"server", func(net.Conn, net.Conn) { shutdown() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			client, response := upgrade(t, s)
			if response.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(response.Status)
			}
			peer := <-conns
			defer func() { _ = peer.Close() }()
			row.end(client, peer)
			if row.name != "client" {
				ended(t, client)
			}
			if row.name != "peer" {
				ended(t, peer)
			}
		})
	}
}

// A caller that pings while a peer says its last, as SPDY's and WebSocket's do every five seconds, hears all of it.
func TestStreams_LastWordsArrive(t *testing.T) {
	const size = 8 << 20
	remote, conns := switcher(t)
	node := &fakeNode{pods: []*corev1.Pod{webPod()}, remote: remote}
	s := httptest.NewUnstartedServer(NewHandler(HandlerConfig{Node: node, Auth: everyone{}, Log: zap.NewNop()}))
	s.StartTLS()
	t.Cleanup(s.Close)
	for name, polite := range map[string]bool{"a peer that still listens": true, "a peer that is gone": false} {
		t.Run(name, func(t *testing.T) {
			client, response := upgrade(t, s)
			if response.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(response.Status)
			}
			peer := (<-conns).(*net.TCPConn)
			go func() {
				_, _ = peer.Write(make([]byte, size))
				_ = peer.CloseWrite()
				if polite {
					_, _ = io.Copy(io.Discard, peer)
				}
				_ = peer.Close()
			}()
			go func() {
				for ping := []byte("ping"); ; {
					if _, err := client.Write(ping); err != nil {
						return
					}
				}
			}()
			slower := time.NewTicker(100 * time.Microsecond) // than the peer
			defer slower.Stop()
			var got int
			for buffer := make([]byte, 64<<10); ; {
				n, err := client.Read(buffer)
				if got += n; err != nil {
					break
				}
				<-slower.C
			}
			if polite && got != size {
				t.Errorf("got %d of %d bytes", got, size)
			}
			t.Logf("%d of %d bytes", got, size)
		})
	}
}

// A peer that takes the connection and then says nothing is not waited for without end, nor longer than the client.
func TestStreams_SilentPeer(t *testing.T) {
	node := &fakeNode{pods: []*corev1.Pod{webPod()}, remote: &rest.Config{Host: "http://" + silent(t)}}
	s := &streams{node: node, log: zap.NewNop(), answer: 100 * time.Millisecond}
	for name, h := range map[string]http.HandlerFunc{"exec": s.upgraded("exec", execQuery), "logs": s.logs} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header = upgradeRequest()
		r.SetPathValue("namespace", "shop")
		r.SetPathValue("pod", "web")
		r.SetPathValue("container", "main")
		w := httptest.NewRecorder()
		h(w, r)
		if got := fmt.Sprintf("%d %s", w.Code, w.Body.String()); w.Code < 502 || !strings.Contains(got, "peer west does not answer: ") {
			t.Errorf("%s: %s", name, got)
		}
		s.peer, s.answer = nil, time.Hour
		ctx, leave := context.WithTimeout(t.Context(), 50*time.Millisecond)
		h(httptest.NewRecorder(), r.WithContext(ctx)) // returns
		leave()
		s.peer, s.answer = nil, 100*time.Millisecond
	}
}
