package view

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func twin(namespace, ip string, edit func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, CreationTimestamp: metav1.NewTime(time.Unix(1000, 0))},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
	if edit != nil {
		edit(p)
	}
	return p
}

func TestTenantOf(t *testing.T) {
	p := &v1alpha1.Peering{Status: v1alpha1.PeeringStatus{Tenant: &v1alpha1.Tenant{Namespaces: []v1alpha1.TenantNamespace{
		{Name: "app", RemoteName: "app-1"}, {Name: "same", RemoteName: "same"},
	}}}}
	pods := []*corev1.Pod{
		twin("app-1", "10.1.1.5", nil),
		twin("same", "10.1.1.4", nil),
		twin("others", "10.1.1.6", func(p *corev1.Pod) { p.Labels = map[string]string{v1alpha1.LabelOrigin: "who it says it is"} }),
		twin("app-1", "192.0.2.1", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
		twin("app-1", "10.1.1.7", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		twin("app-1", "10.1.1.8", nil),
		twin("others", "10.1.1.8", func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(time.Unix(2000, 0)) }),
	}
	namespaces, twins := tenantOf(p, pods)
	if want := map[string]string{"app": "app-1", "same": "same"}; !maps.Equal(namespaces, want) {
		t.Errorf("namespaces %v, want %v", namespaces, want)
	}
	if want := []netip.Addr{netip.MustParseAddr("10.1.1.4"), netip.MustParseAddr("10.1.1.5")}; !slices.Equal(twins, want) {
		t.Errorf("twins %v, want %v", twins, want)
	}
	if namespaces, twins := tenantOf(&v1alpha1.Peering{}, pods); namespaces != nil || twins != nil {
		t.Errorf("without a tenant: %v, %v", namespaces, twins)
	}
}

func TestDNSOf(t *testing.T) {
	got := dnsOf([]*corev1.Service{
		{Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.2.0.10", "fd00::a"}}}, {Spec: corev1.ServiceSpec{ClusterIPs: []string{corev1.ClusterIPNone}}},
	})
	if want := []netip.AddrPort{netip.MustParseAddrPort("10.2.0.10:53"), netip.MustParseAddrPort("[fd00::a]:53")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
