package reflector

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

func (h *Home) networkPolicies() objectKind[*networkingv1.NetworkPolicy] {
	return objectKind[*networkingv1.NetworkPolicy]{
		kind:     kindNetworkPolicy,
		spare:    true,
		byItself: true,
		watch: func(c kubernetes.Interface, namespace string, tweak func(*metav1.ListOptions)) cache.ListerWatcher {
			return live.ListWatch(c, c.NetworkingV1().NetworkPolicies(namespace), tweak)
		},
		client: func(c kubernetes.Interface, namespace string) objectClient[*networkingv1.NetworkPolicy] {
			return c.NetworkingV1().NetworkPolicies(namespace)
		},
		index:   cache.Indexers{indexSelectsNamespaces: selectsNamespaces},
		noted:   h.policyChanged,
		ready:   h.policyReady,
		twin:    translate.NetworkPolicy,
		equal:   translate.NetworkPolicyEqual,
		replace: func(_, _ *networkingv1.NetworkPolicy) bool { return false },
		trim:    func(o *networkingv1.NetworkPolicy) { translate.TrimMeta(&o.ObjectMeta) },
	}
}

// indexSelectsNamespaces files under the empty value the policies with peers that are named by their namespace.
const indexSelectsNamespaces = "selects namespaces"

func selectsNamespaces(obj any) ([]string, error) {
	if translate.SelectsNamespaces(obj.(*networkingv1.NetworkPolicy)) {
		return []string{""}, nil
	}
	return nil, nil
}
