package translate

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// NetworkPolicy returns the twin of local: a new object that shares nothing with it and means for twins what local means for
// their pods. Twins have the labels of their pods, so selectors travel; in addition
//   - pods on real nodes of home that a selector of pods or namespaces names are named one by one, by the addresses at which
//     the peer sees them (env.HomePods, env.MapOwn), or by their ranges where all pods are named (env.HomeRanges);
//   - a selector of namespaces is resolved at home (env.Namespaces) and becomes the names of the tenant namespaces. Who may
//     reach kube-system of home, where DNS is, may reach that of the peer;
//   - blocks of addresses mean what home sees (env.Views).
//
// Where the meaning cannot be kept, less is allowed and never more: pods on other virtual nodes are named nowhere, since two
// peers of one cluster need not reach each other. A selector that speaks of labels that do not travel names no twin as a peer;
// as the policy's own it is made wider, and then nothing is allowed to whom it selects. A rule whose peers are all gone goes
// too, since a rule without peers means everybody; the policy then denies by its types, which are always written out.
func NetworkPolicy(local *networkingv1.NetworkPolicy, env Env) *networkingv1.NetworkPolicy {
	twin := &networkingv1.NetworkPolicy{ObjectMeta: twinMeta(&local.ObjectMeta, env)}
	twin.Spec.PodSelector, twin.Spec.PolicyTypes = *local.Spec.PodSelector.DeepCopy(), policyTypes(&local.Spec)
	if !selectorTravels(&local.Spec.PodSelector) {
		widen(&twin.Spec.PodSelector)
		return twin
	}
	t := policyTranslation{Env: env, namespace: local.Namespace}
	if env.Views != nil {
		t.views = env.Views()
	}
	for i := range local.Spec.Ingress {
		rule := &local.Spec.Ingress[i]
		if from, ok := t.peers(rule.From); ok {
			twin.Spec.Ingress = append(twin.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{
				Ports: rule.DeepCopy().Ports, From: from,
			})
		}
	}
	t.egress = true
	for i := range local.Spec.Egress {
		rule := &local.Spec.Egress[i]
		if to, ok := t.peers(rule.To); ok {
			twin.Spec.Egress = append(twin.Spec.Egress, networkingv1.NetworkPolicyEgressRule{
				Ports: rule.DeepCopy().Ports, To: to,
			})
		}
	}
	return twin
}

// policyTypes are those of the API's defaults where the policy has none.
func policyTypes(spec *networkingv1.NetworkPolicySpec) []networkingv1.PolicyType {
	if len(spec.PolicyTypes) > 0 {
		return slices.Clone(spec.PolicyTypes)
	}
	types := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(spec.Egress) > 0 {
		types = append(types, networkingv1.PolicyTypeEgress)
	}
	return types
}

// IsolatesIngress says whether the pods that a policy selects are reached only by whom policies name.
func IsolatesIngress(policy *networkingv1.NetworkPolicy) bool {
	return slices.Contains(policyTypes(&policy.Spec), networkingv1.PolicyTypeIngress)
}

// SelectsNamespaces says whether a peer of the policy is named by the labels of its namespace.
func SelectsNamespaces(policy *networkingv1.NetworkPolicy) bool {
	return slices.ContainsFunc(peersOf(policy), func(p networkingv1.NetworkPolicyPeer) bool { return p.NamespaceSelector != nil })
}

// NamesNamespace says whether a peer of the policy is named by the labels of its namespace, and these are such labels.
func NamesNamespace(policy *networkingv1.NetworkPolicy, namespace labels.Set) bool {
	return slices.ContainsFunc(peersOf(policy), func(p networkingv1.NetworkPolicyPeer) bool {
		selector, err := metav1.LabelSelectorAsSelector(p.NamespaceSelector) // nil matches nothing
		return err == nil && selector.Matches(namespace)
	})
}

