package kubelet

import (
	"io"
	"net/http"
	"net/url"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// BenchmarkLog compares a log asked of the peer with the same asked of the node, in pieces as an API server writes it.
func BenchmarkLog(b *testing.B) {
	const size, piece = 64 << 20, 1 << 10
	w := newWorld(b)
	w.peer.log = func(rw http.ResponseWriter, _ *http.Request) {
		line := make([]byte, piece)
		flush := http.NewResponseController(rw)
		for range size / piece {
			if _, err := rw.Write(line); err != nil {
				return
			}
			_ = flush.Flush()
		}
	}
	direct, err := newPeer(w.node.remote, answerTimeout)
	if err != nil {
		b.Fatal(err)
	}
	for name, client := range map[string]struct {
		*http.Client
		url string
	}{
		"peer, HTTP/1.1": {&http.Client{Transport: direct.logs}, direct.location("west-shop", "web", "log", nil).String()},
		"peer, HTTP/2":   {w.peer.server.Client(), w.peer.server.URL + "/api/v1/namespaces/west-shop/pods/web/log"},
		"node, HTTP/2":   {w.kubelet.Client(), w.kubelet.URL + "/containerLogs/shop/web/main"},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, client.url, nil)
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+tenantToken)
				response, err := client.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, response.Body)
				if err != nil || n != size {
					b.Fatal(n, err)
				}
				_ = response.Body.Close()
			}
		})
	}
}

// BenchmarkExec compares an exec asked of the peer with the same asked of the node.
func BenchmarkExec(b *testing.B) {
	w := newWorld(b)
	for name, target := range map[string]struct {
		config *rest.Config
		url    string
	}{
		"peer": {w.peer.config(), w.peer.server.URL + "/api/v1/namespaces/west-shop/pods/web/exec?container=main&command=true&stdout=true"},
		"node": {w.caller, w.kubelet.URL + "/exec/shop/web/main?command=true&output=1"},
	} {
		u, err := url.Parse(target.url)
		if err != nil {
			b.Fatal(err)
		}
		e, err := remotecommand.NewSPDYExecutor(target.config, http.MethodPost, u)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := e.StreamWithContext(b.Context(), remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
					b.Fatal(err)
				}
				<-w.peer.ended
			}
		})
	}
}
