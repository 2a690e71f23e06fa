package usage

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// kubelet is a kubelet that knows one pod in each of two namespaces.
type kubelet struct {
	*httptest.Server
	asked atomic.Int32
	open  atomic.Int32  // connections
	hold  chan struct{} // nil: answer at once
}

func newKubelet(t *testing.T, token string) *kubelet {
	k := &kubelet{}
	k.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.asked.Add(1)
		if k.hold != nil {
			select {
			case <-k.hold:
			case <-r.Context().Done():
			}
		}
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/metrics/resource":
			_, _ = io.WriteString(w, "# TYPE a gauge\na{namespace=\"shop-1\",pod=\"web\"} 1.50 17\na{namespace=\"secret-2\",pod=\"x\"} 2 17\n")
		case "/stats/summary":
			_, _ = io.WriteString(w, `{"node":{"nodeName":"real","startTime":null},"pods":[`+
				`{"podRef":{"name":"web","namespace":"shop-1","uid":"u"},"cpu":{"usageNanoCores":12}},{"podRef":{"name":"x","namespace":"secret-2"}}]}`)
		default:
			http.NotFound(w, r)
		}
	}))
	k.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			k.open.Add(1)
		case http.StateClosed:
			k.open.Add(-1)
		}
	}
	k.StartTLS()
	t.Cleanup(k.Close)
	return k
}

func (k *kubelet) node(name string) *corev1.Node {
	at := netip.MustParseAddrPort(k.Listener.Addr().String())
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: at.Addr().String()}}
	n.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(at.Port())
	return n
}

// cluster is a Source: one tenant with namespace shop-1, another with secret-2, both on all nodes.
type cluster struct {
	mu      sync.Mutex
	nodes   []*corev1.Node // guarded by mu
	unready bool           // guarded by mu
}

func (c *cluster) Synced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.unready
}

func (c *cluster) Tenant(identity string) (map[string]bool, bool) {
	namespaces, ok := map[string]map[string]bool{
		"spillway-tenant-home": set("shop-1"), "spillway-tenant-other": set("secret-2"), "spillway-tenant-idle": set("idle-3"),
	}[identity]
	return namespaces, ok
}

func (c *cluster) Nodes() ([]*corev1.Node, map[string]map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tenants := map[string]map[string]bool{}
	for _, n := range c.nodes {
		tenants[n.Name] = set("shop-1", "secret-2")
	}
	return c.nodes, tenants
}

// users knows tokens: "USER" is the token of USER.
type users struct{}

func (users) AuthenticateToken(_ context.Context, token string) (*authenticator.Response, bool, error) {
	if !strings.HasPrefix(token, "system:") {
		return nil, false, errors.New("bad")
	}
	return &authenticator.Response{User: &user.DefaultInfo{Name: token}}, true, nil
}

const tenantToken = "system:serviceaccount:spillway-tenant-home:consumer"

// newServer runs a Server whose kubelets have k's certificate.
func newServer(t *testing.T, source Source, k *kubelet, interval time.Duration) *Server {
	config := &rest.Config{BearerToken: "own", TLSClientConfig: rest.TLSClientConfig{
		ServerName: "kubernetes.default", CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate().Raw}),
	}}
	client, err := kubeletClient(config, false)
	if err != nil {
		t.Fatal(err)
	}
	return &Server{
		tokens: users{}, slots: make(chan struct{}, mostRequests), life: t.Context(),
		scraper: &scraper{source: source, client: client, interval: interval, log: zap.NewNop()},
	}
}