// SelectsPods says whether a peer of the policy is named by labels, of its own or of its namespace. Only then does the twin
// depend on the pods of home.
func SelectsPods(policy *networkingv1.NetworkPolicy) bool {
	return slices.ContainsFunc(peersOf(policy), func(p networkingv1.NetworkPolicyPeer) bool {
		return p.NamespaceSelector != nil || p.PodSelector != nil
	})
}

func peersOf(policy *networkingv1.NetworkPolicy) []networkingv1.NetworkPolicyPeer {
	var all []networkingv1.NetworkPolicyPeer
	for i := range policy.Spec.Ingress {
		all = append(all, policy.Spec.Ingress[i].From...)
	}
	for i := range policy.Spec.Egress {
		all = append(all, policy.Spec.Egress[i].To...)
	}
	return all
}

// policyTranslation is what the translation of the peers of one policy rests on.
type policyTranslation struct {
	Env
	namespace string // of the policy, at home
	views     []View
	egress    bool // the peers are who may be reached, not who may reach
}

// peers returns who is named at the peer; false when nobody is. No peers at all name everybody.
func (t *policyTranslation) peers(local []networkingv1.NetworkPolicyPeer) (twins []networkingv1.NetworkPolicyPeer, ok bool) {
	if len(local) == 0 {
		return nil, true
	}
	for i := range local {
		if local[i].IPBlock != nil {
			twins = append(twins, t.blocks(local[i].IPBlock)...)
		} else {
			twins = append(twins, t.selected(&local[i])...)
		}
	}
	return twins, len(twins) > 0
}

func (t *policyTranslation) blocks(local *networkingv1.IPBlock) []networkingv1.NetworkPolicyPeer {
	b, ok := parseBlock(local)
	if !ok {
		return nil
	}
	var out []networkingv1.NetworkPolicyPeer
	for _, b := range blocksAtPeer(b, t.views) {
		out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: b.api()})
	}
	return out
}

// selected translates a peer that is named by labels: twins by the same labels, pods of home by their addresses.
func (t *policyTranslation) selected(local *networkingv1.NetworkPolicyPeer) []networkingv1.NetworkPolicyPeer {
	pods := labels.Everything()
	if local.PodSelector != nil {
		var err error
		if pods, err = metav1.LabelSelectorAsSelector(local.PodSelector); err != nil {
			return nil
		}
	}
	namespaces := []string{t.namespace}
	if local.NamespaceSelector != nil {
		namespaces = t.namespacesOf(local.NamespaceSelector)
	}
	var out []networkingv1.NetworkPolicyPeer
	if selectorTravels(local.PodSelector) {
		out = t.twins(local, namespaces)
	}
	var whole []netip.Prefix
	if everybody(local) && t.HomeRanges != nil {
		whole = t.HomeRanges()
	}
	for _, r := range t.known(whole) {
		out = append(out, t.blocks(&networkingv1.IPBlock{CIDR: r.String()})...)
	}
	return append(out, blocksOf(t.addresses(namespaces, pods, whole))...)
}

// everybody says whether a peer is all pods of all namespaces.
func everybody(p *networkingv1.NetworkPolicyPeer) bool {
	all := func(s *metav1.LabelSelector) bool { return len(s.MatchLabels)+len(s.MatchExpressions) == 0 }
	return p.NamespaceSelector != nil && all(p.NamespaceSelector) && (p.PodSelector == nil || all(p.PodSelector))
}

// known are those of the ranges of home that the peer sees.
func (t *policyTranslation) known(ranges []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range ranges {
		if t.MapOwn == nil || t.MapOwn(r.Addr()).IsValid() {
			out = append(out, r)
		}
	}
	return out
}

func (t *policyTranslation) namespacesOf(selector *metav1.LabelSelector) []string {
	matching, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil || t.Namespaces == nil {
		return nil
	}
	return t.Namespaces(matching)
}

