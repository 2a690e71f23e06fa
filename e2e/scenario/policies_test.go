package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestPoliciesFollow: a NetworkPolicy is at the provider, names pods of home by their addresses, and its twins are marked as
// isolated for as long as it is there. The tenant may not touch the policies that the provider has made.
func TestPoliciesFollow(t *testing.T) {
	s := begin(t)
	remote := s.tenantNamespace(s.ns)
	s.create(s.remotePod("web"))
	_, twin := s.running("web")
	if value, ok := twin.Labels[v1alpha1.LabelIsolated]; ok {
		t.Errorf("no policy selects the twin, and it has %s=%s", v1alpha1.LabelIsolated, value)
	}
	home := s.consumer.kube.NetworkingV1().NetworkPolicies(s.ns)
	_, err := home.Create(s.ctx, webPolicy(), metav1.CreateOptions{})
	s.check(err)
	there := s.provider.kube.NetworkingV1().NetworkPolicies(remote)
	named := func(want int) func(context.Context) error {
		return func(ctx context.Context) error {
			p, err := there.Get(ctx, "web", getOptions())
			if err == nil && (len(p.Spec.Ingress) != 1 || len(p.Spec.Ingress[0].From) != want) {
				return fmt.Errorf("ingress of the policy at the provider: %+v", p.Spec.Ingress)
			}
			return err
		}
	}
	s.eventually(soon, "the policy follows", named(1))
	s.eventually(soon, "the twin is isolated", s.isolated("web", true))
	s.create(s.remotePod("db", func(pod *corev1.Pod) { pod.Spec.NodeSelector, pod.Spec.Tolerations = nil, nil }))
	s.eventually(soon, "it names a pod of home", named(2))
	s.deletePod("db", byForce())
	s.eventually(soon, "the pod is gone", named(1))

	s.tenantIsKeptOff(remote)

	s.check(home.Delete(s.ctx, "web", metav1.DeleteOptions{}))
	s.eventually(soon, "the policy goes", func(ctx context.Context) error {
		if _, err := there.Get(ctx, "web", getOptions()); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the policy at the provider: %w", err)
		}
		return nil
	})
	s.eventually(soon, "the twin is not isolated", s.isolated("web", false))
}

// webPolicy lets pods app=db reach pods app=web, and these reach the DNS.
func webPolicy() *networkingv1.NetworkPolicy {
	labelled := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
	p.Spec.PodSelector = *labelled("app", "web")
	p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
		Ports: []networkingv1.NetworkPolicyPort{{}}, From: []networkingv1.NetworkPolicyPeer{{PodSelector: labelled("app", "db")}},
	}}
	p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{
		{NamespaceSelector: labelled(corev1.LabelMetadataName, metav1.NamespaceSystem), PodSelector: labelled("k8s-app", "kube-dns")},
		{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"169.254.0.0/16"}}},
	}}}
	return p
}

func (s *scenario) isolated(name string, want bool) func(context.Context) error {
	return func(ctx context.Context) error {
		local, err := s.local(ctx, name)
		if err != nil {
			return err
		}
		twin, err := s.twin(ctx, local.UID)
		if err != nil {
			return err
		}
		if value, ok := twin.Labels[v1alpha1.LabelIsolated]; ok != want || want && value != v1alpha1.IsolatedIngress {
			return fmt.Errorf("the twin has %s=%q", v1alpha1.LabelIsolated, value)
		}
		return nil
	}
}

// tenantIsKeptOff: it changes its own policies and not those of the provider.
func (s *scenario) tenantIsKeptOff(remote string) {
	s.Helper()
	identity := "spillway-tenant-" + east
	config := s.provider.Config()
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + identity + ":consumer",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + identity, "system:authenticated"},
	}
	client, err := kubernetes.NewForConfig(config)
	s.check(err)
	tenant := client.NetworkingV1().NetworkPolicies(remote)
	own := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "own"}}
	own, err = tenant.Create(s.ctx, own, metav1.CreateOptions{})
	s.check(err)
	list, err := tenant.List(s.ctx, listOptions())
	s.check(err)
	var providers []string
	for _, p := range list.Items {
		if p.Labels[v1alpha1.LabelTenant] == "" {
			continue
		}
		providers = append(providers, p.Name)
		s.refusedAs("delete "+p.Name, "the provider's", tenant.Delete(s.ctx, p.Name, metav1.DeleteOptions{}))
		p.Labels = nil
		_, err := tenant.Update(s.ctx, &p, metav1.UpdateOptions{})
		s.refusedAs("change "+p.Name, "the provider's", err)
	}
	if !slices.Equal(providers, []string{"spillway", "spillway-isolated"}) {
		s.Errorf("the provider has made %v", providers)
	}
	own.Labels = map[string]string{v1alpha1.LabelTenant: s.consumer.id}
	_, err = tenant.Update(s.ctx, own, metav1.UpdateOptions{})
	s.refusedAs("make one that looks like the provider's", "does not carry", err)
	s.check(tenant.Delete(s.ctx, "own", metav1.DeleteOptions{}))
}

// refusedAs fails the test unless the API server has refused a deed with these words.
func (s *scenario) refusedAs(deed, words string, err error) {
	s.Helper()
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), words) {
		s.Errorf("%s: %v, want to be refused: %s", deed, err, words)
	}
}
