package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestIngressFollows: once the provider serves a class, an Ingress is there with its certificate; the tenant can have no
// other class; when the provider serves none any more, both go.
func TestIngressFollows(t *testing.T) {
	s := begin(t)
	remote := s.tenantNamespace(s.ns)
	home, there := s.consumer.kube, s.provider.kube
	class := "home"
	_, err := home.CoreV1().Secrets(s.ns).Create(s.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "web-tls"}, Data: map[string][]byte{"tls.crt": []byte("crt"), "tls.key": []byte("key")}, Type: corev1.SecretTypeTLS,
	}, metav1.CreateOptions{})
	s.check(err)
	local := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: networkingv1.IngressSpec{
		IngressClassName: &class, TLS: []networkingv1.IngressTLS{{SecretName: "web-tls"}},
		DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}},
	}}
	_, err = home.NetworkingV1().Ingresses(s.ns).Create(s.ctx, local, metav1.CreateOptions{})
	s.check(err)

	asTenant := func(name, class string) error {
		config := rest.CopyConfig(s.provider.Config())
		config.Impersonate.UserName = "system:serviceaccount:spillway-tenant-" + east + ":consumer"
		tenant, err := kubernetes.NewForConfig(config)
		s.check(err)
		forged := local.DeepCopy()
		forged.Name, forged.Spec.IngressClassName = name, &class
		_, err = tenant.NetworkingV1().Ingresses(remote).Create(s.ctx, forged, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	s.eventually(soon, "a tenant without a class makes no Ingress", func(context.Context) error { // once its rights have arrived
		if err := asTenant("forged", "served"); err == nil || !strings.Contains(err.Error(), "no Ingress of a tenant is served here") {
			return fmt.Errorf("not refused in these words: %v", err)
		}
		return nil
	})

	serve := func(class string) {
		if r := s.spillway(s.ctx, peerArgs("--ingress-class", class)...); r.code != 0 {
			t.Fatalf("peer --ingress-class %q: %s", class, r)
		}
	}
	serve("served")
	t.Cleanup(func() { serve("") })
	s.eventually(soon, "the Ingress follows with its certificate", func(ctx context.Context) error {
		twin, err := there.NetworkingV1().Ingresses(remote).Get(ctx, "web", getOptions())
		if err != nil {
			return err
		}
		if twin.Spec.IngressClassName == nil || *twin.Spec.IngressClassName != "served" {
			return fmt.Errorf("class %v", twin.Spec.IngressClassName)
		}
		_, err = there.CoreV1().Secrets(remote).Get(ctx, "web-tls", getOptions())
		return err
	})
	if err := asTenant("forged", "internal"); err == nil || !strings.Contains(err.Error(), "the class of a tenant is served") {
		t.Errorf("an Ingress of a tenant of another class: %v", err)
	}
	if err := asTenant("second", "served"); err != nil {
		t.Errorf("an Ingress of a tenant of its class: %v", err)
	}

	serve("")
	s.eventually(soon, "both go", func(ctx context.Context) error {
		_, ingressErr := there.NetworkingV1().Ingresses(remote).Get(ctx, "web", getOptions())
		_, secretErr := there.CoreV1().Secrets(remote).Get(ctx, "web-tls", getOptions())
		if !apierrors.IsNotFound(ingressErr) || !apierrors.IsNotFound(secretErr) {
			return errors.Join(errors.New("want both not found"), ingressErr, secretErr)
		}
		return nil
	})
}
