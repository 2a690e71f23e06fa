package translate

import (
	"net/netip"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// policyEnv is a home with namespaces shop and blog, which are offloaded, and kube-system and monitoring, which are not. A pod
// app=web is in each, at 10.1.0.1 and so on in their order; pods of home are seen from 100.71.0.0/16. Both clusters use
// 10.1.0.0/16, and home sees the peer's as 100.64.0.0/16.
func policyEnv() Env {
	env := testEnv()
	env.DNS.Nameservers = []netip.Addr{netip.MustParseAddr("169.254.83.53")}
	names := []string{"shop", "blog", "kube-system", "monitoring"}
	env.Views = func() []View {
		return []View{{prefix("10.1.0.0/16"), prefix("100.71.0.0/16")}, {prefix("100.64.0.0/16"), prefix("10.1.0.0/16")}}
	}
	env.MapOwn = func(a netip.Addr) netip.Addr {
		if !prefix("10.1.0.0/16").Contains(a) {
			return netip.Addr{}
		}
		b := a.As4()
		return netip.AddrFrom4([4]byte{100, 71, b[2], b[3]})
	}
	env.Namespaces = func(s labels.Selector) (out []string) {
		for _, name := range names {
			if s.Matches(labels.Set{corev1.LabelMetadataName: name}) {
				out = append(out, name)
			}
		}
		return out
	}
	env.HomePods = func(namespace string, s labels.Selector) (out []netip.Addr) {
		for i, name := range names {
			if name == namespace && s.Matches(labels.Set{"app": "web"}) {
				out = append(out, netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)}), netip.MustParseAddr("fd00::1"))
			}
		}
		return out
	}
	env.TenantNamespace = func(local string) (string, bool) {
		return "tenant-" + local, local == "shop" || local == "blog"
	}
	return env
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func namespaceNamed(names ...string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: names},
	}}
}

func withLabel(key, value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}

// peerText says who a peer is: "NAMESPACES/POD LABELS", or "CIDR-EXCEPT…".
func peerText(p networkingv1.NetworkPolicyPeer) string {
	if p.IPBlock != nil {
		return strings.Join(append([]string{p.IPBlock.CIDR}, p.IPBlock.Except...), "-")
	}
	text := "here"
	if p.NamespaceSelector != nil {
		text = strings.Join(p.NamespaceSelector.MatchExpressions[0].Values, ",")
	}
	return text + "/" + metav1.FormatLabelSelector(p.PodSelector)
}

// TestNetworkPolicy_Peers says what becomes of one peer, as one who may reach (in) and as one who may be reached (out).
func TestNetworkPolicy_Peers(t *testing.T) {
	for name, row := range map[string]struct {
		peer    networkingv1.NetworkPolicyPeer
		in, out string // the peers, with spaces; empty: the rule is gone
	}{
		"pods of the namespace": {
			peer: networkingv1.NetworkPolicyPeer{PodSelector: withLabel("app", "web")},
			in:   "here/app=web 100.71.0.1/32", out: "here/app=web 100.71.0.1/32",
		},
		"pods that home has none of": {
			peer: networkingv1.NetworkPolicyPeer{PodSelector: withLabel("app", "db")}, in: "here/app=db", out: "here/app=db",
		},
		"pods by a label that stays at home": {
			peer: networkingv1.NetworkPolicyPeer{PodSelector: withLabel(corev1.LabelTopologyZone, "a")},
		},
		"all namespaces": {
			peer: networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}},
			in:   "tenant-blog,tenant-shop/<none> 100.71.0.1/32 100.71.0.2/32 100.71.0.3/32 100.71.0.4/32",
			out:  "kube-system,tenant-blog,tenant-shop/<none> 169.254.83.53/32 100.71.0.1/32 100.71.0.2/32 100.71.0.3/32 100.71.0.4/32",
		},
		"pods of a namespace": {
			peer: networkingv1.NetworkPolicyPeer{NamespaceSelector: namespaceNamed("blog"), PodSelector: withLabel("app", "web")},
			in:   "tenant-blog/app=web 100.71.0.2/32", out: "tenant-blog/app=web 100.71.0.2/32",
		},
		"a namespace that stays at home": {
			peer: networkingv1.NetworkPolicyPeer{NamespaceSelector: namespaceNamed("monitoring")}, in: "100.71.0.4/32", out: "100.71.0.4/32",
		},
		"DNS": {
			peer: networkingv1.NetworkPolicyPeer{NamespaceSelector: namespaceNamed("kube-system"), PodSelector: withLabel("k8s-app", "kube-dns")},
			out:  "kube-system/k8s-app=kube-dns 169.254.83.53/32",
		},
		"no such namespace": {peer: networkingv1.NetworkPolicyPeer{NamespaceSelector: namespaceNamed("nowhere")}},
		"a selector that cannot be read": {
			peer: networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Like"}}}},
		},
		"a block": {
			peer: networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "10.1.2.0/24"}}, in: "100.71.2.0/24", out: "100.71.2.0/24",
		},
	} {
		t.Run(name, func(t *testing.T) {
			local := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: networkingv1.NetworkPolicySpec{
				Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{row.peer}}},
				Egress:  []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{row.peer}}},
			}}
			before := local.DeepCopy()
			twin := NetworkPolicy(local, policyEnv())
			var in, out []string
			for _, rule := range twin.Spec.Ingress {
				for _, p := range rule.From {
					in = append(in, peerText(p))
				}
			}
			for _, rule := range twin.Spec.Egress {
				for _, p := range rule.To {
					out = append(out, peerText(p))
				}
			}
			if diff := gocmp.Diff([]string{row.in, row.out}, []string{strings.Join(in, " "), strings.Join(out, " ")}); diff != "" {
				t.Errorf("in and out (-want +got):\n%s", diff)
			}
			if len(twin.Spec.Ingress) != min(len(in), 1) || len(twin.Spec.Egress) != min(len(out), 1) || len(twin.Spec.PolicyTypes) != 2 {
				t.Errorf("a rule whose peers are gone means everybody: %+v", twin.Spec)
			}
			if diff := gocmp.Diff(before, local); diff != "" {
				t.Errorf("the argument changed:\n%s", diff)
			}
		})
	}
}

