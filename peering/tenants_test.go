package peering

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestTenants_Identity: it is made once, and nothing of it stays in namespaces that stay.
func TestTenants_Identity(t *testing.T) {
	other := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "spillwayd"}}
	client := fake.NewClientset(other)
	tenants := &tenants{cfg: &Config{Client: client}, made: map[string]*tenantState{}}
	state, want := &tenantState{}, tenant{peering: "home", consumer: "id-1"}
	bindings := func() (names []string) {
		list, err := client.RbacV1().RoleBindings(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range list.Items {
			if b.Namespace != want.namespace() { // goes with its namespace
				names = append(names, b.Namespace+"/"+b.Name+" "+b.RoleRef.Name)
			}
		}
		return names
	}
	for round, writes := range []bool{true, false} {
		client.ClearActions()
		if err := tenants.ensureIdentity(t.Context(), want, state); err != nil {
			t.Fatal(err)
		}
		if n := len(client.Actions()); (n > 0) != writes {
			t.Errorf("round %d: %d requests", round, n)
		}
	}
	if diff := cmp.Diff([]string{"spillway-system/spillway-tenant-home spillway-tenant-usage", "spillway-system/spillwayd "}, bindings()); diff != "" {
		t.Errorf("rights outside of the tenant's namespaces (-want +got):\n%s", diff)
	}
	p := &v1alpha1.Peering{ObjectMeta: metav1.ObjectMeta{Name: "home"}, Spec: v1alpha1.PeeringSpec{ClusterID: "id-1"}}
	for range 2 {
		if _, err := tenants.remove(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"spillway-system/spillwayd "}, bindings()); diff != "" {
		t.Errorf("after the tenant (-want +got):\n%s", diff)
	}
}
