package kubelet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// reviews is an API server that only reviews: token "good-NAME" is of NAME, and who may do what is in rights.
type reviews struct {
	rights map[string]string // user → "verb subresource", separated by commas

	mu    sync.Mutex
	asked []string // guarded by mu; "user verb nodes/subresource of node", in order
	calls int      // guarded by mu; TokenReviews
}

func (v *reviews) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, "/tokenreviews") {
		v.calls++
		var review authenticationv1.TokenReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		name, ok := strings.CutPrefix(review.Spec.Token, "good-")
		review.Status = authenticationv1.TokenReviewStatus{Authenticated: ok, User: authenticationv1.UserInfo{Username: name}}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(&review)
		return
	}
	var review authorizationv1.SubjectAccessReview
	_ = json.NewDecoder(r.Body).Decode(&review)
	a := review.Spec.ResourceAttributes
	v.asked = append(v.asked, fmt.Sprintf("%s %s %s/%s of %s", review.Spec.User, a.Verb, a.Resource, a.Subresource, a.Name))
	for right := range strings.SplitSeq(v.rights[review.Spec.User], ",") {
		review.Status.Allowed = review.Status.Allowed || right == a.Verb+" "+a.Subresource
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(&review)
}

// authority signs the certificates of callers.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, cert}
}

func (a authority) provider(t *testing.T) dynamiccertificates.CAContentProvider {
	t.Helper()
	p, err := dynamiccertificates.NewStaticCAContent("client-ca", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (a authority) client(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name, Organization: []string{"group"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// guarded is a kubelet API whose callers are reviewed by v.
func guarded(t *testing.T, v *reviews, ca authority) *httptest.Server {
	t.Helper()
	api := httptest.NewServer(v)
	t.Cleanup(api.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: api.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	auth, err := NewAuth(AuthConfig{Client: client, ClientCA: ca.provider(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(NewHandler(HandlerConfig{Node: &fakeNode{}, Auth: auth.Node("spillway-west"), Log: zap.NewNop()}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// ask with a token, a certificate, or neither.
func ask(t *testing.T, s *httptest.Server, method, path, token string, certs ...tls.Certificate) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body := make([]byte, 500)
	n, _ := response.Body.Read(body)
	return response.StatusCode, strings.TrimSpace(string(body[:n]))
}

func TestAuth_RightsAreThoseOfAKubelet(t *testing.T) {
	for _, row := range []struct{ method, path, want string }{
		{"GET", "/exec/shop/web/main", "get nodes/proxy"}, // a WebSocket is a GET
		{"POST", "/exec/shop/web/main", "create nodes/proxy"},
		{"POST", "/attach/shop/web/main", "create nodes/proxy"},
		{"POST", "/portForward/shop/web", "create nodes/proxy"},
		{"GET", "/containerLogs/shop/web/main", "get nodes/proxy"},
		{"GET", "/pods", "get nodes/pods, get nodes/proxy"},
		{"GET", "/pods/", "get nodes/pods, get nodes/proxy"},
		{"GET", "/runningpods/", "get nodes/pods, get nodes/proxy"},
		{"GET", "/podsecret", "get nodes/proxy"},
		{"GET", "/stats/summary", "get nodes/stats"},
		{"GET", "/metrics", "get nodes/metrics"},
		{"GET", "/metrics/resource", "get nodes/metrics"},
		{"GET", "/metrics/cadvisor", "get nodes/metrics"},
		{"GET", "/metricsfoo", "get nodes/proxy"},
		{"GET", "/logs/syslog", "get nodes/log"},
		{"GET", "/healthz", "get nodes/healthz, get nodes/proxy"},
		{"GET", "/healthz/ping", "get nodes/healthz, get nodes/proxy"},
		{"PUT", "/anything", "update nodes/proxy"},
		{"DELETE", "/pods", "delete nodes/pods, delete nodes/proxy"},
	} {
		t.Run(row.method+row.path, func(t *testing.T) {
			v := &reviews{}
			s := guarded(t, v, newAuthority(t))
			code, body := ask(t, s, row.method, row.path, "good-bob")
			if code != http.StatusForbidden || !strings.HasPrefix(body, "Forbidden (user=bob, verb=") {
				t.Errorf("%d %s", code, body)
			}
			var want []string
			for right := range strings.SplitSeq(row.want, ", ") {
				want = append(want, "bob "+right+" of spillway-west")
			}
			if diff := cmp.Diff(want, v.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAuth_WhoIsLetIn(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	v := &reviews{rights: map[string]string{"narrow": "get pods", "wide": "get proxy", "scraper": "get metrics"}}
	s := guarded(t, v, ca)
	for name, row := range map[string]struct {
		path, token string
		certs       []tls.Certificate
		want        int
	}{
		"anonymous":                    {"/pods", "", nil, 401},
		"anonymous health":             {"/healthz", "", nil, 401},
		"anonymous nowhere":            {"/nowhere", "", nil, 401},
		"bad token":                    {"/pods", "bad", nil, 401},
		"narrow right":                 {"/pods", "good-narrow", nil, 200},
		"narrow right, something else": {"/healthz", "good-narrow", nil, 403},
		"wide right":                   {"/pods", "good-wide", nil, 200},
		"wide right, health":           {"/healthz/ping", "good-wide", nil, 200},
		"wide right, metrics":          {"/metrics", "good-wide", nil, 403},
		"wide right, nowhere":          {"/nowhere", "good-wide", nil, 404},
		"scraper":                      {"/metrics", "good-scraper", nil, 200},
		"scraper that would exec":      {"/metrics/../exec/shop/web/main", "good-scraper", nil, 307},
		"certificate":                  {"/pods", "", []tls.Certificate{ca.client(t, "wide")}, 200},
		"certificate without rights":   {"/pods", "", []tls.Certificate{ca.client(t, "bob")}, 403},
		"certificate of somebody else": {"/pods", "", []tls.Certificate{other.client(t, "wide")}, 401},
	} {
		t.Run(name, func(t *testing.T) {
			if code, body := ask(t, s, http.MethodGet, row.path, row.token, row.certs...); code != row.want {
				t.Errorf("%d %s, want %d", code, body, row.want)
			}
		})
	}
}

func TestAuth_AnswersAreKept(t *testing.T) {
	v := &reviews{rights: map[string]string{"wide": "get proxy"}}
	s := guarded(t, v, newAuthority(t))
	for range 5 {
		if code, body := ask(t, s, http.MethodGet, "/pods", "good-wide"); code != http.StatusOK {
			t.Fatal(code, body)
		}
	}
	want := []string{"wide get nodes/pods of spillway-west", "wide get nodes/proxy of spillway-west"}
	if diff := cmp.Diff(want, v.asked); diff != "" || v.calls != 1 {
		t.Errorf("%d TokenReviews, want 1; asked (-want +got):\n%s", v.calls, diff)
	}
}
