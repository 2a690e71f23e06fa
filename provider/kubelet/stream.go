package kubelet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/proxy"
)

// errNoAnswer: the peer took the connection and said nothing.
var errNoAnswer = errors.New("it took the connection and said nothing")

// errNoWay: nobody can be asked.
var errNoWay = errors.New("there is no connection to it")

// refusal is an answer that needs no peer.
type refusal struct {
	code     int // of HTTP
	sentence string
}

func (r refusal) Error() string { return r.sentence }

// streams hands requests for the containers of one node on to the peer. Safe for concurrent use.
type streams struct {
	node   Node
	log    *zap.Logger
	answer time.Duration // how long the peer may take; answerTimeout but for tests

	buffers sync.Pool // of *[]byte, for logs

	mu   sync.Mutex
	peer *peer // guarded by mu; nil before the first stream
}

// target is what a request is about.
type target struct {
	namespace string // at the peer
	pod       string
	container string // empty when the request is about none
}

// find looks up what a request is about among the pods of the node.
func (s *streams) find(r *http.Request) (target, error) {
	namespace, name, container := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")
	pod, ok := s.node.Pod(namespace, name)
	if !ok {
		return target{}, refusal{http.StatusNotFound, fmt.Sprintf("pod %q does not exist", name)}
	}
	if uid := r.PathValue("uid"); uid != "" && types.UID(uid) != pod.UID {
		return target{}, refusal{http.StatusNotFound, fmt.Sprintf("pod %q with uid %s not found", name, uid)}
	}
	if container != "" && !hasContainer(&pod.Spec, container) {
		return target{}, refusal{http.StatusNotFound, fmt.Sprintf("container %q not found in pod %q", container, name)}
	}
	remote, ok := s.node.RemoteNamespace(namespace)
	if !ok {
		return target{}, refusal{http.StatusNotFound,
			fmt.Sprintf("pod %q not found at peer %s: namespace %s is not offloaded there", name, s.node.Peer(), namespace)}
	}
	if s.node.Absent(pod) {
		return target{}, refusal{http.StatusBadRequest, fmt.Sprintf("pod %q is waiting to start: it is not at peer %s yet", name, s.node.Peer())}
	}
	return target{namespace: remote, pod: name, container: container}, nil
}

func hasContainer(spec *corev1.PodSpec, name string) bool {
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return true
			}
		}
	}
	for i := range spec.EphemeralContainers {
		if spec.EphemeralContainers[i].Name == name {
			return true
		}
	}
	return false
}

// reach gives the way to the peer; the error says why there is none now.
func (s *streams) reach() (*peer, error) {
	if err := s.node.Lost(); err != nil {
		return nil, err
	}
	config := s.node.Remote()
	if config == nil {
		return nil, errNoWay
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peer != nil && s.peer.config == config {
		return s.peer, nil
	}
	p, err := newPeer(config, s.answer)
	if err != nil {
		return nil, err
	}
	s.peer = p
	return p, nil
}

// unreachable is what a caller is told when the peer is not.
func (s *streams) unreachable(err error) string {
	return fmt.Sprintf("peer %s does not answer: %v", s.node.Peer(), err)
}

// way finds what a request is about and how the peer is reached. The error is a refusal; away is its code when the peer cannot be.
func (s *streams) way(r *http.Request, away int) (target, *peer, error) {
	t, err := s.find(r)
	if err != nil {
		return t, nil, err
	}
	p, err := s.reach()
	if err != nil {
		return t, nil, refusal{away, s.unreachable(err)}
	}
	return t, p, nil
}

// upgraded serves a subresource whose connection is handed over: exec, attach, portforward.
func (s *streams) upgraded(subresource string, query func(url.Values, string) url.Values) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t, p, err := s.way(r, http.StatusServiceUnavailable)
		if err != nil {
			s.refuse(w, subresource, err)
			return
		}
		s.streaming(subresource, func() {
			s.handOver(w, r, p, p.location(t.namespace, t.pod, subresource, query(r.URL.Query(), t.container)))
		})
	}
}

// handOver joins the caller's connection with one to the peer, until either ends.
func (s *streams) handOver(w http.ResponseWriter, r *http.Request, p *peer, location *url.URL) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	limit := time.AfterFunc(s.answer, func() { cancel(errNoAnswer) })
	defer limit.Stop()
	ctx = logr.NewContext(ctx, logr.Discard()) // what clients do to their connections is no error of ours

	// No RemoteAddr: the peer needs not know who the caller is. No body: what comes after the header belongs to the protocol.
	out := (&http.Request{
		Method: r.Method, URL: r.URL, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: location.Host,
		Header: upgradeHeader(r.Header), Body: http.NoBody,
	}).WithContext(ctx)
	if r.Header.Get("Upgrade") == "" {
		out.Header.Del("Connection")
	}
	handler := proxy.NewUpgradeAwareHandler(location, p.upgrade, false, true, s)
	handler.UpgradeTransport, handler.UseLocationHost = p.upgrade, true
	handler.ServeHTTP(answered{w, limit.Stop}, out)
}

// Error implements proxy.ErrorResponder, for everything that goes wrong before the connections are joined.
func (s *streams) Error(w http.ResponseWriter, r *http.Request, err error) {
	var status apierrors.APIStatus
	switch cause := context.Cause(r.Context()); {
	case errors.As(err, &status):
		answer(w, refusal{int(status.Status().Code), status.Status().Message})
	case errors.Is(cause, errNoAnswer):
		answer(w, refusal{http.StatusServiceUnavailable, s.unreachable(errNoAnswer)})
	case cause != nil: // nobody is there to be told
	default:
		s.log.Debug("peer did not take a stream", zap.Error(err))
		answer(w, refusal{http.StatusServiceUnavailable, s.unreachable(err)})
	}
}

// answered notes that the peer has answered: only then is the caller's connection taken over.
type answered struct {
	http.ResponseWriter
	note func() bool
}

// Unwrap is for http.ResponseController.
func (a answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack implements http.Hijacker.
func (a answered) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.note()
	conn, buffered, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return newCallerConn(conn), buffered, nil
}

// answer tells a caller why there is nothing for him, in text as a kubelet does.
func answer(w http.ResponseWriter, err error) {
	code := http.StatusServiceUnavailable
	if r, ok := errors.AsType[refusal](err); ok {
		code = r.code
	}
	http.Error(w, err.Error(), code)
}
