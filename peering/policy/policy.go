package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// recreateAfter is how long a peer has to be silent when RecreateAfter does not say.
const recreateAfter = 5 * time.Minute

// Set are the policies and Migrations of one namespace. The zero value has none. Copy it freely.
type Set struct {
	rules      []rule
	migrations []*v1alpha1.Migration            // that stand, the newest first
	courses    map[v1alpha1.WorkloadName]Course // of the Migrations; not changed once made
	reflect    v1alpha1.Reflect
	remote     *v1alpha1.RemoteNamespace
}

// rule is a policy with its selectors read. The policy is shared: it is not changed.
type rule struct {
	policy  *v1alpha1.OffloadPolicy
	pods    labels.Selector // selects nothing when the policy's cannot be read
	peers   []labels.Selector
	problem string // why a selector cannot be read; empty when all can
}

// NewSet returns the policies and Migrations of one namespace, in any order. They are kept: do not change them.
func NewSet(policies []*v1alpha1.OffloadPolicy, migrations []*v1alpha1.Migration) Set {
	s := Set{migrations: standing(migrations)}
	s.courses = courses(s.migrations)
	for _, p := range policies {
		if p.DeletionTimestamp == nil {
			s.rules = append(s.rules, newRule(p))
		}
	}
	slices.SortFunc(s.rules, func(a, b rule) int { return cmp.Compare(a.policy.Name, b.policy.Name) })
	s.reflect = v1alpha1.Reflect{
		ConfigMaps: s.widest(v1alpha1.ReflectUsed, func(r v1alpha1.Reflect) v1alpha1.ReflectWhat { return r.ConfigMaps }),
		Secrets:    s.widest(v1alpha1.ReflectUsed, func(r v1alpha1.Reflect) v1alpha1.ReflectWhat { return r.Secrets }),
		Services:   s.widest(v1alpha1.ReflectAll, func(r v1alpha1.Reflect) v1alpha1.ReflectWhat { return r.Services }),
		Ingresses:  s.widest(v1alpha1.ReflectAll, func(r v1alpha1.Reflect) v1alpha1.ReflectWhat { return r.Ingresses }),
		NetworkPolicies: s.widest(v1alpha1.ReflectAll,
			func(r v1alpha1.Reflect) v1alpha1.ReflectWhat { return r.NetworkPolicies }),
	}
	for _, r := range s.rules {
		if s.remote == nil {
			s.remote = r.policy.Spec.Namespace
		}
	}
	return s
}

func newRule(p *v1alpha1.OffloadPolicy) rule {
	r := rule{policy: p}
	read := func(s *metav1.LabelSelector, what string) labels.Selector {
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err != nil {
			r.problem = fmt.Sprintf("%s cannot be read: %v", what, err)
			return labels.Nothing()
		}
		return selector
	}
	r.pods = read(&p.Spec.PodSelector, "spec.podSelector")
	for i, c := range p.Spec.Peers {
		selector := labels.Everything()
		if c.Selector != nil {
			selector = read(c.Selector, fmt.Sprintf("spec.peers[%d].selector", i))
		}
		r.peers = append(r.peers, selector)
	}
	return r
}

// widest is the one of the policies' answers that lets the most follow.
func (s Set) widest(otherwise v1alpha1.ReflectWhat, of func(v1alpha1.Reflect) v1alpha1.ReflectWhat) v1alpha1.ReflectWhat {
	order := []v1alpha1.ReflectWhat{v1alpha1.ReflectNone, v1alpha1.ReflectUsed, v1alpha1.ReflectAll}
	best := -1
	for _, r := range s.rules {
		what := cmp.Or(of(r.policy.Spec.Reflect), otherwise)
		best = max(best, slices.Index(order, what))
	}
	if best < 0 {
		return otherwise
	}
	return order[best]
}

// Reflect says which objects of the namespace follow; no field is empty.
func (s Set) Reflect() v1alpha1.Reflect { return s.reflect }

// Remote is how the namespace wants to be called at a provider; nil when no policy says. Shared: do not change it.
func (s Set) Remote() *v1alpha1.RemoteNamespace { return s.remote }

// Strict says that new pods are not to be made while nobody steers them.
func (s Set) Strict() bool {
	return slices.ContainsFunc(s.rules, func(r rule) bool { return r.policy.Spec.FailurePolicy == v1alpha1.FailurePolicyFail })
}

// Len is the number of policies.
func (s Set) Len() int { return len(s.rules) }

// Empty says that no pod is steered, and none will be: there is neither a policy nor a Migration that was not refused.
func (s Set) Empty() bool { return len(s.rules)+len(s.migrations) == 0 }

// Closed says why no pod of the namespace may leave, and what to do; empty when pods may: by the namespace's label, by a policy, or
// since a Migration takes some to a peer or has them from one.
func (s Set) Closed(namespace *corev1.Namespace) string {
	if !shut(namespace) {
		for _, c := range s.courses {
			if c.leaves() {
				return ""
			}
		}
	}
	return s.closed(namespace)
}

// shut says that nothing opens the namespace but its label.
func shut(namespace *corev1.Namespace) bool {
	return namespace.Labels[v1alpha1.LabelOffload] == v1alpha1.OffloadDisabled
}

