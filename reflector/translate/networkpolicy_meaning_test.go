package translate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	pointer "k8s.io/utils/ptr"
)

// face is how a NetworkPolicy of one cluster sees somebody. Without labels it is an address only.
type face struct {
	namespace         string
	namespaceL, podsL labels.Set
	addr              netip.Addr
}

// party is somebody who may reach a twin, or be reached by it, as both clusters see it.
type party struct {
	name       string
	home, peer face
	ingress    bool // whether it is one that reaches twins
}

// admits is the meaning of NetworkPolicies (the API's own words): who no policy selects is open, and who one
// does is open to whom any of them names.
func admits(policies []*networkingv1.NetworkPolicy, target, other face, way networkingv1.PolicyType, port networkingv1.NetworkPolicyPort) bool {
	selected := false
	for _, p := range policies {
		if p.Namespace != target.namespace || !selectorMatches(&p.Spec.PodSelector, target.podsL) || !slices.Contains(policyTypes(&p.Spec), way) {
			continue
		}
		selected = true
		if way == networkingv1.PolicyTypeIngress {
			for _, r := range p.Spec.Ingress {
				if named(r.From, p.Namespace, other) && opens(r.Ports, port) {
					return true
				}
			}
			continue
		}
		for _, r := range p.Spec.Egress {
			if named(r.To, p.Namespace, other) && opens(r.Ports, port) {
				return true
			}
		}
	}
	return !selected
}

func selectorMatches(s *metav1.LabelSelector, set labels.Set) bool {
	matching, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && matching.Matches(set)
}

func named(peers []networkingv1.NetworkPolicyPeer, namespace string, who face) bool {
	return len(peers) == 0 || slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.IPBlock != nil {
			b, ok := parseBlock(p.IPBlock)
			return ok && b.cidr.Contains(who.addr) && !slices.ContainsFunc(b.except, func(e netip.Prefix) bool { return e.Contains(who.addr) })
		}
		if who.podsL == nil || p.PodSelector != nil && !selectorMatches(p.PodSelector, who.podsL) {
			return false
		}
		if p.NamespaceSelector == nil {
			return who.namespace == namespace
		}
		return selectorMatches(p.NamespaceSelector, who.namespaceL)
	})
}

func opens(ports []networkingv1.NetworkPolicyPort, to networkingv1.NetworkPolicyPort) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		if pointer.Deref(p.Protocol, corev1.ProtocolTCP) != *to.Protocol {
			return false
		}
		if p.Port == nil {
			return true
		}
		last := pointer.Deref(p.EndPort, p.Port.IntVal)
		return p.Port.IntVal <= to.Port.IntVal && to.Port.IntVal <= last
	})
}

// dice makes random clusters and policies.
type dice struct{ *rand.Rand }

