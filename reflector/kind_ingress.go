package reflector

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

func ingresses() objectKind[*networkingv1.Ingress] {
	return objectKind[*networkingv1.Ingress]{
		kind:     kindIngress,
		spare:    true,
		byItself: true,
		watch: func(c kubernetes.Interface, namespace string, tweak func(*metav1.ListOptions)) cache.ListerWatcher {
			return live.ListWatch(c, c.NetworkingV1().Ingresses(namespace), tweak)
		},
		client: func(c kubernetes.Interface, namespace string) objectClient[*networkingv1.Ingress] {
			return c.NetworkingV1().Ingresses(namespace)
		},
		twin:    translate.Ingress,
		equal:   translate.IngressEqual,
		replace: translate.IngressReplace,
		secrets: translate.IngressSecrets,
		trim:    func(o *networkingv1.Ingress) { translate.TrimMeta(&o.ObjectMeta) },
	}
}

// SetIngressClass says by which class the peer serves Ingresses of here; empty: by none, and none follows.
func (p *Pair) SetIngressClass(class string) {
	if before := p.ingress.Swap(&class); before != nil && *before == class {
		return
	}
	for _, s := range p.readySpaces() {
		s.enqueueFollowers(kindIngress)
	}
}

// ingressClass is by which class the peer serves Ingresses of here; empty: by none.
func (p *Pair) ingressClass() string {
	if class := p.ingress.Load(); class != nil {
		return *class
	}
	return ""
}

// namedByIngress says whether an Ingress that follows to the peer has its certificate in a Secret.
func (p *Pair) namedByIngress(namespace, secret string) bool {
	return p.ingressClass() != "" && p.space(namespace) != nil && p.home.loops[kindIngress].naming(namespace, secret)
}
