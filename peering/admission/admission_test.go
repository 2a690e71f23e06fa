package admission

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// fixed are policies that do not change.
type fixed map[string]policy.Set

func (f fixed) Synced() bool                         { return f != nil }
func (f fixed) Set(namespace string) policy.Set      { return f[namespace] }
func (f fixed) Governed() map[string]policy.Set      { return f }
func (f fixed) Notify(func(namespace string)) func() { return func() {} }

func set(spec v1alpha1.OffloadPolicySpec) policy.Set {
	return policy.NewSet([]*v1alpha1.OffloadPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: spec}})
}

func review(t *testing.T, namespace string, operation admissionv1.Operation, pod *corev1.Pod) []byte {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "u", Namespace: namespace, Operation: operation, Object: runtime.RawExtension{Raw: raw},
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestReview: every pod is let in; those that a policy governs with a patch that the API server can apply.
func TestReview(t *testing.T) {
	policies := fixed{"shop": set(v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways})}
	annotated := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"a": "b"}}}
	for name, row := range map[string]struct {
		namespace string
		operation admissionv1.Operation
		pod       *corev1.Pod
		steered   bool
	}{
		"a pod of the namespace": {"shop", admissionv1.Create, &corev1.Pod{}, true},
		"one with annotations":   {"shop", admissionv1.Create, annotated, true},
		"a pod of another":       {"blog", admissionv1.Create, &corev1.Pod{}, false},
		"a pod that is changed":  {"shop", admissionv1.Update, &corev1.Pod{}, false},
		"a pod that has a node":  {"shop", admissionv1.Create, &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			answer := httptest.NewRecorder()
			(&Server{cfg: Config{Policies: policies}}).handle(answer, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(review(t, row.namespace, row.operation, row.pod))))
			var got admissionv1.AdmissionReview
			if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || answer.Code != http.StatusOK {
				t.Fatalf("code %d: %v", answer.Code, err)
			}
			if !got.Response.Allowed || got.Response.UID != "u" || (got.Response.Patch != nil) != row.steered {
				t.Fatalf("response: %+v", got.Response)
			}
			if row.steered {
				checkPatch(t, row.pod, got.Response.Patch)
			}
		})
	}
}

func checkPatch(t *testing.T, pod *corev1.Pod, patch []byte) {
	t.Helper()
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	before, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	after, err := decoded.Apply(before)
	if err != nil {
		t.Fatal(err)
	}
	var steered corev1.Pod
	if err := json.Unmarshal(after, &steered); err != nil {
		t.Fatal(err)
	}
	if steered.Annotations[v1alpha1.AnnotationPolicy] != "p" || len(steered.Spec.Tolerations) != 1 || steered.Spec.Affinity == nil {
		t.Errorf("steered: %+v", steered)
	}
	for key, value := range pod.Annotations {
		if steered.Annotations[key] != value {
			t.Errorf("annotation %s is %q", key, steered.Annotations[key])
		}
	}
}

// TestAnnounce: the first policy of a namespace is let in once its pods are asked about; a pod that comes before the policy is known
// waits for it.
func TestAnnounce(t *testing.T) {
	client := fake.NewClientset(&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.WebhookName}})
	policies := &growing{fixed: fixed{}}
	server, err := New(Config{Client: client, Policies: policies, Address: "127.0.0.1:0", Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	server.cert.current.Store(&pair{ca: []byte("ca")})
	server.announce(t.Context(), "shop")
	got, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), v1alpha1.WebhookName, metav1.GetOptions{})
	if err != nil || len(got.Webhooks) != 2 || got.Webhooks[1].NamespaceSelector.MatchExpressions[0].Values[0] != "shop" {
		t.Fatalf("not registered: %v %+v", err, got.Webhooks)
	}
	go func() {
		<-time.After(50 * time.Millisecond)
		policies.add("shop", set(v1alpha1.OffloadPolicySpec{}))
	}()
	answer := httptest.NewRecorder()
	server.handle(answer, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(review(t, "shop", admissionv1.Create, &corev1.Pod{}))))
	if !strings.Contains(answer.Body.String(), "patch") {
		t.Errorf("the pod is not steered: %s", answer.Body)
	}
	if left := server.expected(time.Now()); len(left) > 0 {
		t.Errorf("still announced: %v", left)
	}
}

// growing are policies that somebody adds to.
type growing struct {
	mu    sync.Mutex
	fixed fixed // guarded by mu
}

