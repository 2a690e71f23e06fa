package kubelet

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	apiproxy "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/client-go/rest"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"
)

const (
	tenantToken = "tenant-token"
	podUID      = "6f1c2b8e-0000-4000-8000-000000000001"
)

// world is a caller's config for a kubelet API, its node, and the peer behind it.
type world struct {
	caller  *rest.Config
	node    *fakeNode
	peer    *fakePeer
	kubelet *httptest.Server
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{peer: newFakePeer(t)}
	w.node = &fakeNode{pods: []*corev1.Pod{webPod()}, remote: w.peer.config()}
	w.kubelet = httptest.NewUnstartedServer(NewHandler(HandlerConfig{Node: w.node, Auth: everyone{}, Log: zap.NewNop()}))
	w.kubelet.EnableHTTP2 = true
	w.kubelet.StartTLS()
	t.Cleanup(w.kubelet.Close)
	w.caller = &rest.Config{Host: w.kubelet.URL, BearerToken: "caller-token", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	return w
}

func (w *world) url(t *testing.T, path string) *url.URL {
	t.Helper()
	u, err := url.Parse(w.kubelet.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func webPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: podUID},
		Spec: corev1.PodSpec{
			Containers:          []corev1.Container{{Name: "main"}},
			InitContainers:      []corev1.Container{{Name: "init"}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug"}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// fakeNode is a Node with fixed answers. Its peer is called west, and namespace shop is west-shop there.
type fakeNode struct {
	pods   []*corev1.Pod
	remote *rest.Config
	lost   error
}

func (n *fakeNode) Name() string         { return "spillway-west" }
func (n *fakeNode) Peer() string         { return "west" }
func (n *fakeNode) Pods() []*corev1.Pod  { return n.pods }
func (n *fakeNode) Remote() *rest.Config { return n.remote }
func (n *fakeNode) Lost() error          { return n.lost }
func (n *fakeNode) Pod(namespace, name string) (*corev1.Pod, bool) {
	for _, pod := range n.pods {
		if pod.Namespace == namespace && pod.Name == name {
			return pod, true
		}
	}
	return nil, false
}
func (n *fakeNode) Absent(pod *corev1.Pod) bool                 { return pod.Name == "early" }
func (n *fakeNode) RemoteNamespace(local string) (string, bool) { return "west-shop", local == "shop" }

// everyone lets everyone in.
type everyone struct{}

func (everyone) AuthenticateRequest(*http.Request) (*authenticator.Response, bool, error) {
	return &authenticator.Response{User: &user.DefaultInfo{Name: "alice"}}, true, nil
}
func (everyone) GetRequestAttributes(u user.Info, _ *http.Request) authorizer.Attributes {
	return authorizer.AttributesRecord{User: u}
}
func (everyone) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionAllow, "", nil
}

// fakePeer is an API server over TLS with a kubelet's streaming server behind it, both made of the code of the real ones.
type fakePeer struct {
	server *httptest.Server
	cri    streaming.Server
	ended  chan struct{} // a process saw its stdin or its client go

	log func(w http.ResponseWriter, r *http.Request) // serves logs

	mu       sync.Mutex
	requests []*http.Request // guarded by mu
}

func newFakePeer(t testing.TB) *fakePeer {
	t.Helper()
	p := &fakePeer{ended: make(chan struct{}, 100)}
	var cri http.Handler
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { cri.ServeHTTP(w, r) }))
	t.Cleanup(backend.Close)
	base, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	config := streaming.DefaultConfig
	config.BaseURL = base
	if p.cri, err = streaming.NewServer(config, p); err != nil {
		t.Fatal(err)
	}
	cri = p.cri
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.server.EnableHTTP2 = true
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	return p
}

// config is that of the tenant.
func (p *fakePeer) config() *rest.Config {
	return &rest.Config{
		Host: p.server.URL, BearerToken: tenantToken, UserAgent: "spillwayd", TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	}
}

func (p *fakePeer) seen() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*http.Request(nil), p.requests...)
}

