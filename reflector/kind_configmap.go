package reflector

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

func configMaps() objectKind[*corev1.ConfigMap] {
	return objectKind[*corev1.ConfigMap]{
		kind: kindConfigMap,
		watch: func(c kubernetes.Interface, namespace string, tweak func(*metav1.ListOptions)) cache.ListerWatcher {
			return live.ListWatch(c, c.CoreV1().ConfigMaps(namespace), tweak)
		},
		client: func(c kubernetes.Interface, namespace string) objectClient[*corev1.ConfigMap] {
			return c.CoreV1().ConfigMaps(namespace)
		},
		twin:    translate.ConfigMap,
		equal:   translate.ConfigMapEqual,
		replace: translate.ConfigMapReplace,
		trim:    func(o *corev1.ConfigMap) { translate.TrimMeta(&o.ObjectMeta) },
	}
}