func anyOf[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

// some says yes once in n times.
func (d dice) some(n int) bool { return d.IntN(n) == 0 }

// world is a home and a peer.
type world struct {
	dice
	views      []View
	namespaces map[string]labels.Set
	tenant     map[string]string
	parties    []party
	twins      []party
	locals     []*corev1.Pod // of twins
	policies   []*networkingv1.NetworkPolicy
	ranges     bool // it is known where all pods of home are
}

func newWorld(d dice) *world {
	w := &world{dice: d, tenant: map[string]string{"shop": "shop-1f2e", "blog": "blog"}, namespaces: map[string]labels.Set{}}
	for _, name := range []string{"shop", "blog", "private", "kube-system"} {
		w.namespaces[name] = labels.Set{corev1.LabelMetadataName: name, "team": anyOf(d, "red", "blue")}
	}
	own := View{prefix("10.1.0.0/16"), anyOf(d, prefix("10.1.0.0/16"), prefix("100.71.0.0/16"))}
	seen := View{prefix("100.64.0.0/16"), anyOf(d, prefix("10.3.0.0/16"), prefix("100.64.0.0/16"))}
	if own.Home != own.Peer && d.some(2) {
		seen.Peer = prefix("10.1.0.0/16") // both clusters use it
	}
	w.views = []View{own, seen, {prefix("fd00:1::/48"), prefix("fd00:a::/48")}}
	w.ranges = d.some(2)
	for i := range 8 {
		w.addHomePod(i)
	}
	for i := range 5 {
		w.addTwin(i)
	}
	for _, a := range []string{"192.0.2.7", "203.0.113.9", "10.200.0.1", "2001:db8::1"} {
		f := face{addr: netip.MustParseAddr(a)}
		w.parties = append(w.parties, party{name: a, home: f, peer: f, ingress: true})
	}
	dns := face{namespace: "kube-system", namespaceL: w.namespaces["kube-system"], podsL: labels.Set{"app": "dns"}, addr: netip.MustParseAddr("100.64.0.53")}
	there := dns
	there.namespaceL = labels.Set{corev1.LabelMetadataName: "kube-system"}
	there.addr = w.atPeer(dns.addr)
	w.parties = append(w.parties, party{name: "DNS", home: dns, peer: there})
	for i := range 1 + d.IntN(4) {
		w.policies = append(w.policies, w.policy(i))
	}
	return w
}

// atPeer is what the peer calls an address of home; invalid when it does not know it.
func (w *world) atPeer(a netip.Addr) netip.Addr {
	for _, v := range w.views {
		if v.Home.Contains(a) {
			return moved(netip.PrefixFrom(a, a.BitLen()), v).Addr()
		}
	}
	return netip.Addr{}
}

func (w *world) podLabels() labels.Set {
	set := labels.Set{"app": anyOf(w.dice, "web", "db", "dns")}
	if w.some(2) {
		set["tier"] = anyOf(w.dice, "front", "back")
	}
	if w.some(4) {
		set[corev1.LabelTopologyZone] = anyOf(w.dice, "a", "b")
	}
	return set
}

func (w *world) addHomePod(i int) {
	a := netip.AddrFrom4([4]byte{10, 1, byte(w.IntN(4)), byte(i + 1)})
	if w.some(4) {
		a = netip.MustParseAddr(fmt.Sprintf("fd00:1::%d", i+1))
	}
	ns := anyOf(w.dice, "shop", "blog", "private", "kube-system")
	home := face{namespace: ns, namespaceL: w.namespaces[ns], podsL: w.podLabels(), addr: a}
	w.parties = append(w.parties, party{name: fmt.Sprint("home pod ", i), home: home, peer: face{addr: w.atPeer(a)}, ingress: true})
}

func (w *world) addTwin(i int) {
	a := netip.AddrFrom4([4]byte{100, 64, byte(w.IntN(4)), byte(i + 1)})
	ns := anyOf(w.dice, "shop", "blog")
	set := w.podLabels()
	w.locals = append(w.locals, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "twin", Labels: set, UID: types.UID(fmt.Sprint(i))}})
	w.twins = append(w.twins, party{
		name: fmt.Sprint("twin ", i), ingress: true, home: face{namespace: ns, namespaceL: w.namespaces[ns], podsL: set, addr: a},
		peer: face{namespace: w.tenant[ns], addr: w.atPeer(a), namespaceL: labels.Set{corev1.LabelMetadataName: w.tenant[ns], "spillway.dev/tenant": "id"}},
	})
}

func (w *world) env(namespace string) Env {
	env := testEnv()
	env.RemoteNamespace, env.MapOwn, env.Views = w.tenant[namespace], w.atPeer, func() []View { return w.views }
	env.TenantNamespace = func(local string) (string, bool) { remote, ok := w.tenant[local]; return remote, ok }
	env.Namespaces = func(s labels.Selector) (out []string) {
		for name, set := range w.namespaces {
			if s.Matches(set) {
				out = append(out, name)
			}
		}
		return out
	}
	env.HomePods = func(namespace string, s labels.Selector) (out []netip.Addr) {
		for _, p := range w.parties {
			if p.home.podsL != nil && p.peer.podsL == nil && p.home.namespace == namespace && s.Matches(p.home.podsL) {
				out = append(out, p.home.addr)
			}
		}
		return out
	}
	if w.ranges {
		env.HomeRanges = func() []netip.Prefix { return []netip.Prefix{w.views[0].Home} } // IPv6 is named one by one
	}
	env.Isolated = func(set map[string]string) bool {
		return slices.ContainsFunc(w.policies, func(p *networkingv1.NetworkPolicy) bool {
			return p.Namespace == namespace && IsolatesIngress(p) && selectorMatches(&p.Spec.PodSelector, set)
		})
	}
	return env
}

