package reflector

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

func services() objectKind[*corev1.Service] {
	return objectKind[*corev1.Service]{
		kind:     kindService,
		byItself: true,
		watch: func(c kubernetes.Interface, namespace string, tweak func(*metav1.ListOptions)) cache.ListerWatcher {
			return live.ListWatch(c, c.CoreV1().Services(namespace), tweak)
		},
		client: func(c kubernetes.Interface, namespace string) objectClient[*corev1.Service] {
			return c.CoreV1().Services(namespace)
		},
		twin:    translate.Service,
		equal:   translate.ServiceEqual,
		replace: translate.ServiceReplace,
		keep:    translate.KeepService,
		trim:    func(o *corev1.Service) { translate.TrimMeta(&o.ObjectMeta) },
	}
}
