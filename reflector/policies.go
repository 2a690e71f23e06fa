package reflector

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

// holdPolicy is how long changes of pods and namespaces are gathered before the policies that name them are looked at: pods come
// in groups, and each lookup goes through all pods that the policy may name.
const holdPolicy = 100 * time.Millisecond

// homePods are the pods on real nodes of home, as far as NetworkPolicies speak of them. They are watched from the moment that
// the first policy needs them, since it is the one watch that grows with everything that runs at home.
type homePods struct {
	*live.Cache[*corev1.Pod]
	once   sync.Once
	needed chan struct{}
}

func newHomePods(h *Home) *homePods {
	notEnded := fields.AndSelectors(
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
	).String()
	return &homePods{needed: make(chan struct{}), Cache: live.New(live.Options[*corev1.Pod]{
		Name: "pods that policies name",
		ListWatch: live.ListWatch(h.cfg.Client, h.cfg.Client.CoreV1().Pods(""), func(o *metav1.ListOptions) {
			o.FieldSelector = notEnded
		}),
		Indexers: cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc},
		Trim:     trimHomePod, Changed: h.homePodChanged,
	})}
}

// need starts the watch, once.
func (p *homePods) need() { p.once.Do(func() { close(p.needed) }) }

func (p *homePods) run(ctx context.Context) {
	select {
	case <-p.needed:
		p.Run(ctx)
	case <-ctx.Done():
	}
}

// trimHomePod keeps who a pod is and where it is reached.
func trimHomePod(pod *corev1.Pod) {
	*pod = corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion, Labels: pod.Labels,
		},
		Spec:   corev1.PodSpec{NodeName: pod.Spec.NodeName, HostNetwork: pod.Spec.HostNetwork},
		Status: corev1.PodStatus{Phase: pod.Status.Phase, PodIPs: pod.Status.PodIPs},
	}
}

// reached says whether policies can name a pod by its addresses: those of a pod on the network of its node are the node's, and
// those of a pod that has ended may be another's.
func (h *Home) reached(pod *corev1.Pod) bool {
	return pod != nil && len(pod.Status.PodIPs) > 0 && !pod.Spec.HostNetwork && !terminal(pod) && h.pair(pod.Spec.NodeName) == nil
}

// podAddresses are those of the pods of home that a selector names, as home sees them.
func (h *Home) podAddresses(namespace string, pods labels.Selector) []netip.Addr {
	var out []netip.Addr
	for _, pod := range h.pods.Index(cache.NamespaceIndex, namespace) {
		if !h.reached(pod) || !pods.Matches(labels.Set(pod.Labels)) {
			continue
		}
		for _, ip := range pod.Status.PodIPs {
			if a, err := netip.ParseAddr(ip.IP); err == nil {
				out = append(out, a)
			}
		}
	}
	return out
}

// namespacesNamed are the names of the namespaces that a selector names.
func (h *Home) namespacesNamed(selector labels.Selector) []string {
	var out []string
	for _, ns := range h.namespaces.List() {
		if selector.Matches(labels.Set(ns.Labels)) {
			out = append(out, ns.Name)
		}
	}
	return out
}

// isolated says whether a policy for Ingress selects a pod of a namespace.
func (h *Home) isolated(namespace string, pod labels.Set) bool {
	if _, none := h.reach(kindNetworkPolicy, namespace); none {
		return false // no policy follows that could let anybody in
	}
	return slices.ContainsFunc(h.policies.here.Index(cache.NamespaceIndex, namespace), func(p *networkingv1.NetworkPolicy) bool {
		if !translate.IsolatesIngress(p) {
			return false
		}
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		return err == nil && selector.Matches(pod)
	})
}

// policyReady says whether everything is known that the twin of a policy rests on.
func (h *Home) policyReady(policy *networkingv1.NetworkPolicy) bool {
	if !translate.SelectsPods(policy) {
		return true
	}
	h.pods.need()
	return h.pods.HasSynced()
}

