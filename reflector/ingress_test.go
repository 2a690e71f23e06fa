package reflector

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

func webIngress(secret string) *networkingv1.Ingress {
	return &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "ingress-1", ResourceVersion: "1"},
		Spec: networkingv1.IngressSpec{
			IngressClassName: ptr.To("nginx"),
			DefaultBackend:   &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web"}},
			TLS:              []networkingv1.IngressTLS{{SecretName: secret}},
		},
	}
}

func certificate(name string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", UID: "secret-1"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": []byte("PEM"), "tls.key": []byte("PEM")},
	}
}

// wroteThere fails the test unless exactly this was written to the peer, in any order.
func (l *loop) wroteThere(what string, want ...string) {
	l.Helper()
	got := l.writes(l.peer)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		l.Errorf("%s: writes at the peer (-want +got):\n%s", what, diff)
	}
}

// TestLoop_Ingress: one of an offloaded namespace follows with its certificate, where the peer serves it, and goes with that.
func TestLoop_Ingress(t *testing.T) {
	elsewhere, unused := webIngress("web-tls"), certificate("unused")
	elsewhere.Namespace = "private"
	there := objects(webIngress("web-tls"), certificate("web-tls"), certificate("next-tls"), elsewhere, unused)
	runLoop(t, there, nil, nil, func(l *loop) {
		l.wrote("a peer that serves none", nil, nil)
		l.pair.SetIngressClass("tenants")
		l.settle()
		l.wroteThere("it serves them", "create ingresses shop-1f2e/web", "create secrets shop-1f2e/web-tls")
		if _, err := l.home.NetworkingV1().Ingresses("shop").Update(t.Context(), webIngress("next-tls"), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		l.settle()
		l.wroteThere("another certificate",
			"create secrets shop-1f2e/next-tls", "delete secrets shop-1f2e/web-tls", "update ingresses shop-1f2e/web")
		renewed := certificate("next-tls")
		renewed.Data["tls.crt"] = []byte("PEM 2")
		l.put(l.home, "secrets", renewed)
		l.settle()
		l.wroteThere("it is renewed", "update secrets shop-1f2e/next-tls")
		l.pair.SetIngressClass("others")
		l.settle()
		l.wroteThere("another class", "update ingresses shop-1f2e/web")
		l.pair.SetIngressClass("")
		l.settle()
		l.wroteThere("it serves none again", "delete ingresses shop-1f2e/web", "delete secrets shop-1f2e/next-tls")
		l.pass(time.Hour)
		l.wroteThere("an hour later")
	})
}

// TestLoop_IngressGoes: what is no longer at home goes at the peer, also when that happened while nobody looked.
func TestLoop_IngressGoes(t *testing.T) {
	prepare := func(l *loop) { l.pair.SetIngressClass("tenants") }
	runLoop(t, objects(webIngress("web-tls"), certificate("web-tls")), nil, prepare, func(l *loop) {
		l.wroteThere("start", "create ingresses shop-1f2e/web", "create secrets shop-1f2e/web-tls")
		if err := l.home.NetworkingV1().Ingresses("shop").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		l.settle()
		l.wroteThere("it is gone", "delete ingresses shop-1f2e/web", "delete secrets shop-1f2e/web-tls")
	})
}

// TestLoop_IngressRefused: the user is told once, at home's Ingress, in the provider's words.
func TestLoop_IngressRefused(t *testing.T) {
	prepare := func(l *loop) {
		l.pair.SetIngressClass("tenants")
		l.peer.PrependReactor("create", "ingresses", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewForbidden(networkingv1.Resource("ingresses"), "web", fmt.Errorf("host of shop-1f2e/web is ours"))
		})
	}
	runLoop(t, objects(webIngress("web-tls")), nil, prepare, func(l *loop) {
		l.pass(5 * time.Minute)
		if n := len(l.writes(l.peer)); n > quickRetries+12 {
			l.Errorf("%d tries in five minutes", n)
		}
		var told []string
		for len(l.events.Events) > 0 {
			told = append(told, <-l.events.Events)
		}
		if len(told) != 1 || !cmp.Equal(told[0], `Warning RefusedByProvider ingress web cannot follow to far: ingresses.networking.k8s.io "web" is forbidden: host of shop/web is ours`) {
			l.Errorf("Events: %q", told)
		}
	})
}
