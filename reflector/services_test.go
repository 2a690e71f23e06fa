package reflector

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func webService() *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "svc-1"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.2.0.7", Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}},
	}}
}

func webSlice(node, address string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-abcde", Namespace: "shop", UID: "slice-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}, NodeName: ptr.To(node)}},
	}
}

// TestLoop_Services: Services of an offloaded namespace follow without a pod that uses them, and go with those of home.
// Those of other namespaces stay at home.
func TestLoop_Services(t *testing.T) {
	elsewhere := webService()
	elsewhere.Namespace = "private"
	runLoop(t, objects(webService(), webSlice("home-1", "10.1.2.3"), elsewhere), nil, nil, func(l *loop) {
		created := l.writes(l.peer)
		if len(created) != 2 {
			t.Fatalf("writes at the peer: %v", created)
		}
		if err := l.home.DiscoveryV1().EndpointSlices("shop").Delete(t.Context(), "web-abcde", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		l.settle()
		l.writes(l.home)
		l.wrote("the endpoints are gone", nil, []string{"delete endpointslices shop-1f2e/web-abcde"})
		l.remove(l.home, "services", "shop", "web")
		l.settle()
		l.wrote("the Service is gone", nil, []string{"delete services shop-1f2e/web"})
		l.pass(time.Hour)
		l.wrote("an hour later", nil, nil)
	})
}

// TestLoop_ServicesOfTwins: what runs on the virtual node is found by the peer itself.
func TestLoop_ServicesOfTwins(t *testing.T) {
	runLoop(t, objects(webService(), webSlice("far", "10.1.2.3")), nil, nil, func(l *loop) {
		l.wrote("start", nil, []string{"create services shop-1f2e/web"})
		l.pass(time.Hour)
		l.wrote("an hour later", nil, nil)
	})
}