// policyChanged looks again at the pods that a policy selects, or did: whether they are isolated is said on their twins.
func (h *Home) policyChanged(before, now *networkingv1.NetworkPolicy) {
	if before != nil && now != nil && translate.IsolatesIngress(before) == translate.IsolatesIngress(now) &&
		apiequality.Semantic.DeepEqual(before.Spec.PodSelector, now.Spec.PodSelector) {
		return
	}
	namespace := firstSet(now, before).Namespace
	h.eachPair(func(p *Pair) {
		for _, pod := range p.local.Index(cache.NamespaceIndex, namespace) {
			h.queue.Add(p.podKey(pod.Namespace, pod.Name))
		}
	})
}

// homePodChanged looks again at the policies that may name a pod, if what they say of it may have changed.
func (h *Home) homePodChanged(before, now *corev1.Pod) {
	was, is := h.reached(before), h.reached(now)
	if !was && !is || was && is && maps.Equal(before.Labels, now.Labels) && slices.Equal(before.Status.PodIPs, now.Status.PodIPs) {
		return
	}
	namespace := firstSet(now, before).Namespace
	for _, policy := range h.policies.here.Index(cache.NamespaceIndex, namespace) {
		if translate.SelectsPods(policy) {
			h.holdPolicy(policy)
		}
	}
	var set labels.Set
	if ns, ok := h.namespaces.Get("", namespace); ok {
		set = ns.Labels
	}
	h.namespaceNamed(func(policy *networkingv1.NetworkPolicy) bool { return translate.NamesNamespace(policy, set) })
}

// namespaceNamed looks again at policies that name namespaces by labels.
func (h *Home) namespaceNamed(which func(*networkingv1.NetworkPolicy) bool) {
	for _, policy := range h.policies.here.Index(indexSelectsNamespaces, "") {
		if which(policy) {
			h.holdPolicy(policy)
		}
	}
}

// anyPolicy is every policy that names namespaces: they are few, and namespaces seldom change.
func anyPolicy(*networkingv1.NetworkPolicy) bool { return true }

// holdPolicy looks again at a policy, soon.
func (h *Home) holdPolicy(policy *networkingv1.NetworkPolicy) {
	h.eachPair(func(p *Pair) {
		if h.policies.follows(p, policy) {
			h.queue.AddAfter(key{p.cfg.Node, kindNetworkPolicy, policy.Namespace, policy.Name}, holdPolicy)
		}
	})
}

// SetOwnPods says, sorted, in which ranges of this cluster nobody but pods has addresses. Policies that name all pods name the
// ranges.
func (p *Pair) SetOwnPods(ranges []netip.Prefix) {
	if before := p.pods.Swap(&ranges); before != nil && slices.Equal(*before, ranges) || before == nil && len(ranges) == 0 {
		return
	}
	for _, s := range p.readySpaces() {
		s.enqueueFollowers(kindNetworkPolicy)
	}
}

// views are the ranges that look different from both sides of a pair.
func (p *Pair) views() []translate.View {
	var out []translate.View
	if own := p.own.Load(); own != nil {
		for _, a := range own.Aliases() {
			out = append(out, translate.View{Home: a.Range, Peer: a.As})
		}
	}
	if seen := p.seen.Load(); seen != nil {
		for _, a := range seen.Aliases() {
			out = append(out, translate.View{Home: a.As, Peer: a.Range})
		}
	}
	return out
}

// policyEnv adds to env what the twins of policies, and of the pods that they select, depend on.
func (s *space) policyEnv(env *translate.Env) {
	h := s.pair.home
	if pods := s.pair.pods.Load(); pods != nil {
		env.HomeRanges = func() []netip.Prefix { return *pods }
	}
	env.Views, env.HomePods, env.Namespaces = s.pair.views, h.podAddresses, h.namespacesNamed
	env.TenantNamespace = func(local string) (string, bool) {
		if s := s.pair.space(local); s != nil {
			return s.remote, true
		}
		return "", false
	}
	env.Isolated = func(pod map[string]string) bool { return h.isolated(s.local, pod) }
}