// twins returns the peers that name twins in the tenant namespaces of namespaces of home.
func (t *policyTranslation) twins(local *networkingv1.NetworkPolicyPeer, namespaces []string) []networkingv1.NetworkPolicyPeer {
	if local.NamespaceSelector == nil {
		return []networkingv1.NetworkPolicyPeer{{PodSelector: local.PodSelector.DeepCopy()}}
	}
	var names []string
	var nameservers []networkingv1.NetworkPolicyPeer
	for _, ns := range namespaces {
		if t.TenantNamespace != nil {
			if remote, ok := t.TenantNamespace(ns); ok {
				names = append(names, remote)
			}
		}
		if t.egress && ns == metav1.NamespaceSystem {
			names = append(names, ns)
			nameservers = blocksOf(t.DNS.Nameservers)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return append([]networkingv1.NetworkPolicyPeer{{
		PodSelector: local.PodSelector.DeepCopy(),
		NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
			Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: slices.Compact(names),
		}}},
	}}, nameservers...)
}

// blocksOf names addresses as peers of a policy.
func blocksOf(addresses []netip.Addr) []networkingv1.NetworkPolicyPeer {
	var out []networkingv1.NetworkPolicyPeer
	for _, a := range addresses {
		out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: netip.PrefixFrom(a, a.BitLen()).String()}})
	}
	return out
}

// addresses are those, sorted, at which the peer sees pods on real nodes of home; without those of pods in some ranges.
func (t *policyTranslation) addresses(namespaces []string, pods labels.Selector, but []netip.Prefix) []netip.Addr {
	if t.HomePods == nil {
		return nil
	}
	var out []netip.Addr
	for _, ns := range namespaces {
		for _, a := range t.HomePods(ns, pods) {
			a = a.Unmap().WithZone("")
			if slices.ContainsFunc(but, func(r netip.Prefix) bool { return r.Contains(a) }) {
				continue
			}
			if t.MapOwn != nil {
				a = t.MapOwn(a)
			}
			if a.IsValid() {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// selectorTravels says whether a selector means for twins what it means for their pods. Nil does.
func selectorTravels(s *metav1.LabelSelector) bool {
	if s == nil {
		return true
	}
	for key := range s.MatchLabels {
		if !labelTravels(key) {
			return false
		}
	}
	return !slices.ContainsFunc(s.MatchExpressions, requirementStays)
}

func requirementStays(r metav1.LabelSelectorRequirement) bool { return !labelTravels(r.Key) }

// widen drops from a selector what it says of labels that do not travel.
func widen(s *metav1.LabelSelector) {
	for key := range s.MatchLabels {
		if !labelTravels(key) {
			delete(s.MatchLabels, key)
		}
	}
	s.MatchExpressions = slices.DeleteFunc(s.MatchExpressions, requirementStays)
}

// NetworkPolicyEqual says whether have needs no write to be want (a result of NetworkPolicy). The API's defaults are no
// difference.
func NetworkPolicyEqual(want, have *networkingv1.NetworkPolicy) bool {
	return sameMeta(&want.ObjectMeta, &have.ObjectMeta) &&
		apiequality.Semantic.DeepEqual(withDefaults(&want.Spec), withDefaults(&have.Spec))
}

// withDefaults returns spec as the API server stores it; what is default is not shared with it.
func withDefaults(spec *networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicySpec {
	out := *spec
	out.PolicyTypes = policyTypes(spec)
	out.Ingress, out.Egress = slices.Clone(spec.Ingress), slices.Clone(spec.Egress)
	for i := range out.Ingress {
		out.Ingress[i].Ports = portsWithDefaults(out.Ingress[i].Ports)
	}
	for i := range out.Egress {
		out.Egress[i].Ports = portsWithDefaults(out.Egress[i].Ports)
	}
	return &out
}

func portsWithDefaults(ports []networkingv1.NetworkPolicyPort) []networkingv1.NetworkPolicyPort {
	out, tcp := slices.Clone(ports), corev1.ProtocolTCP
	for i := range out {
		if out[i].Protocol == nil {
			out[i].Protocol = &tcp
		}
	}
	return out
}
