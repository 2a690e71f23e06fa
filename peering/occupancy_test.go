package peering

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func marked(name, consumer string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelTenant: consumer}}}
}

// TestOccupancy: who a tenant is follows from the Peering and from the namespace that was made for it, and from nothing in a name alone.
func TestOccupancy(t *testing.T) {
	pod := func(namespace, name, node string, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase}}
	}
	client := fake.NewClientset(
		marked("spillway-tenant-home", "id-1"), marked("shop-1", "id-1"), marked("shop-2", "id-2"), marked("spillway-tenant-odd", "id-2"),
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}}}},
		pod("shop-1", "web", "n1", corev1.PodRunning), pod("shop-1", "done", "n2", corev1.PodSucceeded), pod("shop-1", "new", "", corev1.PodPending),
		pod("kube-system", "dns", "n3", corev1.PodRunning), pod("shop-2", "web", "n1", corev1.PodRunning),
	)
	share := func(name, consumer string) v1alpha1.Peering {
		return v1alpha1.Peering{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PeeringSpec{ClusterID: consumer, Share: &v1alpha1.Share{}}}
	}
	borrows := share("loan", "id-3")
	borrows.Spec.Share = nil
	c := &Controller{}
	c.caches = newProviderCaches(client, func() {}, func(_, _ *corev1.Node) {})
	c.peerings = live.New(live.Options[*v1alpha1.Peering]{Name: "peerings", ListWatch: fixed(client, share("home", "id-1"), share("odd", "id-4"), borrows)})
	o := c.Occupancy()
	if o.Synced() {
		t.Error("synced before anything is known")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go c.peerings.Run(ctx)
	go c.caches.run(ctx)
	if err := wait.PollUntilContextTimeout(ctx, time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) { return o.Synced(), nil }); err != nil {
		t.Fatal(err)
	}
	got := map[string]map[string]bool{}
	for _, identity := range []string{"spillway-tenant-home", "home", "spillway-tenant-", "shop-1", "spillway-tenant-odd", "spillway-tenant-loan"} {
		if namespaces, ok := o.Tenant(identity); ok {
			got[identity] = namespaces
		}
	}
	want := map[string]map[string]bool{"spillway-tenant-home": {"shop-1": true, "spillway-tenant-home": true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tenants (-want +got):\n%s", diff)
	}
	nodes, tenants := o.Nodes()
	if diff := cmp.Diff(map[string]map[string]bool{"n1": {"shop-1": true, "shop-2": true}}, tenants); diff != "" {
		t.Errorf("where tenants' pods run (-want +got):\n%s", diff)
	}
	if len(nodes) != 1 || nodes[0].Status.DaemonEndpoints.KubeletEndpoint.Port != 10250 {
		t.Errorf("nodes %v", nodes)
	}
}

// fixed lists these Peerings, which never change; client is a fake.
func fixed(client any, peerings ...v1alpha1.Peering) cache.ListerWatcher {
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			return &v1alpha1.PeeringList{Items: peerings}, nil
		},
		WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) { return watch.NewFake(), nil },
	}, client)
}