func (g *growing) add(namespace string, s policy.Set) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fixed[namespace] = s
}

func (g *growing) Synced() bool { return true }

func (g *growing) Set(namespace string) policy.Set {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fixed[namespace]
}

func (g *growing) Governed() map[string]policy.Set {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.fixed)
}

func (g *growing) Notify(func(namespace string)) func() { return func() {} }

func TestReview_Refuses(t *testing.T) {
	for name, row := range map[string]struct {
		policies fixed
		body     string
		want     int
	}{
		"before the policies are known": {nil, "{}", http.StatusServiceUnavailable},
		"no review":                     {fixed{}, "hello", http.StatusBadRequest},
		"no request":                    {fixed{}, "{}", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			answer := httptest.NewRecorder()
			(&Server{cfg: Config{Policies: row.policies}}).handle(answer, httptest.NewRequest(http.MethodPost, path, bytes.NewReader([]byte(row.body))))
			if answer.Code != row.want {
				t.Errorf("code %d, want %d", answer.Code, row.want)
			}
		})
	}
}

// TestCertificate: it is made once, is good for the host, and is made anew in good time, with the one before still trusted.
func TestCertificate(t *testing.T) {
	client := fake.NewClientset()
	c := newCertificate(client, "127.0.0.1", func() {})
	ctx := t.Context()
	go c.secrets.Run(ctx)
	<-c.secrets.Synced()
	now := time.Now()
	ensured := func(at time.Time, before *pair) *pair {
		t.Helper()
		if err := c.ensure(ctx, at); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); c.current.Load() == before && time.Now().Before(deadline); {
			<-time.After(time.Millisecond)
		}
		return c.current.Load()
	}
	first := ensured(now, nil)
	if first == nil || !usable(first, "127.0.0.1", now) || usable(first, "192.0.2.1", now) {
		t.Fatal("the certificate is not one for the host")
	}
	writes := len(client.Actions())
	if err := c.ensure(ctx, now.AddDate(0, 7, 0)); err != nil || len(client.Actions()) != writes {
		t.Errorf("after seven of twelve months: written, or %v", err)
	}
	second := ensured(now.AddDate(0, 9, 0), first)
	if second == first {
		t.Fatal("after nine of twelve months there is no new certificate")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(second.ca)
	for _, p := range []*pair{first, second} {
		if err := verify(p.cert, roots); err != nil {
			t.Error(err)
		}
	}
}

func verify(cert tls.Certificate, roots *x509.CertPool) error {
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return err
	}
	intermediates := x509.NewCertPool()
	for _, raw := range cert.Certificate[1:] {
		if more, err := x509.ParseCertificate(raw); err == nil {
			intermediates.AddCert(more)
		}
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: "127.0.0.1"})
	return err
}

// TestRegister: the API server is to ask about the namespaces that have policies, and about no other.
func TestRegister(t *testing.T) {
	client := fake.NewClientset(&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.WebhookName}})
	policies := fixed{
		"shop": set(v1alpha1.OffloadPolicySpec{}), "blog": set(v1alpha1.OffloadPolicySpec{}),
		"bank": set(v1alpha1.OffloadPolicySpec{FailurePolicy: v1alpha1.FailurePolicyFail}),
	}
	server, err := New(Config{Client: client, Policies: policies, Address: "127.0.0.1:0", Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	server.cert.current.Store(&pair{ca: []byte("ca")})
	before, err := server.register(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), v1alpha1.WebhookName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	asked := map[admissionregistrationv1.FailurePolicyType][]string{}
	for _, w := range got.Webhooks[1:] { // the first asks about policies
		asked[*w.FailurePolicy] = w.NamespaceSelector.MatchExpressions[0].Values
	}
	want := map[admissionregistrationv1.FailurePolicyType][]string{
		admissionregistrationv1.Ignore: {"blog", "shop"}, admissionregistrationv1.Fail: {"bank"},
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	writes := len(client.Actions())
	if again, err := server.register(t.Context(), before); err != nil || again != before || len(client.Actions()) != writes {
		t.Errorf("registered again: %v", err)
	}
}

func TestNew_BadURL(t *testing.T) {
	for _, url := range []string{"http://192.0.2.1:9443", "https://", "::"} {
		if _, err := New(Config{Client: fake.NewClientset(), Policies: fixed{}, Address: "127.0.0.1:0", URL: url}); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
}
