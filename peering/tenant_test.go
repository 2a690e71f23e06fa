package peering

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func TestTenant_NamespaceNames(t *testing.T) {
	one := tenant{peering: "home", consumer: "id-1"}
	two := tenant{peering: "other", consumer: "id-2"}
	long := strings.Repeat("a", 63)
	names := map[string]string{}
	for what, name := range map[string]string{
		"shop of one": one.namespaceName("shop"), "shop of two": two.namespaceName("shop"), "blog of one": one.namespaceName("blog"),
		"a long name": one.namespaceName(long), "another long name": one.namespaceName(long[:62] + "b"),
		"a long name of two": two.namespaceName(long),
	} {
		if !validNamespace(name) {
			t.Errorf("%s: %q is no name of a namespace", what, name)
		}
		if other := names[name]; other != "" {
			t.Errorf("%s and %s have the same name %q", what, other, name)
		}
		names[name] = what
	}
	if got := one.namespaceName("shop"); got != one.namespaceName("shop") || !strings.HasPrefix(got, "shop-") {
		t.Errorf("namespace shop is %q: it should be recognised, and stay the same", got)
	}
}

// TestTenant_NamesAreFixed: a provider that is updated must find what it made before.
func TestTenant_NamesAreFixed(t *testing.T) {
	one := tenant{peering: "home", consumer: "6f1c3a52-64a9-4d53-8b49-0d6e4b0f1a11"}
	got := []string{one.namespace(), one.clusterObject(), one.namespaceName("shop"), one.namespaceName(strings.Repeat("long-", 12) + "end")}
	want := []string{"spillway-tenant-home", "spillway-tenant-home", "shop-71d061c1", "long-long-long-long-long-long-long-long-long--e4855d75-71d061c1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// TestTenant_Rights: nothing cluster-wide but the tenant's own Peering, by name.
func TestTenant_Rights(t *testing.T) {
	id := tenant{peering: "home", consumer: "id-1"}.identity()
	if len(id.clusterRole.Rules) != 1 {
		t.Fatalf("%d cluster-wide rules, want 1", len(id.clusterRole.Rules))
	}
	rule := id.clusterRole.Rules[0]
	if !slices.Equal(rule.ResourceNames, []string{"home"}) || !slices.Equal(rule.Resources, []string{"peerings"}) ||
		!slices.Equal(rule.Verbs, []string{"get", "list", "watch"}) {
		t.Errorf("cluster-wide rule %+v", rule)
	}
	bound := map[string]string{}
	for _, b := range id.bindings {
		bound[*b.Subjects[0].Name] = *b.RoleRef.Name
	}
	if *id.usage.Namespace != v1alpha1.SystemNamespace || *id.usage.Name != "spillway-tenant-home" || *id.usage.RoleRef.Name != roleUsage ||
		*id.usage.Subjects[0].Name != accountConsumer || *id.usage.Subjects[0].Namespace != "spillway-tenant-home" {
		t.Errorf("right to ask for usage: %+v", id.usage)
	}
	want := map[string]string{accountConsumer: roleIdentity, accountRenewal: roleRenewal}
	if diff := cmp.Diff(want, bound); diff != "" {
		t.Errorf("roles in the namespace of the identity (-want +got):\n%s", diff)
	}
}

func TestTenant_EverythingIsMarked(t *testing.T) {
	one := tenant{peering: "home", consumer: "id-1"}
	id, h := one.identity(), one.home("shop")
	quota := one.quota("shop-x", amounts{corev1.ResourceCPU: 1000})
	for what, labels := range map[string]map[string]string{
		"the identity's namespace": id.namespace.Labels, "its Secret": id.secret.Labels, "its requests": id.requests.Labels, "its network": id.network.Labels,
		"its account": id.accounts[0].Labels, "its renewal account": id.accounts[1].Labels,
		"its binding": id.bindings[0].Labels, "its other binding": id.bindings[1].Labels,
		"its right to ask for usage": id.usage.Labels,
		"its cluster role":           id.clusterRole.Labels, "its cluster binding": id.clusterBinding.Labels,
		"a namespace": h.namespace.Labels, "its rights": h.binding.Labels, "its defaults": h.defaults.Labels,
		"its network policy": h.policies[0].Labels, "its other network policy": h.policies[1].Labels, "its quota": quota.Labels,
	} {
		if labels[v1alpha1.LabelTenant] != "id-1" {
			t.Errorf("%s does not carry %s=id-1, so un-peering would leave it: %v", what, v1alpha1.LabelTenant, labels)
		}
	}
}

func TestTenant_PodSecurity(t *testing.T) {
	for level, want := range map[v1alpha1.PodSecurityLevel]string{"": "baseline", v1alpha1.PodSecurityRestricted: "restricted"} {
		h := tenant{peering: "home", consumer: "id-1", share: v1alpha1.Share{PodSecurity: level}}.home("shop")
		if got := h.namespace.Labels[labelPodSecurity]; got != want {
			t.Errorf("level %q becomes %q, want %q", level, got, want)
		}
	}
}

// TestTenant_IngressClass: the label is what the admission policy goes by; another class is another state of a namespace.
func TestTenant_IngressClass(t *testing.T) {
	of := func(class string) tenant {
		return tenant{peering: "home", consumer: "id-1", share: v1alpha1.Share{IngressClassName: class}}
	}
	if got, there := of("").home("shop").namespace.Labels[v1alpha1.LabelIngressClass]; there {
		t.Errorf("no class becomes %q", got)
	}
	if got := of("nginx").home("shop").namespace.Labels[v1alpha1.LabelIngressClass]; got != "nginx" {
		t.Errorf("class nginx becomes %q", got)
	}
	if n := len(of("").friends()); n != 1 {
		t.Errorf("%d friends without a class", n)
	}
	friends := of("nginx").friends()
	if len(friends) != 2 || friends[1].NamespaceSelector.MatchLabels[v1alpha1.LabelIngressController] != "nginx" {
		t.Errorf("who serves class nginx does not reach the tenant's pods: %v", friends)
	}
	if of("").terms() == of("nginx").terms() {
		t.Error("a namespace would not be written again when the class changes")
	}
	if labels := of("nginx").labels(); len(labels) != 1 {
		t.Errorf("other objects of the tenant get %v too", labels)
	}
}

// TestTenant_Policies: who may reach a pod does not depend on the provider's policies where the tenant's own select it, and nobody
// does before these are there.
func TestTenant_Policies(t *testing.T) {
	policies := tenant{peering: "home", consumer: "id-1", ranges: []string{"100.71.0.0/16"}}.home("shop").policies
	got := map[string]string{}
	for _, p := range policies {
		if len(p.Spec.PolicyTypes) != 1 || p.Spec.PolicyTypes[0] != networkingv1.PolicyTypeIngress || len(p.Spec.PodSelector.MatchExpressions) != 1 {
			t.Fatalf("policy %s: %+v", *p.Name, p.Spec)
		}
		pods := p.Spec.PodSelector.MatchExpressions[0]
		friends := 0
		for _, rule := range p.Spec.Ingress {
			friends += len(rule.From)
		}
		got[*p.Name] = fmt.Sprintf("%s %s: %d rules, %d friends", *pods.Key, *pods.Operator, len(p.Spec.Ingress), friends)
	}
	want := map[string]string{
		"spillway":          "spillway.dev/isolated DoesNotExist: 1 rules, 2 friends",
		"spillway-isolated": "spillway.dev/isolated Exists: 0 rules, 0 friends",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
}

// TestTenant_Shape: who may reach pods follows at once when the tunnel says where the consumer is.
func TestTenant_Shape(t *testing.T) {
	before := tenant{}
	for what, now := range map[string]tenant{
		"ranges": {ranges: []string{"100.71.0.0/16"}}, "pod security": {share: v1alpha1.Share{PodSecurity: v1alpha1.PodSecurityRestricted}},
	} {
		if now.terms() == before.terms() {
			t.Errorf("%s: the terms stay %+v", what, now.terms())
		}
	}
}

// TestTenant_MayShare: names that others rely on are never given away.
func TestTenant_MayShare(t *testing.T) {
	same := tenant{share: v1alpha1.Share{NamespaceNames: v1alpha1.NamespaceNamesSameIfFree}}
	for local, want := range map[string]bool{
		"shop": true, "default": false, "kube-system": false, "kube-public": false, "spillway-system": false, "spillway-tenant-x": false,
		"kubernetes-dashboard": true,
	} {
		if got := same.mayShare(local); got != want {
			t.Errorf("%s: %v, want %v", local, got, want)
		}
		if (tenant{}).mayShare(local) {
			t.Errorf("%s is shared although nobody said so", local)
		}
	}
	chosen := tenant{consumer: "id-1", names: map[string]string{"shop": "shop"}}
	if got := chosen.namespaceName("shop"); got != "shop" {
		t.Errorf("a chosen name became %q", got)
	}
}

func TestTenant_QuotaCountsRequests(t *testing.T) {
	quota := tenant{consumer: "id-1"}.quota("shop-x", amounts{
		corev1.ResourceCPU: 1500, corev1.ResourceMemory: 1 << 30 * 1000, corev1.ResourcePods: 7000, "example.org/gpu": 2000,
	})
	got := map[string]string{}
	for name, q := range *quota.Spec.Hard {
		got[string(name)] = q.String()
	}
	want := map[string]string{"requests.cpu": "1500m", "requests.memory": "1Gi", "pods": "7", "requests.example.org/gpu": "2",
		"services.nodeports": "0", "services.loadbalancers": "0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("quota (-want +got):\n%s", diff)
	}
}

// TestRequestedNamespaces: the provider trusts nothing that a consumer writes.
func TestRequestedNamespaces(t *testing.T) {
	for name, row := range map[string]struct {
		asked []string
		want  []string
	}{
		"nothing":             {nil, nil},
		"two, sorted":         {[]string{"shop", "blog"}, []string{"blog", "shop"}},
		"what is no name":     {[]string{"shop", "Shop", "..", "a.b", "-x", "", strings.Repeat("a", 64)}, []string{"shop"}},
		"names of the system": {[]string{"kube-system"}, []string{"kube-system"}}, // becomes kube-system-HASH, which is nobody's
	} {
		t.Run(name, func(t *testing.T) {
			cm := &corev1.ConfigMap{Data: map[string]string{}}
			for _, key := range row.asked {
				cm.Data[key] = "ignored"
			}
			if diff := cmp.Diff(row.want, requestedNamespaces(cm)); diff != "" {
				t.Errorf("namespaces (-want +got):\n%s", diff)
			}
		})
	}
	if got := requestedNamespaces(nil); got != nil {
		t.Errorf("no ConfigMap: %v", got)
	}
}

func TestAmounts_ThereAndBack(t *testing.T) {
	in := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("3Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	for name, q := range amountsOf(in).list() {
		if want := in[name]; q.Cmp(want) != 0 || q.String() != want.String() {
			t.Errorf("%s: %s becomes %s", name, want.String(), q.String())
		}
	}
}