// TestNetworkPolicy_AllPods: where all pods of home are named, the policy does not change with each of them.
func TestNetworkPolicy_AllPods(t *testing.T) {
	env := policyEnv()
	env.HomeRanges = func() []netip.Prefix {
		return []netip.Prefix{prefix("10.1.0.0/31"), prefix("10.1.0.2/32"), prefix("10.9.0.0/16")} // the peer does not see the last
	}
	local := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	for want, peer := range map[string]networkingv1.NetworkPolicyPeer{
		"tenant-blog,tenant-shop/<none> 100.71.0.0/31 100.71.0.2/32 100.71.0.3/32 100.71.0.4/32": {
			NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{},
		},
		"tenant-blog,tenant-shop/app=web 100.71.0.1/32 100.71.0.2/32 100.71.0.3/32 100.71.0.4/32": {
			NamespaceSelector: &metav1.LabelSelector{}, PodSelector: withLabel("app", "web"),
		},
	} {
		local.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{peer}}}
		var got []string
		for _, p := range NetworkPolicy(local, env).Spec.Ingress[0].From {
			got = append(got, peerText(p))
		}
		if diff := gocmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("peers (-want +got):\n%s", diff)
		}
	}
}

// TestNetworkPolicy_Spec: what the policy says beside its peers.
func TestNetworkPolicy_Spec(t *testing.T) {
	udp, port, end := corev1.ProtocolUDP, intstr.FromString("dns"), int32(60)
	local := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "np-1", Labels: map[string]string{"team": "blue"}},
		Spec: networkingv1.NetworkPolicySpec{PodSelector: *withLabel("app", "web"), Ingress: []networkingv1.NetworkPolicyIngressRule{
			{}, {Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: &port}, {EndPort: &end}}},
		}},
	}
	twin := NetworkPolicy(local, policyEnv())
	want := local.Spec.DeepCopy()
	want.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if diff := gocmp.Diff(*want, twin.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if twin.Namespace != "tenant-shop" || twin.Labels[LabelOrigin] == "" || twin.Labels["team"] != "blue" || twin.Annotations[AnnotationOriginUID] != "np-1" {
		t.Errorf("metadata %+v", twin.ObjectMeta)
	}
	local.Spec.PodSelector.MatchLabels[corev1.LabelTopologyZone] = "a"
	twin = NetworkPolicy(local, policyEnv())
	if got := metav1.FormatLabelSelector(&twin.Spec.PodSelector); got != "app=web" || len(twin.Spec.Ingress) != 0 || len(twin.Spec.PolicyTypes) != 1 {
		t.Errorf("of pods named by a label that stays at home: %s %+v", got, twin.Spec)
	}
}

