package translate

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func toService(name string) networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: name, Port: networkingv1.ServiceBackendPort{Number: 80}}}
}

func toBucket() networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Resource: &corev1.TypedLocalObjectReference{APIGroup: new("k8s.example.org"), Kind: "Bucket", Name: "static"}}
}

func ruleFor(host string, backends ...networkingv1.IngressBackend) networkingv1.IngressRule {
	http := &networkingv1.HTTPIngressRuleValue{}
	for _, b := range backends {
		http.Paths = append(http.Paths, networkingv1.HTTPIngressPath{Path: "/", PathType: new(networkingv1.PathTypePrefix), Backend: b})
	}
	return networkingv1.IngressRule{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: http}}
}

// localIngress is an Ingress as the API server of home returns it.
func localIngress(change func(*networkingv1.Ingress)) *networkingv1.Ingress {
	in := &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "ingress-1", Labels: map[string]string{"app": "web"}},
		Spec: networkingv1.IngressSpec{
			IngressClassName: new("nginx"), Rules: []networkingv1.IngressRule{ruleFor("shop.example.org", toService("web"))},
			TLS: []networkingv1.IngressTLS{{Hosts: []string{"shop.example.org"}, SecretName: "web-tls"}},
		},
		Status: networkingv1.IngressStatus{LoadBalancer: networkingv1.IngressLoadBalancerStatus{Ingress: []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}}}},
	}
	if change != nil {
		change(in)
	}
	return in
}

func TestIngress(t *testing.T) {
	env := testEnv()
	env.IngressClass = "tenants"
	for name, row := range map[string]struct {
		local func(*networkingv1.Ingress)
		want  func(*networkingv1.Ingress)
		none  bool
	}{
		"usual": {},
		"of no class": {
			local: func(in *networkingv1.Ingress) { in.Spec.IngressClassName = nil },
		},
		"of a class by annotation": {
			local: func(in *networkingv1.Ingress) {
				in.Spec.IngressClassName = nil
				in.Annotations = map[string]string{"kubernetes.io/ingress.class": "nginx", "example.org/team": "blue"}
			},
			want: func(in *networkingv1.Ingress) { in.Annotations["example.org/team"] = "blue" },
		},
		"with a certificate that home gets": {
			local: func(in *networkingv1.Ingress) {
				in.Annotations = map[string]string{
					"cert-manager.io/cluster-issuer": "acme", "acme.cert-manager.io/http01-edit-in-place": "true", "not-cert-manager.io/x": "y",
				}
			},
			want: func(in *networkingv1.Ingress) { in.Annotations["not-cert-manager.io/x"] = "y" },
		},
		"with a rule that leads to a resource": {
			local: func(in *networkingv1.Ingress) {
				in.Spec.Rules = append(in.Spec.Rules, ruleFor("static.example.org", toService("web"), toBucket()), ruleFor("db.example.org", toService("db")))
			},
			want: func(in *networkingv1.Ingress) {
				in.Spec.Rules = append(in.Spec.Rules, ruleFor("db.example.org", toService("db")))
			},
		},
		"with a resource for everything else": {
			local: func(in *networkingv1.Ingress) { in.Spec.DefaultBackend = new(toBucket()) },
		},
		"with a Service for everything else": {
			local: func(in *networkingv1.Ingress) { in.Spec.DefaultBackend = new(toService("rest")) },
			want:  func(in *networkingv1.Ingress) { in.Spec.DefaultBackend = new(toService("rest")) },
		},
		"with a host alone": {
			local: func(in *networkingv1.Ingress) {
				in.Spec.DefaultBackend, in.Spec.Rules = new(toService("rest")), []networkingv1.IngressRule{{Host: "shop.example.org"}}
			},
			want: func(in *networkingv1.Ingress) {
				in.Spec.DefaultBackend, in.Spec.Rules = new(toService("rest")), []networkingv1.IngressRule{{Host: "shop.example.org"}}
			},
		},
		"that leads to resources only": {
			local: func(in *networkingv1.Ingress) {
				in.Spec.Rules = []networkingv1.IngressRule{ruleFor("static.example.org", toBucket())}
			},
			none: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			local := localIngress(row.local)
			before := local.DeepCopy()
			want := localIngress(nil)
			want.ObjectMeta = metav1.ObjectMeta{
				Name: "web", Namespace: env.RemoteNamespace, Labels: map[string]string{"app": "web", LabelOrigin: env.Origin},
				Annotations: map[string]string{AnnotationOriginUID: "ingress-1", AnnotationOriginNamespace: "shop"},
			}
			want.Spec.IngressClassName, want.Status = new("tenants"), networkingv1.IngressStatus{}
			if row.want != nil {
				row.want(want)
			}
			if row.none {
				want = nil
			}
			got := Ingress(local, env)
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("twin (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(before, local); diff != "" {
				t.Errorf("the local one was changed:\n%s", diff)
			}
			if got != nil && !IngressEqual(got, got.DeepCopy()) {
				t.Error("a twin is not equal to itself")
			}
		})
	}
	if got := Ingress(localIngress(nil), testEnv()); got != nil {
		t.Errorf("a provider that serves no Ingress gets %v", got)
	}
}

func TestIngressSecrets(t *testing.T) {
	in := localIngress(func(in *networkingv1.Ingress) {
		in.Spec.TLS = append(in.Spec.TLS, networkingv1.IngressTLS{}, networkingv1.IngressTLS{SecretName: "other"}, networkingv1.IngressTLS{SecretName: "web-tls"})
	})
	if diff := gocmp.Diff([]string{"web-tls", "other"}, IngressSecrets(in)); diff != "" {
		t.Errorf("Secrets (-want +got):\n%s", diff)
	}
}