func ask(t *testing.T, s *Server, path, token string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if token != "" {
		r.Header.Set(tokenHeader, "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, r)
	return w
}

func TestServer_Answers(t *testing.T) {
	k := newKubelet(t, "own")
	s := newServer(t, &cluster{nodes: []*corev1.Node{k.node("one"), k.node("two")}}, k, time.Hour)
	before := time.Now().UnixMilli()
	w := ask(t, s, "/v1/resource", tenantToken)
	want := "# TYPE a gauge\na{namespace=\"shop-1\",pod=\"web\"} 1.50 17\na{namespace=\"shop-1\",pod=\"web\"} 1.50 17\n"
	if diff := cmp.Diff(want, w.Body.String()); w.Code != http.StatusOK || diff != "" {
		t.Errorf("status %d (-want +got):\n%s", w.Code, diff)
	}
	scraped, err := strconv.ParseInt(w.Header().Get("Spillway-Scraped"), 10, 64)
	if err != nil || scraped < before || scraped > time.Now().UnixMilli() || w.Header().Get("Spillway-Nodes-Failed") != "" {
		t.Errorf("headers %v: %v", w.Header(), err)
	}
	if w := ask(t, s, "/v1/resource", "system:serviceaccount:spillway-tenant-idle:consumer"); w.Code != http.StatusOK || w.Body.Len() > 0 {
		t.Errorf("a tenant without pods: %d %q", w.Code, w.Body)
	}
	if n := k.asked.Load(); n != 2 {
		t.Errorf("%d questions to kubelets for readers within an interval, want one for each of 2 nodes", n)
	}
	w = ask(t, s, "/v1/summary", tenantToken)
	var got statsv1alpha1.Summary
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if len(got.Pods) != 2 || got.Pods[0].PodRef.Name != "web" || *got.Pods[0].CPU.UsageNanoCores != 12 || got.Node.NodeName != "" ||
		strings.Contains(w.Body.String(), "secret") {
		t.Errorf("summary %s", w.Body)
	}
}

func TestServer_Refuses(t *testing.T) {
	k := newKubelet(t, "own")
	source := &cluster{nodes: []*corev1.Node{k.node("one")}}
	s := newServer(t, source, k, time.Hour)
	for name, row := range map[string]struct {
		token, path string
		unready     bool
		want        int
	}{
		"nobody":                        {"", "/v1/resource", false, http.StatusUnauthorized},
		"a token that is none":          {"x", "/v1/resource", false, http.StatusUnauthorized},
		"a person":                      {"system:admin", "/v1/resource", false, http.StatusForbidden},
		"the tenant's other account":    {"system:serviceaccount:spillway-tenant-home:renewal", "/v1/summary", false, http.StatusForbidden},
		"an account of no tenant":       {"system:serviceaccount:shop-1:consumer", "/v1/cadvisor", false, http.StatusForbidden},
		"a tenant that there is not":    {"system:serviceaccount:spillway-tenant-x:consumer", "/v1/resource", false, http.StatusForbidden},
		"before anything is known":      {tenantToken, "/v1/resource", true, http.StatusServiceUnavailable},
		"another path":                  {tenantToken, "/metrics", false, http.StatusNotFound},
		"what all kubelets fail to say": {tenantToken, "/v1/cadvisor", false, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			source.mu.Lock()
			source.unready = row.unready
			source.mu.Unlock()
			if w := ask(t, s, row.path, row.token); w.Code != row.want || w.Body.Len() == 0 {
				t.Errorf("%d %q, want %d with a sentence", w.Code, w.Body, row.want)
			}
		})
	}
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/resource", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	for _, values := range [][]string{{"Basic x"}, {"Bearer "}, {"Bearer x", "Bearer y"}} {
		if _, ok := bearer(http.Header{tokenHeader: values}); ok {
			t.Errorf("%q counts as a token", values)
		}
	}
}

// TestServer_OneScrape: readers who come at a time share one scrape; who leaves does not end it for the others.
func TestServer_OneScrape(t *testing.T) {
	k := newKubelet(t, "own")
	k.hold = make(chan struct{})
	s := newServer(t, &cluster{nodes: []*corev1.Node{k.node("one")}}, k, time.Hour)
	gone, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := s.scraper.get(gone, t.Context(), resource)
		left <- err
	}()
	var readers sync.WaitGroup
	for range 20 {
		readers.Go(func() {
			if w := ask(t, s, "/v1/resource", tenantToken); w.Code != http.StatusOK {
				t.Errorf("status %d: %s", w.Code, w.Body)
			}
		})
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("a reader who leaves: %v", err)
	}
	close(k.hold)
	readers.Wait()
	if n := s.scraper.asked.Load(); n != 1 || k.asked.Load() != 1 {
		t.Errorf("%d scrapes, %d questions; want one", n, k.asked.Load())
	}
}

// TestServer_NodeFails: the others are told, and the tenant learns how many are missing.
func TestServer_NodeFails(t *testing.T) {
	k, stranger := newKubelet(t, "own"), newKubelet(t, "another")
	silent := k.node("silent")
	silent.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
	s := newServer(t, &cluster{nodes: []*corev1.Node{k.node("one"), stranger.node("two"), silent}}, k, time.Hour)
	w := ask(t, s, "/v1/resource", tenantToken)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "1.50 17") || w.Header().Get("Spillway-Nodes-Failed") != "2" {
		t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
	}
	if k.asked.Load() != 1 {
		t.Errorf("%d questions; a node that does not report is not asked", k.asked.Load())
	}
}

// TestServer_AfterTheInterval: figures are read anew, and nothing is kept for nobody.
func TestServer_AfterTheInterval(t *testing.T) {
	k := newKubelet(t, "own")
	s := newServer(t, &cluster{nodes: []*corev1.Node{k.node("one")}}, k, 20*time.Millisecond)
	within := func(what string, condition func() bool) {
		err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) { return condition(), nil })
		if err != nil {
			t.Error(what)
		}
	}
	within("figures are not read anew", func() bool {
		ask(t, s, "/v1/resource", tenantToken)
		return s.scraper.asked.Load() > 1
	})
	within("figures are kept though nobody asks", func() bool { return s.scraper.kept[resource].Load() == nil })
}