// TestNetworkPolicyEqual: what the API server writes in is no difference; everything that means something is.
func TestNetworkPolicyEqual(t *testing.T) {
	local := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: networkingv1.NetworkPolicySpec{
		Ingress: []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{{}}}},
		Egress:  []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{{}}}},
	}}
	want := NetworkPolicy(local, policyEnv())
	stored, tcp := want.DeepCopy(), corev1.ProtocolTCP
	stored.Spec.Ingress[0].Ports[0].Protocol, stored.Spec.Egress[0].Ports[0].Protocol = &tcp, &tcp
	stored.Spec.Ingress[0].From = []networkingv1.NetworkPolicyPeer{}
	stored.UID, stored.Labels["provider/team"] = "made-1", "red"
	if !NetworkPolicyEqual(want, stored) {
		t.Error("the API's defaults are taken for a difference")
	}
	for name, change := range map[string]func(*networkingv1.NetworkPolicy){
		"type":     func(p *networkingv1.NetworkPolicy) { p.Spec.PolicyTypes = p.Spec.PolicyTypes[:1] },
		"selector": func(p *networkingv1.NetworkPolicy) { p.Spec.PodSelector = *withLabel("app", "db") },
		"peer": func(p *networkingv1.NetworkPolicy) {
			p.Spec.Ingress[0].From = []networkingv1.NetworkPolicyPeer{{PodSelector: withLabel("app", "db")}}
		},
		"port":   func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].Ports = nil },
		"origin": func(p *networkingv1.NetworkPolicy) { p.Annotations[AnnotationOriginUID] = "other" },
	} {
		have := stored.DeepCopy()
		change(have)
		if NetworkPolicyEqual(want, have) {
			t.Errorf("another %s is no difference", name)
		}
	}
}

// TestBlocksAtPeer: a block means what home sees.
func TestBlocksAtPeer(t *testing.T) {
	for name, row := range map[string]struct {
		block string // "CIDR-EXCEPT…"
		want  string // the blocks, with spaces
	}{
		"the internet":                       {"192.0.2.0/24", "192.0.2.0/24"},
		"everywhere":                         {"0.0.0.0/0", "0.0.0.0/0"},
		"everywhere in IPv6":                 {"::/0", "::/0"},
		"everywhere but pods of home":        {"0.0.0.0/0-10.1.0.0/16", "0.0.0.0/0-10.1.0.0/16-100.71.0.0/16 10.1.0.0/16"},
		"everywhere but some pods of home":   {"0.0.0.0/0-10.1.2.0/24", "0.0.0.0/0-10.1.2.0/24-100.71.0.0/16 100.71.0.0/16-100.71.2.0/24 10.1.0.0/16"},
		"everywhere but pods of the peer":    {"0.0.0.0/0-100.64.0.0/16", "0.0.0.0/0-100.64.0.0/16-10.1.0.0/16"},
		"everywhere but private addresses":   {"0.0.0.0/0-10.0.0.0/8", "0.0.0.0/0-10.0.0.0/8-100.71.0.0/16 10.1.0.0/16"},
		"private addresses":                  {"10.0.0.0/8", "10.0.0.0/8-10.1.0.0/16 100.71.0.0/16"},
		"all pods of home":                   {"10.1.0.0/16", "100.71.0.0/16"},
		"one pod of home":                    {"10.1.2.3/32", "100.71.2.3/32"},
		"some pods of home but some":         {"10.1.2.0/23-10.1.3.0/24", "100.71.2.0/23-100.71.3.0/24"},
		"some pods of the peer":              {"100.64.9.0/24", "10.1.9.0/24"},
		"what at the peer are pods of home":  {"100.71.9.0/24", ""},
		"more than what are pods of home":    {"100.0.0.0/8", "100.0.0.0/8-100.71.0.0/16 10.1.0.0/16"},
		"a block that is not written masked": {"192.0.2.7/24", "192.0.2.0/24"},
	} {
		t.Run(name, func(t *testing.T) {
			parts := strings.Split(row.block, "-")
			b, ok := parseBlock(&networkingv1.IPBlock{CIDR: parts[0], Except: parts[1:]})
			if !ok {
				t.Fatal("not read")
			}
			var got []string
			for _, b := range blocksAtPeer(b, policyEnv().Views()) {
				got = append(got, peerText(networkingv1.NetworkPolicyPeer{IPBlock: b.api()}))
			}
			if diff := gocmp.Diff(row.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("blocks (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDrift_Isolated: the label follows the policies of home.
func TestDrift_Isolated(t *testing.T) {
	yes, no := testEnv(), testEnv()
	yes.Isolated = func(l map[string]string) bool { return l["app"] == "web" }
	for name, row := range map[string]struct {
		before, now Env
		want        string
	}{
		"a policy comes": {no, yes, `{"metadata":{"labels":{"spillway.dev/isolated":"ingress"}}}`},
		"a policy goes":  {yes, no, `{"metadata":{"labels":{"spillway.dev/isolated":null}}}`},
		"nothing":        {yes, yes, ""},
	} {
		patch, _, err := Drift(web(), Twin(web(), row.before), row.now)
		if err != nil || string(patch) != row.want {
			t.Errorf("%s: %s, %v, want %s", name, patch, err, row.want)
		}
	}
}
