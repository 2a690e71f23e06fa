package peering

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"golang.org/x/oauth2"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func TestRequestPatch(t *testing.T) {
	for name, row := range map[string]struct {
		before, wanted map[string]string
		want           string
	}{
		"nothing at all":         {nil, nil, ""},
		"the same in any order":  {asked("a", "b"), asked("b", "a"), ""},
		"a first one":            {nil, asked("a"), `{"data":{"a":""}}`},
		"one more":               {asked("a"), asked("a", "b"), `{"data":{"b":""}}`},
		"one less":               {asked("a", "b"), asked("a"), `{"data":{"b":null}}`},
		"another":                {asked("a"), asked("b"), `{"data":{"a":null,"b":""}}`},
		"none any more":          {asked("a", "b"), nil, `{"data":{"a":null,"b":null}}`},
		"another wish":           {map[string]string{"a": ""}, map[string]string{"a": "Chosen/b"}, `{"data":{"a":"Chosen/b"}}`},
		"what others wrote goes": {asked("x.y"), asked("a"), `{"data":{"a":"","x.y":null}}`},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, string(requestPatch(row.before, row.wanted))); diff != "" {
				t.Errorf("patch (-want +got):\n%s", diff)
			}
		})
	}
}

func asked(names ...string) map[string]string {
	out := map[string]string{}
	for _, name := range names {
		out[name] = ""
	}
	return out
}

// TestDeclareLost: a peer is lost when it has not answered for lostAfter, and only once.
func TestDeclareLost(t *testing.T) {
	began := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	broken := errors.New("connection refused")
	for name, row := range map[string]struct {
		link  *link
		after time.Duration // since it was started
		want  bool
	}{
		"it has just answered":                    {&link{answered: began}, time.Second, false},
		"probes go wrong since a moment":          {&link{answered: began, err: broken}, lostAfter - time.Second, false},
		"probes go wrong for long":                {&link{answered: began, err: broken}, lostAfter, true},
		"a probe hangs since a moment":            {&link{answered: began}, lostAfter, false},
		"a probe hangs for long":                  {&link{answered: began}, lostAfter + probeEvery, true},
		"it has never answered, for a moment":     {&link{started: began, err: broken}, lostAfter - time.Second, false},
		"it has never answered, for long":         {&link{started: began, err: broken}, lostAfter, true},
		"it was declared lost before":             {&link{answered: began, err: broken, lost: true}, time.Hour, false},
		"it answered between two tries that hang": {&link{answered: began.Add(time.Minute)}, time.Minute + probeEvery, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := row.link.declareLost(began.Add(row.after)); got != row.want {
				t.Errorf("lost %t, want %t", got, row.want)
			}
		})
	}
}

func TestRenewalDue(t *testing.T) {
	fetched := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for name, row := range map[string]struct {
		life, age time.Duration
		want      bool
	}{
		"fresh":                 {time.Hour, 0, false},
		"a little too early":    {time.Hour, 47 * time.Minute, false},
		"four fifths are over":  {time.Hour, 48 * time.Minute, true},
		"it has ended":          {time.Hour, 2 * time.Hour, true},
		"a shorter one granted": {10 * time.Minute, 8 * time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := renewalDue(fetched, fetched.Add(row.life), fetched.Add(row.age)); got != row.want {
				t.Errorf("due %t, want %t", got, row.want)
			}
		})
	}
}

