package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func TestSanitise(t *testing.T) {
	for context, want := range map[string]string{
		"home":                           "home",
		"kubernetes-admin@Cluster.local": "kubernetes-admin-cluster-local",
		"arn:aws:eks:eu-west-1:123456789012:cluster/prod": "-1-123456789012-cluster-prod",
		"gke_project_europe-west1-b_shop":                 "gke-project-europe-west1-b-shop",
		"___":                                             "",
		"":                                                "",
	} {
		got := sanitise(context)
		if len(got) > maxNameLength || !strings.Contains(got, strings.Trim(want, "-")) || len(context) < 40 && got != want {
			t.Errorf("sanitise(%q) = %q, want %q", context, got, want)
		}
		if got != "" && checkName("--name", got) != nil {
			t.Errorf("sanitise(%q) = %q, which is no name", context, got)
		}
	}
	long := strings.Repeat("x", 50)
	if sanitise(long+"a") == sanitise(long+"b") || sanitise("a"+long) == sanitise("b"+long) {
		t.Error("two long contexts got one name")
	}
}

func TestJudgeLease(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	lease := func(age time.Duration, holder string) *coordinationv1.Lease {
		seconds, at := int32(15), metav1.NewMicroTime(now.Add(-age))
		return &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &at, LeaseDurationSeconds: &seconds, HolderIdentity: &holder}}
	}
	tests := map[string]struct {
		lease   *coordinationv1.Lease
		alive   bool
		why     string
		returns bool
	}{
		"none":            {nil, false, "there is no Lease spillway-system/spillwayd", false},
		"never renewed":   {&coordinationv1.Lease{}, false, "the Lease spillway-system/spillwayd was never renewed", false},
		"fresh":           {lease(2*time.Second, "a"), true, "", true},
		"within slack":    {lease(19*time.Second, "a"), true, "", true},
		"stale":           {lease(90*time.Second, "a"), false, "the Lease spillway-system/spillwayd was last renewed 1m30s ago", true},
		"long dead":       {lease(time.Hour, "a"), false, "the Lease spillway-system/spillwayd was last renewed 1h0m0s ago", false},
		"released":        {lease(0, ""), false, "the Lease spillway-system/spillwayd has no holder", true},
		"clock runs fast": {lease(-time.Minute, "a"), true, "", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			alive, why := judgeLease(test.lease, now)
			if alive != test.alive || why != test.why {
				t.Errorf("got %v %q, want %v %q", alive, why, test.alive, test.why)
			}
			if got := mayReturn(test.lease, now); got != test.returns {
				t.Errorf("mayReturn is %v, want %v", got, test.returns)
			}
		})
	}
}

func TestWantShare_WhatIsNotSaidStays(t *testing.T) {
	percent, level := int32(50), v1alpha1.PodSecurityRestricted
	existing := &v1alpha1.Peering{Spec: v1alpha1.PeeringSpec{Share: &v1alpha1.Share{
		Percent: 80, Resources: corev1.ResourceList{"cpu": resource.MustParse("4")}, NodeSelector: map[string]string{"pool": "lend"},
		IngressClassName: "nginx",
	}}}
	got := wantShare(existing, peerWish{percent: &percent, resources: &corev1.ResourceList{}, podSecurity: &level})
	want := &v1alpha1.Share{Percent: 50, Resources: corev1.ResourceList{}, NodeSelector: map[string]string{"pool": "lend"}, PodSecurity: level, IngressClassName: "nginx"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := wantShare(existing, peerWish{ingressClass: new(string)}).IngressClassName; got != "" {
		t.Errorf("the class %q is shared although none is wanted", got)
	}
	if existing.Spec.Share.Percent != 80 {
		t.Error("the existing Peering was changed")
	}
}

func TestWantServer(t *testing.T) {
	existing := func(status metav1.ConditionStatus) *v1alpha1.Peering {
		return &v1alpha1.Peering{
			Spec:   v1alpha1.PeeringSpec{API: &v1alpha1.APIEndpoint{Server: "https://old"}},
			Status: v1alpha1.PeeringStatus{Conditions: []metav1.Condition{{Type: v1alpha1.ConditionAuthenticated, Status: status}}},
		}
	}
	tests := map[string]struct {
		existing *v1alpha1.Peering
		flag     string
		want     string
	}{
		"first time":             {nil, "", "https://kubeconfig"},
		"flag":                   {existing(metav1.ConditionTrue), "https://flag", "https://flag"},
		"working one stays":      {existing(metav1.ConditionTrue), "", "https://old"},
		"broken one is replaced": {existing(metav1.ConditionFalse), "", "https://kubeconfig"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := wantServer(test.existing, peerWish{remoteServer: test.flag}, "https://kubeconfig"); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestCondition_OldGenerationDoesNotCount(t *testing.T) {
	p := &v1alpha1.Peering{ObjectMeta: metav1.ObjectMeta{Generation: 2}}
	p.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: 1}}
	if holds(p, v1alpha1.ConditionReady) {
		t.Error("a condition of an older spec counts")
	}
	p.Status.Conditions[0].ObservedGeneration = 2
	if !holds(p, v1alpha1.ConditionReady) {
		t.Error("a condition of this spec does not count")
	}
}

func TestSameServer(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"https://a:6443", "https://a:6443/", true},
		{"https://a", "https://A:443", true},
		{"https://a:6443", "https://a:6444", false},
		{"https://a/k8s/1", "https://a/k8s/2", false},
		{"", "https://a", false},
	} {
		if got := sameServer(test.a, test.b); got != test.same {
			t.Errorf("sameServer(%q, %q) = %v", test.a, test.b, got)
		}
	}
}

