package provider

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	certutil "k8s.io/client-go/util/cert"

	"github.com/spillway-dev/spillway/provider/kubelet"
)

// noRules let everything leave.
type noRules struct{}

func (noRules) Synced() bool                                        { return true }
func (noRules) Namespace(*corev1.Namespace) NamespaceRules          { return NamespaceRules{} }
func (noRules) StorageClass(string, string) string                  { return "" }
func (noRules) Pod(*corev1.Namespace, *corev1.Pod, string) PodRules { return PodRules{} }

// tellNode answers with what the handler sees of its node.
func tellNode(n kubelet.Node) (http.Handler, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		remote, _ := n.RemoteNamespace("shop")
		_, found := n.Pod("shop", "web")
		fmt.Fprintf(w, "%s of %s at %s: %d pods, web %v, shop is %q, lost: %v", n.Name(), n.Peer(), n.Remote().Host, len(n.Pods()), found, remote, n.Lost())
	}), nil
}

// kubelets is a Server at 127.0.0.1 from a free port on.
func kubelets(t *testing.T) (s *kubelet.Server, first uint16) {
	t.Helper()
	cert, key, err := certutil.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first = uint16(l.Addr().(*net.TCPAddr).Port)
	return kubelet.NewServer(kubelet.ServerConfig{
		Address: netip.MustParseAddr("127.0.0.1"), FirstPort: first, Handler: tellNode, Log: zaptest.NewLogger(t),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil },
	}), first
}

// runNodes runs virtual nodes in the cluster of client until stop, which waits.
func runNodes(t *testing.T, client kubernetes.Interface, s *kubelet.Server) (n *Nodes, stop func()) {
	t.Helper()
	n = NewNodes(Config{
		Client: client, ClusterID: "id-1", Rules: noRules{}, VolumeNamespace: "spillway-system", Kubelet: s,
		Changed: func(string) {}, Events: record.NewFakeRecorder(100), Log: zaptest.NewLogger(t),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); n.Run(ctx, ready) }()
	<-ready
	return n, sync.OnceFunc(func() { cancel(); <-done })
}

func peerNamed(name string) Peer {
	p := peerWithOffer()
	p.Peer, p.NodeName, p.Remote = name, "spillway-"+name, fake.NewClientset()
	p.RemoteConfig, p.Namespaces = &rest.Config{Host: "https://" + name}, map[string]string{"shop": "shop-1f2e"}
	return p
}

// nodePort waits until a node is registered, and gives the port of its kubelet API.
func nodePort(t *testing.T, client kubernetes.Interface, name string) int32 {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		node, err := client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err == nil {
			return node.Status.DaemonEndpoints.KubeletEndpoint.Port
		}
		if time.Now().After(end) {
			t.Fatalf("node %s: %v", name, err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// told is what the kubelet API at a port answers; an error when nobody does.
func told(t *testing.T, port int32) (string, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

func wantTold(t *testing.T, port int32, want string) {
	t.Helper()
	if got, err := told(t, port); err != nil || got != want {
		t.Errorf("port %d tells %q (%v), want %q", port, got, err, want)
	}
}

// TestNodes_KubeletAPI: it is told where the peer is now, and lasts until the node is gone.
func TestNodes_KubeletAPI(t *testing.T) {
	client := fake.NewClientset(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: corev1.PodSpec{NodeName: "spillway-east"},
	})
	s, first := kubelets(t)
	n, stop := runNodes(t, client, s)
	defer stop()
	east := peerNamed("east")
	n.Ensure(east)
	port := nodePort(t, client, "spillway-east")
	if port < int32(first) {
		t.Fatalf("the node has port %d, want one from %d on", port, first)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		if pods, complete := n.Pods(); complete && len(pods) == 1 {
			break
		}
	}
	wantTold(t, port, `spillway-east of east at https://east: 1 pods, web true, shop is "shop-1f2e", lost: <nil>`)

	east.Lost, east.Reason, east.Message = true, "PeerUnreachable", "https://east has not answered for 10s"
	n.Ensure(east)
	wantTold(t, port, `spillway-east of east at https://east: 1 pods, web true, shop is "shop-1f2e", lost: peer east is lost: https://east has not answered for 10s`)

	moved := peerNamed("east")
	moved.RemoteConfig, moved.Namespaces = &rest.Config{Host: "https://moved"}, nil
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	n.Ensure(moved)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: east\r\nConnection: close\r\n\r\n")
	if answer, err := io.ReadAll(conn); err != nil || len(answer) == 0 {
		t.Errorf("the connection was cut when the peer moved: %q, %v", answer, err)
	}
	if got, err := told(t, port); err != nil || !strings.Contains(got, "at https://moved") {
		t.Errorf("told %q (%v), want where the peer is now", got, err)
	}

	for end := time.Now().Add(10 * time.Second); ; <-time.After(5 * time.Millisecond) {
		gone, _, err := n.Remove(t.Context(), "east", "spillway-east", true)
		if gone {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the node is not gone: %v", err)
		}
	}
	if got, err := told(t, port); err == nil {
		t.Errorf("a node that is gone tells %q", got)
	}
}

// TestNodes_KeepTheirPorts: after a restart each node has the port it had, in whichever order they come; the object is not written.
func TestNodes_KeepTheirPorts(t *testing.T) {
	client := fake.NewClientset()
	s, first := kubelets(t)
	n, stop := runNodes(t, client, s)
	before := map[string]int32{}
	for _, name := range []string{"east", "west"} {
		n.Ensure(peerNamed(name))
		before[name] = nodePort(t, client, "spillway-"+name)
	}
	stop()
	if got, err := told(t, before["east"]); err == nil {
		t.Errorf("east tells %q, and nobody leads", got)
	}

	again := kubelet.NewServer(kubelet.ServerConfig{
		Address: s.Address(), FirstPort: first, Handler: tellNode, Log: zaptest.NewLogger(t),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, io.EOF },
	})
	client.ClearActions()
	n, stop = runNodes(t, client, again)
	defer stop()
	for _, name := range []string{"north", "west", "east"} {
		n.Ensure(peerNamed(name))
		registered(t, n, name)
	}
	for name, want := range before {
		if got := nodePort(t, client, "spillway-"+name); got != want {
			t.Errorf("%s has port %d now, had %d", name, got, want)
		}
	}
	for _, a := range client.Actions() {
		patch, ok := a.(clienttesting.PatchAction)
		if ok && a.GetResource().Resource == "nodes" && patch.GetName() != "spillway-north" && strings.Contains(string(patch.GetPatch()), `"daemonEndpoints"`) {
			t.Errorf("the port is written again: %s", patch.GetPatch())
		}
	}
}

func registered(t *testing.T, n *Nodes, peer string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		if s, ok := n.State(peer); ok && s.Registered {
			return
		}
	}
	t.Fatalf("the node of %s is not registered", peer)
}
