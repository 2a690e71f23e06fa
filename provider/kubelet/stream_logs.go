package kubelet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// copyBuffer is what a log is copied through: all that was read ahead. maxError is how much of an error is read.
	copyBuffer = aheadMost
	maxError   = 64 << 10
)

// logs serves /containerLogs. Every piece goes on as it comes: a follower sees a line at once.
//
// What is wrong with the peer is answered as 502 rather than 503: of that, API servers hand the sentence on to `kubectl logs`.
func (s *streams) logs(w http.ResponseWriter, r *http.Request) {
	t, p, err := s.way(r, http.StatusBadGateway)
	if err != nil {
		s.refuse(w, "logs", err)
		return
	}
	location := p.location(t.namespace, t.pod, "log", logQuery(r.URL.Query(), t.container))
	proxy := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL, pr.Out.Host = location, location.Host
			pr.Out.Header = http.Header{} // the credential comes with the transport
			pr.Out.Body, pr.Out.ContentLength = http.NoBody, 0
		},
		Transport: p.logs, FlushInterval: -1, BufferPool: s,
		ModifyResponse: s.plain,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				s.log.Debug("peer did not send a log", zap.Error(err))
				answer(w, refusal{http.StatusBadGateway, s.unreachable(err)})
			}
		},
		ErrorLog: zap.NewStdLog(s.log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))),
	}
	s.streaming("logs", func() { proxy.ServeHTTP(w, r) })
}

// plain makes an answer of the peer's API server one of a kubelet: text, and errors as sentences, not as Status objects.
func (s *streams) plain(response *http.Response) error {
	header := http.Header{"Content-Type": {"text/plain"}}
	if length := response.Header.Get("Content-Length"); length != "" {
		header.Set("Content-Length", length)
	}
	response.Header = header
	if response.StatusCode < http.StatusBadRequest {
		response.Body = newReadAhead(response.Body)
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxError))
	_ = response.Body.Close() // read as far as wanted
	if err != nil {
		return err
	}
	return s.refused(response, sentence(body))
}

// refused puts a sentence in the place of a response's body.
func (s *streams) refused(response *http.Response, text string) error {
	if response.StatusCode == http.StatusUnauthorized { // not the caller's credential but ours
		response.StatusCode = http.StatusBadGateway
		text = fmt.Sprintf("peer %s refuses the credential of this cluster: %s", s.node.Peer(), text)
	}
	response.Status = ""
	response.Body = io.NopCloser(bytes.NewBufferString(text))
	response.ContentLength = int64(len(text))
	response.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return nil
}

// sentence of a Status object; anything else is one already.
func sentence(body []byte) string {
	var status metav1.Status
	if err := json.Unmarshal(body, &status); err == nil && status.Message != "" {
		return status.Message
	}
	return string(body)
}

// Get implements httputil.BufferPool.
func (s *streams) Get() []byte {
	if b, ok := s.buffers.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, copyBuffer)
}

// Put implements httputil.BufferPool.
func (s *streams) Put(b []byte) { s.buffers.Put(&b) }
