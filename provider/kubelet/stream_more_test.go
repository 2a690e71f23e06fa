package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

func TestStreams_PortForward(t *testing.T) {
	w := newWorld(t)
	u := w.url(t, "/portForward/shop/web")
	transport, upgrader, err := spdy.RoundTripperFor(w.caller)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := portforward.NewSPDYOverWebsocketDialerForStreaming(u, w.caller)
	if err != nil {
		t.Fatal(err)
	}
	for name, dialer := range map[string]httpstream.Dialer{
		"SPDY":      spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, u),
		"WebSocket": socket,
	} {
		t.Run(name, func(t *testing.T) {
			stop, ready := make(chan struct{}), make(chan struct{})
			f, err := portforward.NewOnAddressesForStreaming(dialer, []string{"127.0.0.1"}, []string{"0:8080"}, stop, ready, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- f.ForwardPorts() }()
			within(t, "ready", ready)
			ports, err := f.GetPorts()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // one after the other through the same stream
				expectEcho(t, fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
			}
			close(stop)
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func expectEcho(t *testing.T, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "hello\x00"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "8080:hello\x00" {
		t.Errorf("%v, %q", err, got)
	}
}

// hostile is what a caller sends who would like to be somebody else at the peer.
func hostile() http.Header {
	return http.Header{
		"Authorization": {"Bearer caller-token"}, "Cookie": {"session=1"}, "Impersonate-User": {"admin"},
		"Impersonate-Group": {"system:masters"}, "Impersonate-Uid": {"1"}, "Impersonate-Extra-Scopes": {"all"},
		"X-Remote-User": {"admin"}, "X-Remote-Group": {"system:masters"}, "X-Remote-Extra-Scopes": {"all"}, "X-Remote-Uid": {"1"},
		"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"evil"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"for=192.0.2.1"},
		"User-Agent": {"caller"}, "Spillway-Authorization": {"Bearer caller-token"}, "Te": {"trailers"}, "Accept-Encoding": {"gzip"},
		"Kubectl-Command": {"kubectl exec"}, "X-Real-Ip": {"192.0.2.1"}, "Via": {"1.1 caller"}, "Proxy-Authorization": {"Basic eDp5"},
	}
}

func TestStreams_CallerStaysUnknownToThePeer(t *testing.T) {
	for name, row := range map[string]struct {
		path  string
		extra http.Header
		want  http.Header
	}{
		"log": {"/containerLogs/shop/web/main", nil, http.Header{"Connection": {"close"}}},
		"log that asks for an upgrade": {"/containerLogs/shop/web/main",
			http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, http.Header{"Connection": {"close"}}},
		"SPDY": {"/exec/shop/web/init?command=true&output=1",
			http.Header{"Connection": {"Upgrade, Impersonate-User"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {"v4.channel.k8s.io"}},
			http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {"v4.channel.k8s.io"}}},
		"WebSocket with a token": {"/exec/shop/web/init?command=true&output=1",
			http.Header{"Connection": {"upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Version": {"13"},
				"Sec-Websocket-Protocol": {"base64url.bearer.authorization.k8s.io.Y2FsbGVy, v5.channel.k8s.io", "v4.channel.k8s.io"}, "Origin": {"https://evil"}},
			http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Version": {"13"},
				"Sec-Websocket-Protocol": {"v5.channel.k8s.io, v4.channel.k8s.io"}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.peer.log = func(http.ResponseWriter, *http.Request) {}
			header := hostile()
			for name, values := range row.extra {
				header[name] = values
			}
			w.get(t, row.path, header)
			requests := w.peer.seen()
			if len(requests) != 1 {
				t.Fatalf("%d requests at the peer, want 1", len(requests))
			}
			row.want.Set("Authorization", "Bearer "+tenantToken)
			row.want.Set("User-Agent", "spillwayd")
			if diff := cmp.Diff(row.want, requests[0].Header); diff != "" {
				t.Errorf("header at the peer (-want +got):\n%s", diff)
			}
			if requests[0].Host != strings.TrimPrefix(w.peer.server.URL, "https://") {
				t.Errorf("Host %q", requests[0].Host)
			}
		})
	}
}

func upgradeRequest() http.Header {
	return http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {"v4.channel.k8s.io"}}
}

func TestStreams_WhatIsNotThereIsSaidWithoutThePeer(t *testing.T) {
	for path, want := range map[string]string{
		"/exec/shop/nobody/main?command=true&output=1":      `404 pod "nobody" does not exist`,
		"/exec/other/web/main?command=true&output=1":        `404 pod "web" does not exist`,
		"/exec/shop/web/nothing?command=true&output=1":      `404 container "nothing" not found in pod "web"`,
		"/attach/shop/web/other-uid/main?output=1":          `404 pod "web" with uid other-uid not found`,
		"/portForward/shop/web/other-uid":                   `404 pod "web" with uid other-uid not found`,
		"/containerLogs/shop/nobody/main":                   `404 pod "nobody" does not exist`,
		"/containerLogs/shop/web/nothing":                   `404 container "nothing" not found in pod "web"`,
		"/containerLogs/alone/web/main":                     `404 pod "web" not found at peer west: namespace alone is not offloaded there`,
		"/run/shop/web/main":                                `404 the kubelet API of a virtual node has no /run/shop/web/main`,
		"/exec/shop/web%2F..%2F..%2Fsecrets/main?command=a": `404 pod "web/../../secrets" does not exist`,
		"/exec/shop/early/main?command=true&output=1":       `400 pod "early" is waiting to start: it is not at peer west yet`,
		"/exec/shop/web/main%2F..?command=true&output=1":    `404 container "main/.." not found in pod "web"`,
	} {
		t.Run(path, func(t *testing.T) {
			w := newWorld(t)
			alone, early := webPod(), webPod()
			alone.Namespace, early.Name = "alone", "early"
			w.node.pods = append(w.node.pods, alone, early)
			code, body := w.get(t, path, upgradeRequest())
			if got := fmt.Sprintf("%d %s", code, body); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if n := len(w.peer.seen()); n != 0 {
				t.Errorf("%d requests at the peer", n)
			}
		})
	}
}

func TestStreams_RefusalsOfThePeerAreHandedOn(t *testing.T) {
	w := newWorld(t)
	code, body := w.get(t, "/exec/shop/web/init?command=true&output=1", upgradeRequest())
	if code != http.StatusForbidden || !strings.Contains(body, `"message":"pods \"web\" is forbidden: not this one"`) {
		t.Errorf("exec: %d %s", code, body)
	}
	code, body = w.get(t, "/containerLogs/shop/web/init", nil)
	if code != http.StatusForbidden || body != `pods "web" is forbidden: not this one` {
		t.Errorf("log: %d %s", code, body)
	}
	if code, body = w.get(t, "/exec/shop/web/main?command=true", nil); code != http.StatusBadRequest || body != "Upgrade request required" {
		t.Errorf("no upgrade: %d %s", code, body)
	}
	remote := w.peer.config()
	remote.BearerToken = "stale"
	w.node.remote = remote // a new credential needs no new handler
	if code, body = w.get(t, "/containerLogs/shop/web/main", nil); code != http.StatusBadGateway || body != "peer west refuses the credential of this cluster: who are you" {
		t.Errorf("stale credential: %d %s", code, body)
	}
}

func TestStreams_PeerThatDoesNotAnswerIsNamedInTime(t *testing.T) {
	hang := func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	for name, row := range map[string]struct {
		remote *rest.Config
		lost   error
		within time.Duration
		want   string
	}{
		"lost":              {&rest.Config{Host: "https://127.0.0.1:1"}, errors.New("no answer for 40s"), time.Second, "no answer for 40s"},
		"no client":         {nil, nil, time.Second, "there is no connection to it"},
		"refused":           {&rest.Config{Host: "https://127.0.0.1:1"}, nil, time.Second, "connection refused"},
		"black hole":        {&rest.Config{Host: "https://127.0.0.1:1", Dial: hang}, nil, 5 * time.Second, "nothing came within 3s"},
		"no handshake":      {&rest.Config{Host: "https://" + silent(t)}, nil, 5 * time.Second, "nothing came within 4s"},
		"not to be trusted": {&rest.Config{Host: newFakePeer(t).server.URL, Dial: (&net.Dialer{}).DialContext}, nil, time.Second, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.node.remote, w.node.lost = row.remote, row.lost
			for path, wantCode := range map[string]int{
				"/exec/shop/web/main?command=true&output=1": http.StatusServiceUnavailable,
				"/containerLogs/shop/web/main":              http.StatusBadGateway,
			} {
				start := time.Now()
				code, body := w.get(t, path, upgradeRequest())
				if took := time.Since(start); took > row.within {
					t.Errorf("%s took %s", path, took)
				}
				if code != wantCode || !strings.HasPrefix(body, "peer west does not answer: ") || !strings.Contains(body, row.want) {
					t.Errorf("%s: %d %s", path, code, body)
				}
			}
		})
	}
}

func TestStreams_LogOptions(t *testing.T) {
	w := newWorld(t)
	w.peer.log = func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, r.URL.Path+" "+r.URL.RawQuery)
	}
	for query, want := range map[string]string{
		"": "container=main",
		"?follow=true&previous=true&timestamps=true&sinceSeconds=5&tailLines=0&limitBytes=9&stream=Stderr": "container=main&follow=true&limitBytes=9&previous=true&sinceSeconds=5&stream=Stderr&tailLines=0&timestamps=true",
		"?sinceTime=2026-01-02T03%3A04%3A05%2B01%3A00":                                                     "container=main&sinceTime=2026-01-02T03%3A04%3A05%2B01%3A00",
		"?container=other&insecureSkipTLSVerifyBackend=true&tail=3":                                        "container=main&tailLines=3",
		"?tail=all&tailLines=4": "container=main",
	} {
		if _, body := w.get(t, "/containerLogs/shop/web/main"+query, nil); body != "/api/v1/namespaces/west-shop/pods/web/log "+want {
			t.Errorf("%s: %s, want %s", query, body, want)
		}
	}
}

