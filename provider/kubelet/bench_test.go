package kubelet

import (
	"io"
	"net/http"
	"testing"
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