// closed says what Closed says, to pods that no Migration governs.
func (s Set) closed(namespace *corev1.Namespace) string {
	switch namespace.Labels[v1alpha1.LabelOffload] {
	case v1alpha1.OffloadEnabled:
		return ""
	case v1alpha1.OffloadDisabled:
		return fmt.Sprintf("namespace %s is closed for offloading by its label %s=%s", namespace.Name,
			v1alpha1.LabelOffload, v1alpha1.OffloadDisabled)
	}
	for _, r := range s.rules {
		if r.policy.Spec.When != v1alpha1.OffloadNever {
			return ""
		}
	}
	if len(s.rules) > 0 {
		return fmt.Sprintf("the OffloadPolicies of namespace %s keep its pods at home", namespace.Name)
	}
	return fmt.Sprintf("namespace %s does not allow offloading: kubectl label namespace %s %s=%s, or make an OffloadPolicy in it",
		namespace.Name, namespace.Name, v1alpha1.LabelOffload, v1alpha1.OffloadEnabled)
}

// For returns the policy that governs pods with these labels; nil when none does. Shared: do not change it.
func (s Set) For(podLabels map[string]string) *v1alpha1.OffloadPolicy {
	if r := s.rule(podLabels); r != nil {
		return r.policy
	}
	return nil
}

func (s Set) rule(podLabels map[string]string) *rule {
	for i := range s.rules {
		if s.rules[i].pods.Matches(labels.Set(podLabels)) {
			return &s.rules[i]
		}
	}
	return nil
}

// Problem says why a policy of the set cannot be followed wholly; empty when it can.
func (s Set) Problem(name string) string {
	for _, r := range s.rules {
		if r.policy.Name == name {
			return r.problem
		}
	}
	return ""
}

// Place is a virtual node.
type Place struct {
	Peer   string            // name of the Peering
	Labels map[string]string // of the Node
}

// Verdict is what the policies say about a pod on a virtual node. What it points at is shared: do not change it.
type Verdict struct {
	// Policy that governs the pod; empty when none does.
	Policy string
	// Migration that brings the pod there or takes it from there, whichever peers the policy names; empty when none does.
	Migration string
	// Refusal says why the pod may not be there; empty when it may.
	Refusal string
	// Patch is how its twin differs there. May be nil.
	Patch *v1alpha1.TwinPatch
	// RecreateAfter is how long the peer has to be silent before the pod is made elsewhere; zero: never.
	RecreateAfter time.Duration
}

// Judge says whether a pod, by its metadata, may be on a virtual node and what follows from its being there.
func (s Set) Judge(namespace *corev1.Namespace, pod metav1.Object, at Place) Verdict {
	r := s.rule(pod.GetLabels())
	var v Verdict
	if r != nil {
		v.Policy, v.RecreateAfter = r.policy.Name, r.recreateAfter()
	}
	if c, ok := s.Course(pod); ok && c.welcomes(at.Peer) && !r.never() && !shut(namespace) {
		v.Migration = c.Migration.Name
		if r != nil {
			if choice, _ := r.choice(at); choice != nil {
				v.Patch = choice.Patch
			}
		}
		return v
	}
	if v.Refusal = s.closed(namespace); v.Refusal != "" {
		return v
	}
	if r == nil {
		if namespace.Labels[v1alpha1.LabelOffload] != v1alpha1.OffloadEnabled {
			v.Refusal = fmt.Sprintf("no OffloadPolicy of namespace %s selects this pod: change a podSelector, or label the namespace %s=%s",
				namespace.Name, v1alpha1.LabelOffload, v1alpha1.OffloadEnabled)
		}
		return v
	}
	if r.never() {
		v.Refusal = fmt.Sprintf("OffloadPolicy %s keeps this pod at home", r.policy.Name)
		return v
	}
	choice, ok := r.choice(at)
	if !ok {
		v.Refusal = fmt.Sprintf("OffloadPolicy %s does not let this pod run in peer %s", r.policy.Name, at.Peer)
	} else if choice != nil {
		v.Patch = choice.Patch
	}
	return v
}

// StorageClass is the class for claims of the namespace at a virtual node: of the first policy that says one; empty when none does. A
// claim has its class before a pod has it, so the policies' podSelectors do not count.
func (s Set) StorageClass(at Place) string {
	for i := range s.rules {
		c, _ := s.rules[i].choice(at)
		if c != nil && c.Patch != nil && c.Patch.StorageClassName != nil {
			return *c.Patch.StorageClassName
		}
	}
	return ""
}

// choice returns the first entry of spec.peers that means the place; nil and true when every place will do.
func (r *rule) choice(at Place) (*v1alpha1.PeerChoice, bool) {
	if len(r.policy.Spec.Peers) == 0 {
		return nil, true
	}
	for i := range r.policy.Spec.Peers {
		c := &r.policy.Spec.Peers[i]
		if (c.Name == "" || c.Name == at.Peer) && r.peers[i].Matches(labels.Set(at.Labels)) {
			return c, true
		}
	}
	return nil, false
}

func (r *rule) recreateAfter() time.Duration {
	lost := r.policy.Spec.OnPeerLost
	switch {
	case lost.Action != v1alpha1.PeerLostRecreateAfter:
		return 0
	case lost.After == nil:
		return recreateAfter
	}
	return lost.After.Duration
}