// A follower has the header before there is a line, each line as it is written, and the peer ends when the follower does.
func TestStreams_LogIsFollowed(t *testing.T) {
	w := newWorld(t)
	lines, gone := make(chan string), make(chan struct{})
	w.peer.log = func(rw http.ResponseWriter, r *http.Request) {
		defer close(gone)
		rw.WriteHeader(http.StatusOK)
		for {
			_ = http.NewResponseController(rw).Flush()
			select {
			case line := <-lines:
				_, _ = io.WriteString(rw, line)
			case <-r.Context().Done():
				return
			}
		}
	}
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.kubelet.URL+"/containerLogs/shop/web/main?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := w.kubelet.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	for _, line := range []string{"a\n", "\x00\xff\n", "c"} {
		lines <- line
		got := make([]byte, len(line))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != line {
			t.Fatalf("%v, %q, want %q", err, got, line)
		}
	}
	kill()
	within(t, "the peer is told", gone)
}

// A log that breaks off at the peer breaks off here: it must not look complete.
func TestStreams_BrokenLogIsNoWholeOne(t *testing.T) {
	w := newWorld(t)
	w.peer.log = func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, "half")
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	}
	response, err := w.kubelet.Client().Get(w.kubelet.URL + "/containerLogs/shop/web/main")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("%q came without an error", body)
	}
}