// issuer is an API server that grants tokens to these credentials and notes who asked.
type issuer struct {
	mu     sync.Mutex
	knows  map[string]bool // guarded by mu
	asked  []string        // guarded by mu
	grants string          // guarded by mu
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	credential := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	i.asked = append(i.asked, credential)
	w.Header().Set("Content-Type", "application/json")
	var answer any = &authenticationv1.TokenRequest{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"},
		Status:   authenticationv1.TokenRequestStatus{Token: i.grants, ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour))},
	}
	if !i.knows[credential] {
		w.WriteHeader(http.StatusUnauthorized)
		answer = &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: metav1.StatusReasonUnauthorized, Code: 401}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func TestTokens_WhichCredentialRenews(t *testing.T) {
	for name, row := range map[string]struct {
		age, life time.Duration // of the current token; life 0: there is none
		knows     []string
		wantAsked []string
		want      string // the token afterwards; empty: an error
	}{
		"no token yet":                                 {knows: []string{"renewal"}, wantAsked: []string{"renewal"}, want: "new"},
		"a fresh token":                                {age: time.Minute, life: time.Hour, want: "old"},
		"an old token renews itself":                   {age: 50 * time.Minute, life: time.Hour, knows: []string{"old"}, wantAsked: []string{"old"}, want: "new"},
		"an old token that is no longer known":         {age: 50 * time.Minute, life: time.Hour, knows: []string{"renewal"}, wantAsked: []string{"old", "renewal"}, want: "new"},
		"an ended token, after a long outage":          {age: 5 * time.Hour, life: time.Hour, knows: []string{"renewal"}, wantAsked: []string{"renewal"}, want: "new"},
		"an old token, and the peer grants no other":   {age: 50 * time.Minute, life: time.Hour, wantAsked: []string{"old", "renewal"}, want: "old"},
		"an ended token, and the peer grants no other": {age: 5 * time.Hour, life: time.Hour, wantAsked: []string{"renewal"}},
	} {
		t.Run(name, func(t *testing.T) {
			i := &issuer{knows: map[string]bool{}, grants: "new"}
			for _, credential := range row.knows {
				i.knows[credential] = true
			}
			server := httptest.NewServer(i)
			defer server.Close()
			source := &tokens{ctx: t.Context(), config: &rest.Config{Host: server.URL}, namespace: "spillway-tenant-home", renewal: "renewal"}
			if row.life > 0 {
				source.fetched = time.Now().Add(-row.age)
				source.current = &oauth2.Token{AccessToken: "old", Expiry: source.fetched.Add(row.life)}
			}
			token, err := source.Token()
			got := ""
			if err == nil {
				got = token.AccessToken
			}
			if diff := cmp.Diff(row.want, got) + cmp.Diff(row.wantAsked, i.asked); diff != "" {
				t.Errorf("token %q, error %v (-want +got):\n%s", got, err, diff)
			}
		})
	}
}

// TestTokens_RefusedTokenIsForgotten: a token that the peer refuses before its time is not shown again.
func TestTokens_RefusedTokenIsForgotten(t *testing.T) {
	fetched := time.Now().Add(-time.Minute)
	source := &tokens{ctx: context.WithoutCancel(t.Context()), fetched: fetched, current: &oauth2.Token{AccessToken: "old", Expiry: fetched.Add(time.Hour)}}
	source.ResetTokenOlderThan(fetched.Add(-time.Second))
	if source.current == nil {
		t.Fatal("a token that is newer than the refused one was forgotten")
	}
	source.ResetTokenOlderThan(time.Now())
	if source.current != nil {
		t.Error("a refused token was kept")
	}
}

// TestLink_Access: what is handed on reaches the peer as the tenant, by the link's own connections.
func TestLink_Access(t *testing.T) {
	i := &issuer{knows: map[string]bool{"renewal": true}, grants: "new"}
	seen := make(chan string, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/token"):
			i.ServeHTTP(w, r)
		case strings.HasSuffix(r.URL.Path, "/log"):
			seen <- r.Header.Get("Authorization")
		default:
			http.Error(w, "not asked for", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	p := &v1alpha1.Peering{ObjectMeta: metav1.ObjectMeta{Name: "cloud"}, Spec: v1alpha1.PeeringSpec{API: &v1alpha1.APIEndpoint{
		Server: server.URL, TenantNamespace: "spillway-tenant-home", PeeringName: "home",
		CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}}}
	l, err := dial(t.Context(), p, "renewal", zap.NewNop(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	n := lastKnown(p, l, &corev1.Node{}, l.state())
	client, err := rest.HTTPClientFor(n.RemoteConfig)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Get(n.RemoteConfig.Host + "/api/v1/namespaces/shop-1f2e/pods/web/log")
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	if got := <-seen; got != "Bearer new" {
		t.Errorf("the peer sees %q", got)
	}
	if n.RemoteConfig.ContentType != "" {
		t.Errorf("what is handed on speaks %s, which streams do not", n.RemoteConfig.ContentType)
	}
}
