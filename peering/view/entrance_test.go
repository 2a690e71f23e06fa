package view

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func TestEnter(t *testing.T) {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: EntranceName(0)},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
			{Name: "udp", Protocol: corev1.ProtocolUDP, Port: 51820}, {Name: "tls", Protocol: corev1.ProtocolTCP, Port: 443},
		}},
	}
	client := fake.NewClientset(service)
	v := &View{cfg: Config{Client: client, Node: "worker-1"}}
	if there, err := v.Enter(t.Context(), 1, netip.MustParseAddr("192.0.2.1"), 51821); there || err != nil {
		t.Errorf("a slot without Service: %v, %v; want nothing done", there, err)
	}
	for _, node := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2"} { // taken, looked at again, taken over
		if there, err := v.Enter(t.Context(), 0, netip.MustParseAddr(node), 51820); !there || err != nil {
			t.Fatalf("enter at %s: %v, %v", node, there, err)
		}
		slice, err := client.DiscoveryV1().EndpointSlices(v1alpha1.SystemNamespace).Get(t.Context(), EntranceName(0), metav1.GetOptions{})
		if err != nil || !leadsTo(slice, netip.MustParseAddr(node), 51820, service) || slice.Labels[discoveryv1.LabelServiceName] != EntranceName(0) {
			t.Errorf("the slice does not lead to %s: %v %+v", node, err, slice)
		}
	}
	writes := 0
	for _, a := range client.Actions() {
		if a.GetVerb() == "patch" {
			writes++
		}
	}
	if writes != 2 {
		t.Errorf("%d writes, want 2: one per holder", writes)
	}
}
