package reflector

import (
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

func endpointSlices() objectKind[*discoveryv1.EndpointSlice] {
	return objectKind[*discoveryv1.EndpointSlice]{
		kind:     kindEndpointSlice,
		byItself: true,
		// The peer's own controller gives its slices the labels of the Service.
		mark: labels.Set{discoveryv1.LabelManagedBy: translate.ManagedBySpillway},
		watch: func(c kubernetes.Interface, namespace string, tweak func(*metav1.ListOptions)) cache.ListerWatcher {
			return live.ListWatch(c, c.DiscoveryV1().EndpointSlices(namespace), tweak)
		},
		client: func(c kubernetes.Interface, namespace string) objectClient[*discoveryv1.EndpointSlice] {
			return c.DiscoveryV1().EndpointSlices(namespace)
		},
		twin:    translate.EndpointSlice,
		equal:   translate.EndpointSliceEqual,
		replace: translate.EndpointSliceReplace,
		trim:    func(o *discoveryv1.EndpointSlice) { translate.TrimMeta(&o.ObjectMeta) },
	}
}