func (p *fakePeer) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests = append(p.requests, r.Clone(context.WithoutCancel(r.Context())))
	p.mu.Unlock()
	parts := strings.Split(r.URL.Path, "/") // /api/v1/namespaces/NS/pods/NAME/SUB
	switch {
	case r.Header.Get("Authorization") != "Bearer "+tenantToken:
		writeStatus(w, apierrors.NewUnauthorized("who are you"))
	case len(parts) != 8 || parts[4] != "west-shop":
		writeStatus(w, apierrors.NewNotFound(corev1.Resource("pods"), r.URL.Path))
	case r.URL.Query().Get("container") == "init":
		writeStatus(w, apierrors.NewForbidden(corev1.Resource("pods"), parts[6], errors.New("not this one")))
	case parts[7] == "log":
		p.log(w, r)
	default:
		p.stream(w, r, parts[7])
	}
}

func writeStatus(w http.ResponseWriter, err *apierrors.StatusError) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(err.ErrStatus.Code))
	_ = json.NewEncoder(w).Encode(err.ErrStatus)
}

// stream does what pods/exec, attach and portforward do in an API server.
func (p *fakePeer) stream(w http.ResponseWriter, r *http.Request, sub string) {
	q := r.URL.Query()
	options := apiproxy.Options{
		Stdin: q.Get("stdin") == "true", Stdout: q.Get("stdout") == "true", Stderr: q.Get("stderr") == "true", Tty: q.Get("tty") == "true",
	}
	location, err := p.criURL(sub, q, options)
	if err != nil {
		writeStatus(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	var handler http.Handler = proxy.NewUpgradeAwareHandler(location, http.DefaultTransport, false, true, responder{})
	if sub == "portforward" {
		handler = apiproxy.NewTranslatingHandler(handler, apiproxy.NewTunnelingHandler(handler), wsstream.IsWebSocketRequestWithTunnelingProtocol)
	} else {
		translator := apiproxy.NewStreamTranslatorHandler(location, http.DefaultTransport, 0, options)
		handler = apiproxy.NewTranslatingHandler(handler, translator, wsstream.IsWebSocketRequestWithStreamCloseProtocol)
	}
	handler.ServeHTTP(w, r)
}

func (p *fakePeer) criURL(sub string, q url.Values, o apiproxy.Options) (*url.URL, error) {
	var address string
	switch sub {
	case "exec":
		answer, err := p.cri.GetExec(&runtimeapi.ExecRequest{
			ContainerId: q.Get("container"), Cmd: q["command"], Tty: o.Tty, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
		})
		if err != nil {
			return nil, err
		}
		address = answer.Url
	case "attach":
		answer, err := p.cri.GetAttach(&runtimeapi.AttachRequest{
			ContainerId: q.Get("container"), Tty: o.Tty, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
		})
		if err != nil {
			return nil, err
		}
		address = answer.Url
	default:
		answer, err := p.cri.GetPortForward(&runtimeapi.PortForwardRequest{PodSandboxId: "sandbox"})
		if err != nil {
			return nil, err
		}
		address = answer.Url
	}
	return url.Parse(address)
}

type responder struct{}

func (responder) Error(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), 500)
}

// Exec implements streaming.Runtime with a few commands.
func (p *fakePeer) Exec(_ context.Context, _ string, cmd []string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	defer func() { p.ended <- struct{}{} }()
	switch cmd[0] {
	case "cat":
		_, err := io.Copy(out, in)
		return err
	case "args":
		return json.NewEncoder(out).Encode(cmd)
	case "fail":
		_, _ = io.WriteString(out, "out")
		_, _ = io.WriteString(errOut, "err")
		return utilexec.CodeExitError{Err: errors.New("exit 7"), Code: 7}
	case "size":
		for range 2 {
			size := <-resize
			_, _ = fmt.Fprintf(out, "%dx%d ", size.Width, size.Height)
		}
	}
	return nil
}

// Attach implements streaming.Runtime: what comes in goes out.
func (p *fakePeer) Attach(_ context.Context, _ string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	defer func() { p.ended <- struct{}{} }()
	_, err := io.Copy(out, in)
	return err
}

// PortForward implements streaming.Runtime: what comes in goes out, after the number of the port.
func (p *fakePeer) PortForward(_ context.Context, _ string, port int32, stream io.ReadWriteCloser) error {
	_, _ = fmt.Fprintf(stream, "%d:", port)
	_, err := io.Copy(stream, stream)
	return err
}

// within fails the test when ch says nothing for long.
func within(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Fatal("never: " + what)
	}
}

// get asks over a connection of its own.
func (w *world) get(t *testing.T, path string, header http.Header) (code int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.kubelet.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(text))
}

// silent is a listener that takes connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}