// TestServer_Run: from the TokenReview to the compressed answer over TLS, and nothing is left when it ends.
func TestServer_Run(t *testing.T) {
	var reviews atomic.Int32
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/tokenreviews") {
			http.Error(w, "{}", http.StatusForbidden)
			return
		}
		reviews.Add(1)
		var review authenticationv1.TokenReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		review.Status = authenticationv1.TokenReviewStatus{Authenticated: review.Spec.Token == "good", User: authenticationv1.UserInfo{Username: tenantToken}}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(api.Close)
	k := newKubelet(t, "own")
	config := &rest.Config{Host: api.URL, BearerToken: "own"}
	s, err := New(Config{
		REST: config, Client: kubernetes.NewForConfigOrDie(config), Source: &cluster{nodes: []*corev1.Node{k.node("one")}},
		Address: netip.MustParseAddrPort("127.0.0.1:0"), Pod: "spillwayd", Interval: time.Minute, InsecureKubelets: true, Log: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // as the API server does
	defer client.CloseIdleConnections()
	for i, token := range []string{"good", "good", "bad", "bad"} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://%s/v1/resource", s.At()), nil)
		r.Header.Set(tokenHeader, "Bearer "+token)
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if want := i < 2; err != nil || (response.StatusCode == http.StatusOK) != want || strings.Contains(string(body), "1.50 17") != want || want && !response.Uncompressed {
			t.Errorf("token %s: %s %q %v", token, response.Status, body, err)
		}
	}
	if n := reviews.Load(); n != 2 {
		t.Errorf("%d reviews of two tokens", n)
	}
	if k.open.Load() == 0 {
		t.Error("no connection to the kubelet is kept for the next time")
	}
	cancel()
	<-done
	err = wait.PollUntilContextTimeout(t.Context(), time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) { return k.open.Load() == 0, nil })
	if err != nil {
		t.Errorf("%d connections to the kubelet are left", k.open.Load())
	}
}

// TestEnsureService: an equal state is not written again; another address is.
func TestEnsureService(t *testing.T) {
	client := fake.NewClientset()
	s, err := New(Config{REST: &rest.Config{}, Client: kubernetes.NewForConfigOrDie(&rest.Config{Host: "127.0.0.1"}), Address: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.listener.Close() }()
	s.cfg.Client = client
	for i, row := range []struct {
		pod    string
		writes int
	}{{"one", 2}, {"one", 0}, {"two", 1}, {"two", 0}} {
		s.cfg.Pod = row.pod
		client.ClearActions()
		if err := s.ensureService(t.Context()); err != nil {
			t.Fatal(err)
		}
		writes := 0
		for _, a := range client.Actions() {
			if a.GetVerb() != "get" {
				writes++
			}
		}
		if writes != row.writes {
			t.Errorf("round %d: %d writes, want %d: %v", i, writes, row.writes, client.Actions())
		}
	}
	ends, err := client.CoreV1().Endpoints(v1alpha1.SystemNamespace).Get(t.Context(), "spillway-usage", metav1.GetOptions{})
	if err != nil || len(ends.Subsets) != 1 || len(ends.Subsets[0].Addresses) != 1 || ends.Subsets[0].Addresses[0].TargetRef.Name != "two" ||
		ends.Subsets[0].Ports[0].Port != int32(s.At().Port()) {
		t.Errorf("endpoints %+v: %v", ends, err)
	}
}

func TestTargets(t *testing.T) {
	node := func(name string, change func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "fd00::1"}}
		n.Status.DaemonEndpoints.KubeletEndpoint.Port = 10250
		change(n)
		return n
	}
	nodes := []*corev1.Node{
		node("real", func(*corev1.Node) {}),
		node("peer", func(n *corev1.Node) { n.Labels = map[string]string{v1alpha1.LabelPeer: "x"} }),
		node("kubelet of another kind", func(n *corev1.Node) { n.Labels = map[string]string{"type": "virtual-kubelet"} }),
		node("tainted", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "virtual-kubelet.io/provider", Value: "x"}} }),
		node("no port", func(n *corev1.Node) { n.Status.DaemonEndpoints = corev1.NodeDaemonEndpoints{} }),
		node("idle", func(*corev1.Node) {}),
	}
	tenants := map[string]map[string]bool{}
	for _, n := range nodes[:5] {
		tenants[n.Name] = set("shop-1")
	}
	var got []string
	for _, target := range targets(nodes, tenants) {
		got = append(got, target.node+" "+target.at.String())
	}
	if diff := cmp.Diff([]string{"no port invalid AddrPort", "real [fd00::1]:10250"}, got); diff != "" {
		t.Errorf("kubelets to ask (-want +got):\n%s", diff)
	}
}
