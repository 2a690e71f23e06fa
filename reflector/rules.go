package reflector

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// Rules says what may leave the cluster, and how. It is asked often, from many goroutines, and answers at once.
type Rules interface {
	// Synced says whether the rules are known. Nothing is done before.
	Synced() bool
	// Namespace says what of a namespace may leave.
	Namespace(*corev1.Namespace) NamespaceRules
	// Pod says whether a pod of the namespace may run on a virtual node, and what follows from its being there.
	Pod(namespace *corev1.Namespace, pod *corev1.Pod, node string) PodRules
	// StorageClass is the peer's class for claims of a namespace whose volumes are made at a virtual node; empty: as they say
	// themselves.
	StorageClass(namespace, node string) string
}

// NamespaceRules says what of a namespace may leave the cluster.
type NamespaceRules struct {
	// Refusal says why no pod may; empty when pods may.
	Refusal string
	// All names the kinds, in lower case, of which every object follows: configmap, secret. None names those of which no object does:
	// service, endpointslice, ingress, networkpolicy. Shared: do not change them.
	All, None map[string]bool
}

// PodRules says whether a pod may run on a virtual node, and what follows from its being there. What it points at is shared:
// do not change it.
type PodRules struct {
	// Refusal says why it may not; empty when it may.
	Refusal string
	// NodeSelector, Tolerations and RuntimeClassName are the twin's beside, and before, its pod's own.
	NodeSelector     map[string]string
	Tolerations      []corev1.Toleration
	RuntimeClassName *string
	// RecreateAfter is how long the peer has to be silent before the pod is removed, so that its controller makes another
	// elsewhere; zero: never.
	RecreateAfter time.Duration
}

func (r PodRules) patch() translate.TwinPatch {
	return translate.TwinPatch{NodeSelector: r.NodeSelector, Tolerations: r.Tolerations, RuntimeClassName: r.RuntimeClassName}
}

// RulesChanged looks again at everything in a namespace, whose Rules may have changed. It does not block.
func (h *Home) RulesChanged(namespace string) {
	h.eachPair(func(p *Pair) {
		p.enqueueNamespace(namespace)
		p.noteWanted()
	})
}

// Namespace gives a namespace of home without its annotations; false while it is not known. Shared: do not change it.
func (h *Home) Namespace(name string) (*corev1.Namespace, bool) { return h.namespaces.Get("", name) }

// podRules asks for the rules of a pod. A namespace that is not known yet refuses.
func (p *Pair) podRules(local *corev1.Pod) PodRules {
	ns, ok := p.home.namespaces.Get("", local.Namespace)
	if !ok {
		return PodRules{Refusal: "namespace " + local.Namespace + " is not known yet"}
	}
	return p.home.cfg.Rules.Pod(ns, local, p.cfg.Node)
}

// reach says which objects of a kind follow from a namespace.
func (h *Home) reach(k kind, namespace string) (all, none bool) {
	ns, ok := h.namespaces.Get("", namespace)
	if !ok {
		return false, false
	}
	rules := h.cfg.Rules.Namespace(ns)
	return rules.All[string(k)] && rules.Refusal == "", rules.None[string(k)]
}

// recreateIn is how long the peer may stay silent before the pod is removed, so that its controller makes another: below zero when
// it has been, zero when the peer answers, or nobody would make another.
func (p *Pair) recreateIn(local *corev1.Pod, rules PodRules, now time.Time) time.Duration {
	since := p.since.Load()
	if !p.lost.Load() || since == nil || rules.RecreateAfter == 0 || metav1.GetControllerOf(local) == nil {
		return 0
	}
	left := since.Add(rules.RecreateAfter).Sub(now)
	if left == 0 {
		left = -1
	}
	return left
}
