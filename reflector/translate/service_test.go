package translate_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/reflector/translate"
)

var serviceEnv = translate.Env{
	Origin: "consumer-1", NodeName: "far", RemoteNamespace: "shop-1f2e",
	MapOwn: func(a netip.Addr) netip.Addr {
		if b := a.As4(); a.Is4() && b[0] == 10 && b[1] == 1 {
			b[0], b[1] = 100, 71
			return netip.AddrFrom4(b)
		}
		return netip.Addr{}
	},
	Virtual: func(node string) bool { return node == "far" || node == "other" },
}

// localService is a Service as the API server of home returns it.
func localService(change func(*corev1.ServiceSpec)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "svc-1", Labels: map[string]string{"app": "web"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.2.0.7", ClusterIPs: []string{"10.2.0.7"}, Selector: map[string]string{"app": "web"},
			Ports:      []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack),
			SessionAffinity: corev1.ServiceAffinityNone, InternalTrafficPolicy: ptr.To(corev1.ServiceInternalTrafficPolicyCluster),
		},
	}
	if change != nil {
		change(&s.Spec)
	}
	return s
}

func TestService(t *testing.T) {
	usual := corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, Selector: map[string]string{"app": "web"}, SessionAffinity: corev1.ServiceAffinityNone,
		Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}},
	}
	for name, row := range map[string]struct {
		local func(*corev1.ServiceSpec)
		want  func(*corev1.ServiceSpec)
	}{
		"cluster IP": {},
		"load balancer": {local: func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalIPs, s.LoadBalancerSourceRanges = corev1.ServiceTypeLoadBalancer, []string{"192.0.2.1"}, []string{"0.0.0.0/0"}
			s.Ports[0].NodePort, s.ExternalTrafficPolicy, s.HealthCheckNodePort = 30080, corev1.ServiceExternalTrafficPolicyLocal, 30081
		}},
		"headless": {
			func(s *corev1.ServiceSpec) {
				s.ClusterIP, s.ClusterIPs, s.PublishNotReadyAddresses = "None", []string{"None"}, true
			},
			func(s *corev1.ServiceSpec) { s.ClusterIP, s.PublishNotReadyAddresses = "None", true },
		},
		"external name": {
			func(s *corev1.ServiceSpec) {
				*s = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.org", SessionAffinity: "None"}
			},
			func(s *corev1.ServiceSpec) {
				*s = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.org", SessionAffinity: "None"}
			},
		},
		"both families": {
			func(s *corev1.ServiceSpec) {
				s.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
				s.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
			},
			func(s *corev1.ServiceSpec) { s.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyPreferDualStack) },
		},
		"node-local traffic": {local: func(s *corev1.ServiceSpec) {
			s.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			want := *usual.DeepCopy()
			if row.want != nil {
				row.want(&want)
			}
			twin := translate.Service(localService(row.local), serviceEnv)
			if diff := cmp.Diff(want, twin.Spec); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
			if twin.Namespace != "shop-1f2e" || twin.Name != "web" || twin.Labels[translate.LabelOrigin] != "consumer-1" || twin.Labels["app"] != "web" {
				t.Errorf("metadata %+v", twin.ObjectMeta)
			}
		})
	}
	if twin := translate.Service(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}}, serviceEnv); twin != nil {
		t.Errorf("the Service of the API server follows: %+v", twin)
	}
}

