package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// atRestFor is how long nothing must be written; REST=10m looks for as long as is promised.
func atRestFor(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(os.Getenv("REST"))
	if err != nil {
		return 10 * time.Second
	}
	return d
}

// TestReflectedObjectsAtRest: objects of every kind that follow, and do not change, cost no write: not while time passes, and not
// when either spillwayd starts anew.
func TestReflectedObjectsAtRest(t *testing.T) {
	s := begin(t)
	const each = 10
	remote := s.tenantNamespace(s.ns)
	for i := range each {
		s.reflected(fmt.Sprintf("o-%d", i))
	}
	for i := range each {
		s.running(fmt.Sprintf("o-%d", i))
	}
	s.eventually(soon, "all have followed", func(ctx context.Context) error { return s.followed(ctx, remote, each) })
	atProvider, atConsumer := s.countWrites(s.provider, "spillwayd"), s.countWrites(s.consumer, "spillwayd")
	_, _ = poll(s.ctx, atRestFor(t), func(context.Context) error { return errors.New("not over") })
	s.noWrites("at rest", atProvider, atConsumer)
	for _, side := range []*side{s.consumer, s.provider} {
		s.check(side.spillwayd.Restart())
		s.keepSpillwaydRunning(side)
	}
	s.create(s.remotePod("canary")) // when it runs, the new process knows the namespace
	s.running("canary")
	_, _ = poll(s.ctx, 5*time.Second, func(context.Context) error { return errors.New("not over") })
	s.noWrites("over restarts", atProvider, atConsumer)
}

// noWrites fails the test when a reflected object was written.
func (s *scenario) noWrites(when string, counted ...*writes) {
	s.Helper()
	for _, w := range counted {
		got, err := w.read(s.ctx)
		s.check(err)
		s.Logf("writes %s, cluster %s: %v", when, w.side.Name(), got)
		for name, n := range got {
			verb, what, _ := strings.Cut(name, " ")
			if verb == "apply" && w.side == s.provider {
				continue // a provider's spillwayd that starts applies what its tenants have of it, which changes nothing
			}
			switch what {
			case "configmaps", "secrets", "services", "endpointslices", "ingresses", "networkpolicies", "persistentvolumeclaims":
				s.Errorf("%s, cluster %s: %d × %s, want none", when, w.side.Name(), n, name)
			}
		}
	}
}

// reflected makes a pod of this name and one object of each kind that follows.
func (s *scenario) reflected(name string) {
	s.Helper()
	meta, home := metav1.ObjectMeta{Name: name, Namespace: s.ns}, s.consumer.kube
	_, err := home.CoreV1().ConfigMaps(s.ns).Create(s.ctx, &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{})
	s.check(err)
	_, err = home.CoreV1().Secrets(s.ns).Create(s.ctx, &corev1.Secret{ObjectMeta: meta, StringData: map[string]string{"k": "v"}}, metav1.CreateOptions{})
	s.check(err)
	_, err = home.CoreV1().Services(s.ns).Create(s.ctx, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("web")}},
	}}, metav1.CreateOptions{})
	s.check(err)
	_, err = home.NetworkingV1().NetworkPolicies(s.ns).Create(s.ctx, &networkingv1.NetworkPolicy{ObjectMeta: meta, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}}},
	}}, metav1.CreateOptions{})
	s.check(err)
	s.create(s.remotePod(name, func(pod *corev1.Pod) {
		pod.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}},
		}
	}))
}

// followed says which kinds are not all at the provider.
func (s *scenario) followed(ctx context.Context, remote string, each int) error {
	there, ours := s.provider.kube, metav1.ListOptions{LabelSelector: "spillway.dev/origin=" + s.consumer.id}
	configs, err := there.CoreV1().ConfigMaps(remote).List(ctx, ours)
	if err != nil {
		return err
	}
	secrets, err := there.CoreV1().Secrets(remote).List(ctx, ours)
	if err != nil {
		return err
	}
	services, err := there.CoreV1().Services(remote).List(ctx, ours)
	if err != nil {
		return err
	}
	policies, err := there.NetworkingV1().NetworkPolicies(remote).List(ctx, ours)
	if err != nil {
		return err
	}
	have := map[string]int{"configmaps": len(configs.Items), "secrets": len(secrets.Items), "services": len(services.Items), "networkpolicies": len(policies.Items)}
	for _, kind := range slices.Sorted(maps.Keys(have)) {
		if have[kind] != each {
			return fmt.Errorf("%d %s, want %d", have[kind], kind, each)
		}
	}
	return nil
}
