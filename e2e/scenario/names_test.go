package scenario

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestNamespaceNames: a policy's wish for the name of its namespace at the provider is granted where the provider lets tenants choose
// and the name is free, and nowhere else.
func TestNamespaceNames(t *testing.T) {
	s := begin(t)
	taken, free := s.ns, "acme-"+rand.String(5)
	_, err := s.provider.kube.CoreV1().Namespaces().Create(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: taken}}, metav1.CreateOptions{})
	s.check(err)
	s.Cleanup(func() {
		s.check(s.provider.kube.CoreV1().Namespaces().Delete(s.ctx, taken, metav1.DeleteOptions{}))
	})
	chosen := func(name string) v1alpha1.RemoteNamespace {
		return v1alpha1.RemoteNamespace{Naming: v1alpha1.RemoteNamingChosen, Name: name}
	}
	s.named("the provider lets nobody choose", chosen(free), func(local string) bool { return local != free })
	if r := s.spillway(s.ctx, peerArgs("--same-namespaces")...); r.code != 0 {
		t.Fatalf("peer: %s", r)
	}
	s.Cleanup(func() {
		if r := s.spillway(s.ctx, peerArgs("--same-namespaces=false")...); r.code != 0 {
			t.Errorf("peer: %s", r)
		}
	})
	s.named("a free name", chosen(free), func(remote string) bool { return remote == free })
	s.named("a name that is taken", chosen(taken), func(remote string) bool { return remote != taken && remote != s.ns })
	s.named("a name of the system", chosen("kube-guests"), func(remote string) bool { return remote != "kube-guests" })
	s.named("a suffix, although it may do without", v1alpha1.RemoteNamespace{Naming: v1alpha1.RemoteNamingSuffixed}, func(remote string) bool { return remote != s.ns })
	s.named("the same", v1alpha1.RemoteNamespace{Naming: v1alpha1.RemoteNamingSameIfFree}, func(remote string) bool { return remote == s.ns })
}

// named opens a new namespace by a policy with this wish, and looks how the provider calls it.
func (s *scenario) named(what string, wish v1alpha1.RemoteNamespace, right func(remote string) bool) {
	s.Helper()
	s.ns = s.namespace(false)
	_, err := s.policies().Create(s.ctx, &v1alpha1.OffloadPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: s.ns}, Spec: v1alpha1.OffloadPolicySpec{Namespace: &wish},
	}, metav1.CreateOptions{})
	s.check(err)
	s.eventually(soon, what, func(ctx context.Context) error {
		remote, err := s.findTenantNamespace(ctx, s.ns)
		if err == nil && !right(remote) {
			err = fmt.Errorf("namespace %s is %s there", s.ns, remote)
		}
		return err
	})
}