func TestContextsOf_ByAuthority(t *testing.T) {
	raw := clientcmdapi.NewConfig()
	raw.Clusters["a"] = &clientcmdapi.Cluster{Server: "https://outside:6443", CertificateAuthorityData: []byte("CA\n")}
	raw.Contexts["z"] = &clientcmdapi.Context{Cluster: "a"}
	raw.Contexts["broken"] = &clientcmdapi.Context{Cluster: "missing"}
	if diff := cmp.Diff([]string{"z"}, contextsOf(raw, "https://inside:443", []byte("CA"))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := contextsOf(raw, "https://inside:443", nil); got != nil {
		t.Errorf("got %v without an authority", got)
	}
}

func TestExplain(t *testing.T) {
	c := &cluster{role: "provider", context: "cloud", server: "https://cloud:6443"}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", errors.New("no"))
	tests := map[string]struct {
		err  error
		want string
	}{
		"401":     {apierrors.NewUnauthorized("Unauthorized"), "does not accept your credential"},
		"403":     {forbidden, `you may not list nodes in the provider (context "cloud")`},
		"timeout": {context.DeadlineExceeded, "does not answer: no answer within 5 s"},
		"stopped": {context.Canceled, "interrupted while trying to list nodes"},
		"other":   {errors.New("teapot"), `cannot list nodes in the provider (context "cloud"): teapot.`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := explain(c, "list nodes", test.err)
			if !strings.Contains(got.Error(), test.want) || !errors.Is(got, test.err) {
				t.Errorf("got %q, want %q in it", got, test.want)
			}
		})
	}
}

func TestKeptFinalizers(t *testing.T) {
	both := &v1alpha1.Peering{Spec: v1alpha1.PeeringSpec{Borrow: &v1alpha1.Borrow{}, Share: &v1alpha1.Share{}}}
	all := []string{finalizerConsumer, "example.com/other", finalizerProvider}
	for name, test := range map[string]struct {
		r    removal
		want []string
	}{
		"whole":       {removal{peering: both, borrow: true, share: true}, []string{"example.com/other"}},
		"borrow only": {removal{peering: both, borrow: true}, []string{"example.com/other", finalizerProvider}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.r.keptFinalizers(all)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestOverview_Print(t *testing.T) {
	p := &v1alpha1.Peering{
		ObjectMeta: metav1.ObjectMeta{Name: "cloud"},
		Spec:       v1alpha1.PeeringSpec{ClusterID: "id", API: &v1alpha1.APIEndpoint{Server: "https://127.0.0.1:6443"}, Borrow: &v1alpha1.Borrow{}},
		Status: v1alpha1.PeeringStatus{Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionAuthenticated, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAuthenticated},
			{Type: v1alpha1.ConditionNodeReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonUnreachable, Message: "no answer for 12 s"},
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonUnreachable, Message: "no answer for 12 s"},
		}},
	}
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "spillway-cloud"}}
	node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("7500m"), "memory": resource.MustParse("16Gi")}
	pod := corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("512Mi")}}}}
	ended := corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}
	o := overview{Context: "home", ControllerAlive: true, Peerings: []row{describe(p, []corev1.Node{node}, []corev1.Pod{pod, ended}, nil)}}
	var text strings.Builder
	if err := o.print(&text, false); err != nil {
		t.Fatal(err)
	}
	want := `NAME    ROLE     READY   NODES            PODS          CPU USED/OFFERED   MEMORY USED/OFFERED   SINCE
cloud   borrow   False   spillway-cloud   1/1 running   0.5/7.5            512Mi/16.0Gi          -

cloud: NodeReady is False (Unreachable): no answer for 12 s.
  → Check that the peer runs and that spillwayd of this cluster can reach https://127.0.0.1:6443; in a pod that loopback address means the pod itself, so give one that pods can use: spillway peer --remote-server https://ADDRESS:PORT.
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestStatus_WithoutPeerings(t *testing.T) {
	p := newPair(t)
	out := p.must(t, "status")
	for _, want := range []string{"not peered with any other", "spillway peer --context home --remote-context OTHER", "No spillwayd controller is running"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}