func (w *world) policy(i int) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), Namespace: anyOf(w.dice, "shop", "blog")}}
	p.Spec.PodSelector = anyOf(w.dice, metav1.LabelSelector{}, *w.selector())
	p.Spec.PolicyTypes = anyOf(w.dice, nil, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
		[]networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress})
	for range w.IntN(3) {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: w.peers(), Ports: w.ports()})
	}
	for range w.IntN(3) {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: w.peers(), Ports: w.ports()})
	}
	return p
}

func (w *world) selector() *metav1.LabelSelector {
	if w.some(2) {
		return withLabel("app", anyOf(w.dice, "web", "db", "dns"))
	}
	key := anyOf(w.dice, "tier", "tier", "app")
	if w.some(10) {
		key = corev1.LabelTopologyZone
	}
	r := metav1.LabelSelectorRequirement{Key: key, Operator: anyOf(w.dice, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn)}
	if r.Operator == metav1.LabelSelectorOpIn || r.Operator == metav1.LabelSelectorOpNotIn {
		r.Values = []string{anyOf(w.dice, "front", "web", "a")}
	}
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{r}}
}

func (w *world) peers() (peers []networkingv1.NetworkPolicyPeer) {
	for range w.IntN(3) {
		var p networkingv1.NetworkPolicyPeer
		switch w.IntN(4) {
		case 0:
			p.PodSelector = w.selector()
		case 1:
			p.NamespaceSelector = anyOf(w.dice, &metav1.LabelSelector{}, withLabel("team", "red"), namespaceNamed("kube-system", "private"))
		case 2:
			p.NamespaceSelector, p.PodSelector = anyOf(w.dice, withLabel("team", "blue"), namespaceNamed("kube-system", "shop")), w.selector()
		case 3:
			p.IPBlock = w.block()
		}
		peers = append(peers, p)
	}
	return peers
}

func (w *world) block() *networkingv1.IPBlock {
	pool := []string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/23", "10.1.2.0/24", "100.0.0.0/8", "100.64.0.0/10", "100.64.0.0/16",
		"100.64.2.0/24", "100.71.0.0/16", "10.3.1.0/24", "192.0.2.0/24", "::/0", "fd00:1::/48", "fd00:a::/48", "fd00:1::2/127"}
	b := &networkingv1.IPBlock{CIDR: anyOf(w.dice, pool...)}
	for _, e := range pool {
		if within(prefix(e), prefix(b.CIDR)) && e != b.CIDR && w.some(4) {
			b.Except = append(b.Except, e)
		}
	}
	return b
}

func (w *world) ports() (ports []networkingv1.NetworkPolicyPort) {
	for range w.IntN(2) {
		port := networkingv1.NetworkPolicyPort{Protocol: anyOf(w.dice, nil, pointer.To(corev1.ProtocolTCP), pointer.To(corev1.ProtocolUDP))}
		if w.some(2) {
			port.Port = pointer.To(intstr.FromInt32(anyOf[int32](w.dice, 53, 80)))
			port.EndPort = anyOf(w.dice, nil, pointer.To[int32](443))
		}
		ports = append(ports, port)
	}
	return ports
}

// lossy says whether a policy speaks of labels that do not travel.
func lossy(p *networkingv1.NetworkPolicy) bool {
	return !selectorTravels(&p.Spec.PodSelector) ||
		slices.ContainsFunc(peersOf(p), func(p networkingv1.NetworkPolicyPeer) bool { return !selectorTravels(p.PodSelector) })
}

