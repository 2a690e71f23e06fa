package reflector

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

func secrets() objectKind[*corev1.Secret] {
	return objectKind[*corev1.Secret]{
		kind: kindSecret,
		watch: func(c kubernetes.Interface, namespace string, tweak func(*metav1.ListOptions)) cache.ListerWatcher {
			return live.ListWatch(c, c.CoreV1().Secrets(namespace), tweak)
		},
		atHome: func(o *metav1.ListOptions) {
			// Never offloaded, and Helm's are large.
			o.FieldSelector = fields.AndSelectors(
				fields.OneTermNotEqualSelector("type", "helm.sh/release.v1"),
				fields.OneTermNotEqualSelector("type", string(corev1.SecretTypeServiceAccountToken)),
			).String()
		},
		client: func(c kubernetes.Interface, namespace string) objectClient[*corev1.Secret] {
			return c.CoreV1().Secrets(namespace)
		},
		twin:    translate.Secret,
		equal:   translate.SecretEqual,
		replace: translate.SecretReplace,
		trim:    func(o *corev1.Secret) { translate.TrimMeta(&o.ObjectMeta) },
	}
}
