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
	"testing/synctest"
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
	return policy.NewSet([]*v1alpha1.OffloadPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: spec}}, nil)
}

// migrating has a Migration of Deployment web to west, which has come to a share.
func migrating(share int32) policy.Set {
	m := &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Name: "m"}}
	m.Spec.To.Peer = "west"
	m.Status.Phase, m.Status.Share = v1alpha1.MigrationMoving, share
	m.Status.Workloads = []v1alpha1.MigratedWorkload{{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadDeployment, Name: "web"}}}
	return policy.NewSet(nil, []*v1alpha1.Migration{m})
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

// TestReview_Migration: a pod of a workload that is migrated gets what its Migration says, and not the name of a policy.
func TestReview_Migration(t *testing.T) {
	yes := true
	web := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"pod-template-hash": "5d4f"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d4f", Controller: &yes}}},
		Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "example.com/quota"}}}}
	gated := web.DeepCopy()
	gated.Spec.SchedulingGates = append(gated.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: v1alpha1.GatePlacement})
	gated.Annotations = map[string]string{v1alpha1.AnnotationPlacement: "Migration m sends 50% of deployment web to west: this pod waits to be told its place"}
	sent := web.DeepCopy()
	sent.Annotations = map[string]string{v1alpha1.AnnotationPlacement: "Migration m sends it to west"}
	sent.Spec.Tolerations = []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpEqual, Value: "west", Effect: corev1.TaintEffectNoSchedule}}
	sent.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: v1alpha1.LabelPeer, Operator: corev1.NodeSelectorOpIn, Values: []string{"west"}}}}}}}}
	for name, row := range map[string]struct {
		share int32
		want  *corev1.Pod
	}{"some": {50, gated}, "all": {100, sent}} {
		t.Run(name, func(t *testing.T) {
			answer := httptest.NewRecorder()
			(&Server{cfg: Config{Policies: fixed{"shop": migrating(row.share)}}}).handle(answer, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(review(t, "shop", admissionv1.Create, web))))
			var got admissionv1.AdmissionReview
			if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || got.Response == nil {
				t.Fatalf("code %d: %v", answer.Code, err)
			}
			steered := patched(t, web, got.Response.Patch)
			if diff := cmp.Diff(row.want, &steered); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func checkPatch(t *testing.T, pod *corev1.Pod, patch []byte) {
	t.Helper()
	steered := patched(t, pod, patch)
	if steered.Annotations[v1alpha1.AnnotationPolicy] != "p" || len(steered.Spec.Tolerations) != 1 || steered.Spec.Affinity == nil {
		t.Errorf("steered: %+v", steered)
	}
	for key, value := range pod.Annotations {
		if steered.Annotations[key] != value {
			t.Errorf("annotation %s is %q", key, steered.Annotations[key])
		}
	}
}

// patched is the pod that the API server makes of one and a patch.
func patched(t *testing.T, pod *corev1.Pod, patch []byte) (steered corev1.Pod) {
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
	if err := json.Unmarshal(after, &steered); err != nil {
		t.Fatal(err)
	}
	return steered
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

// TestRegister: the API server is to ask about the namespaces that have policies or Migrations, and about no other.
func TestRegister(t *testing.T) {
	client := fake.NewClientset(&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.WebhookName}})
	policies := fixed{
		"shop": set(v1alpha1.OffloadPolicySpec{}), "blog": set(v1alpha1.OffloadPolicySpec{}),
		"bank": set(v1alpha1.OffloadPolicySpec{FailurePolicy: v1alpha1.FailurePolicyFail}), "moves": migrating(0),
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
		admissionregistrationv1.Ignore: {"blog", "moves", "shop"}, admissionregistrationv1.Fail: {"bank"},
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	writes := len(client.Actions())
	if again, err := server.register(t.Context(), before); err != nil || again != before || len(client.Actions()) != writes {
		t.Errorf("registered again: %v", err)
	}
}

// TestSteers: pods of a namespace are steered once it has been registered for a moment, and as long as it is.
func TestSteers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		look := func(want ...string) {
			t.Helper()
			var got []string
			for _, namespace := range []string{"a", "b"} {
				if s.Steers(namespace) {
					got = append(got, namespace)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		look()
		s.note([]string{"a"}, time.Now())
		look()
		<-time.After(settle)
		look("a")
		s.note([]string{"a", "b"}, time.Now())
		look("a")
		<-time.After(settle)
		look("a", "b")
		s.note([]string{"b"}, time.Now())
		look("b")
	})
}

func TestNew_BadURL(t *testing.T) {
	for _, url := range []string{"http://192.0.2.1:9443", "https://", "::"} {
		if _, err := New(Config{Client: fake.NewClientset(), Policies: fixed{}, Address: "127.0.0.1:0", URL: url}); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
}