// providersOwn are the policies that a provider makes in a tenant namespace.
func (w *world) providersOwn(remote string) []*networkingv1.NetworkPolicy {
	open := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: remote}}
	open.Spec.PodSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: LabelIsolated, Operator: metav1.LabelSelectorOpDoesNotExist}}
	from := []networkingv1.NetworkPolicyPeer{{NamespaceSelector: withLabel("spillway.dev/tenant", "id")}}
	for _, v := range []View{w.views[0], w.views[2]} {
		from = append(from, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: v.Peer.String()}})
	}
	open.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: from}}
	shut := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: remote}}
	shut.Spec.PodSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: LabelIsolated, Operator: metav1.LabelSelectorOpExists}}
	return []*networkingv1.NetworkPolicy{open, shut}
}

// TestNetworkPolicy_MeansTheSame: for everybody who may reach a twin, or be reached by one, the policies at the peer decide what
// those at home decide. Where a policy speaks of labels that do not travel they allow no more.
func TestNetworkPolicy_MeansTheSame(t *testing.T) {
	verdicts := map[bool]int{}
	for seed := range uint64(100) {
		w := newWorld(dice{rand.New(rand.NewPCG(seed, 7))})
		exact := !slices.ContainsFunc(w.policies, lossy)
		var atPeer []*networkingv1.NetworkPolicy
		for _, p := range w.policies {
			twin := NetworkPolicy(p, w.env(p.Namespace))
			checkBlocks(t, twin)
			atPeer = append(atPeer, twin)
		}
		for _, remote := range w.tenant {
			atPeer = append(atPeer, w.providersOwn(remote)...)
		}
		for i, local := range w.locals {
			w.twins[i].peer.podsL = labels.Merge(Twin(local, w.env(local.Namespace)).Labels, labels.Set{corev1.LabelTopologyZone: "a"})
		}
		for i, twin := range w.twins {
			isolated := w.env(twin.home.namespace).Isolated(w.locals[i].Labels)
			for _, other := range append(w.parties, w.twins...) {
				for _, way := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
					if way == networkingv1.PolicyTypeIngress && (!other.ingress || other.home.podsL == nil && !isolated) {
						continue // DNS calls nobody; a provider shows no twin to the outside by itself
					}
					for _, port := range probes() {
						home := admits(w.policies, twin.home, other.home, way, port)
						peer := admits(atPeer, twin.peer, other.peer, way, port)
						verdicts[home]++
						if peer != home && (exact || peer) {
							t.Fatalf("seed %d: %s and %s, %s, port %v: %v at home, %v at the peer", seed, twin.name, other.name, way, port.Port, home, peer)
						}
					}
				}
			}
		}
	}
	if verdicts[true] < 1000 || verdicts[false] < 1000 {
		t.Errorf("the clusters were too much alike: %v", verdicts)
	}
}

func probes() (ports []networkingv1.NetworkPolicyPort) {
	for _, port := range []int32{53, 80, 8080} {
		ports = append(ports, networkingv1.NetworkPolicyPort{Protocol: pointer.To(corev1.ProtocolTCP), Port: pointer.To(intstr.FromInt32(port))})
	}
	ports = append(ports, networkingv1.NetworkPolicyPort{Protocol: pointer.To(corev1.ProtocolUDP), Port: pointer.To(intstr.FromInt32(53))})
	return ports
}

// checkBlocks fails when the API would refuse a block: excepts lie strictly within.
func checkBlocks(t *testing.T, p *networkingv1.NetworkPolicy) {
	t.Helper()
	for _, peer := range peersOf(p) {
		if peer.IPBlock == nil {
			continue
		}
		b, ok := parseBlock(peer.IPBlock)
		for _, e := range b.except {
			ok = ok && within(e, b.cidr) && e != b.cidr
		}
		if !ok {
			t.Fatalf("block %+v", peer.IPBlock)
		}
	}
}