// TestServiceEqual: what the peer's API server adds is no difference, and is kept when something else is written.
func TestServiceEqual(t *testing.T) {
	made := func(change func(*corev1.ServiceSpec)) *corev1.Service {
		twin := translate.Service(localService(change), serviceEnv)
		if twin.Spec.ClusterIP == "" {
			twin.Spec.ClusterIP, twin.Spec.ClusterIPs = "10.9.0.1", []string{"10.9.0.1"}
		}
		twin.Spec.IPFamilies, twin.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol}, ptr.To(corev1.IPFamilyPolicySingleStack)
		twin.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyCluster)
		return twin
	}
	headless := func(s *corev1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "None", []string{"None"} }
	other := func(s *corev1.ServiceSpec) { s.Ports[0].Port = 81 }
	for name, row := range map[string]struct {
		want, have     func(*corev1.ServiceSpec)
		equal, replace bool
	}{
		"the same":          {nil, nil, true, false},
		"the same headless": {headless, headless, true, false},
		"another port":      {other, nil, false, false},
		"became headless":   {headless, nil, false, true},
		"became usual":      {nil, headless, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			want, have := translate.Service(localService(row.want), serviceEnv), made(row.have)
			if got := translate.ServiceEqual(want, have); got != row.equal {
				t.Errorf("equal %v, want %v", got, row.equal)
			}
			if got := translate.ServiceReplace(want, have); got != row.replace {
				t.Errorf("replace %v, want %v", got, row.replace)
			}
		})
	}
	want, have := translate.Service(localService(other), serviceEnv), made(nil)
	translate.KeepService(want, have)
	if want.Spec.ClusterIP != "10.9.0.1" || want.Spec.Ports[0].Port != 81 || len(want.Spec.IPFamilies) != 1 {
		t.Errorf("kept %+v", want.Spec)
	}
}

func localSlice(endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "web-abcde", Namespace: "shop", UID: "slice-1", Labels: map[string]string{
			discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
		}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints, Ports: []discoveryv1.EndpointPort{{Port: ptr.To(int32(8080))}},
	}
}

func endpoint(node string, addresses ...string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses: addresses, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}, Hostname: ptr.To("web-0"), Zone: ptr.To("a"),
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "web-0"}, Hints: &discoveryv1.EndpointHints{},
	}
	if node != "" {
		e.NodeName = &node
	}
	return e
}

func TestEndpointSlice(t *testing.T) {
	twin := translate.EndpointSlice(localSlice(
		endpoint("home-1", "10.1.2.3"), endpoint("far", "10.1.2.4"), endpoint("other", "10.1.2.5"), endpoint("", "192.168.7.7"), endpoint("", "8.8.8.8"),
	), serviceEnv)
	ready := discoveryv1.EndpointConditions{Ready: ptr.To(true)}
	want := []discoveryv1.Endpoint{
		{Addresses: []string{"100.71.2.3"}, Conditions: ready, Hostname: ptr.To("web-0")},
		{Addresses: []string{"8.8.8.8"}, Conditions: ready, Hostname: ptr.To("web-0")},
	}
	if diff := cmp.Diff(want, twin.Endpoints); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	if l := twin.Labels; l[discoveryv1.LabelServiceName] != "web" || l[discoveryv1.LabelManagedBy] != "spillway.dev" || l[translate.LabelOrigin] != "consumer-1" {
		t.Errorf("labels %v", l)
	}
	if !translate.EndpointSliceEqual(twin, twin.DeepCopy()) {
		t.Error("a slice differs from itself")
	}
	gone := twin.DeepCopy()
	gone.Endpoints[0].Conditions.Ready = ptr.To(false)
	if translate.EndpointSliceEqual(twin, gone) {
		t.Error("readiness is no difference")
	}
	gone.Annotations[translate.AnnotationEndpointsSaid] = "[]"
	if !translate.EndpointSliceEqual(twin, gone) {
		t.Error("what the provider says of readiness is a difference")
	}
	if twin := translate.EndpointSlice(localSlice(endpoint("far", "10.1.2.4")), serviceEnv); twin != nil {
		t.Errorf("a slice of twins only follows: %+v", twin)
	}
	as := serviceEnv
	as.MapOwn = nil
	if twin := translate.EndpointSlice(localSlice(endpoint("", "192.168.7.7")), as); twin.Endpoints[0].Addresses[0] != "192.168.7.7" {
		t.Errorf("where no addresses are mapped: %+v", twin.Endpoints)
	}
}