// Nothing is left of streams, whether they ended well, were killed, or found nobody.
func TestStreams_LeaveNoGoroutine(t *testing.T) {
	w := newWorld(t)
	w.peer.log = func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
	}
	use := func(n int) {
		for range n {
			for _, e := range executors(t, w, "/exec/shop/web/main?command=cat&input=1&output=1") {
				_ = e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("x"), Stdout: &bytes.Buffer{}})
				ctx, kill := context.WithTimeout(t.Context(), 20*time.Millisecond)
				in, hold := io.Pipe()
				_ = e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: &bytes.Buffer{}})
				kill()
				_ = hold.Close()
			}
			ctx, kill := context.WithTimeout(t.Context(), 20*time.Millisecond)
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, w.kubelet.URL+"/containerLogs/shop/web/main?follow=true", nil)
			if response, err := w.kubelet.Client().Do(r); err == nil {
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
			kill()
		}
	}
	use(10)
	deadline := time.After(10 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		left := goroutinesIn("kubelet.(*streams)", "kubelet.(*peer)", "tryUpgrade", "httputil.(*ReverseProxy)", "http.(*persistConn)")
		if left == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(left)
		}
	}
}

// goroutinesIn gives the stacks with one of the functions. A fake peer keeps some of its own for a while, as a real one does.
func goroutinesIn(functions ...string) string {
	stacks := make([]byte, 4<<20)
	var found []string
	for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if slices.ContainsFunc(functions, func(f string) bool { return strings.Contains(stack, f) }) {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}
