package v1alpha1

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json" // whole numbers become int64, as in the API server

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestPeering_Create has one row per rule. want are the refusals of the API server; none: accepted.
func TestPeering_Create(t *testing.T) {
	schema := newSchema(t, peeringCRD)
	for name, row := range map[string]struct {
		edit func(*Peering)
		want []string
	}{
		"a consumer's Peering is accepted":  {edit: func(p *Peering) { p.Spec.Share = nil }},
		"a provider's Peering is accepted":  {edit: func(p *Peering) { p.Spec.Borrow, p.Spec.API = nil, nil }},
		"pods going both ways are accepted": {edit: func(*Peering) {}},
		"a name of 40 characters is accepted": {
			edit: func(p *Peering) { p.Name = strings.Repeat("a", 40) },
		},
		"a name of 41 characters is refused": {
			edit: func(p *Peering) { p.Name = strings.Repeat("a", 41) },
			want: []string{"the name of a Peering becomes part of node and namespace names: use at most 40 characters"},
		},
		"a name with a dot is refused": {
			edit: func(p *Peering) { p.Name = "cloud.east" },
			want: []string{"the name of a Peering becomes part of namespace names, which have no dots: use a-z, 0-9 and -"},
		},
		"neither borrow nor share is refused": {
			edit: func(p *Peering) { p.Spec.Borrow, p.Spec.Share = nil, nil },
			want: []string{"spec: set borrow (run pods in the peer), share (let the peer run pods here), or both"},
		},
		"borrow without api is refused": {
			edit: func(p *Peering) { p.Spec.API = nil },
			want: []string{"spec: borrow needs api: the address of the peer's API server and the Secret with the credential it gave out"},
		},
		"an empty cluster id is refused": {
			edit: func(p *Peering) { p.Spec.ClusterID = "" },
			want: []string{"spec.clusterID: should be at least 1 chars long"},
		},
		"a cluster id that is no label value is refused": {
			edit: func(p *Peering) { p.Spec.ClusterID = "-east" },
			want: []string{"spec.clusterID: should match '^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'"},
		},
		"a cluster id longer than a label value is refused": {
			edit: func(p *Peering) { p.Spec.ClusterID = strings.Repeat("a", 64) },
			want: []string{"spec.clusterID: may not be more than 63 bytes"},
		},
		"a server on http is refused": {
			edit: func(p *Peering) { p.Spec.API.Server = "http://203.0.113.7:6443" },
			want: []string{"spec.api.server: server must be an https URL, for example https://203.0.113.7:6443"},
		},
		"a server without scheme is refused": {
			edit: func(p *Peering) { p.Spec.API.Server = "203.0.113.7:6443" },
			want: []string{"spec.api.server: server must be an https URL, for example https://203.0.113.7:6443"},
		},
		"a server of IPv6 is accepted": {
			edit: func(p *Peering) { p.Spec.API.Server = "https://[2001:db8::1]:6443" },
		},
		"an empty Secret name is refused": {
			edit: func(p *Peering) { p.Spec.API.SecretName = "" },
			want: []string{"spec.api.secretName: should be at least 1 chars long"},
		},
		"an empty tenant namespace is refused": {
			edit: func(p *Peering) { p.Spec.API.TenantNamespace = "" },
			want: []string{"spec.api.tenantNamespace: should be at least 1 chars long"},
		},
		"an empty name of the peer's Peering is refused": {
			edit: func(p *Peering) { p.Spec.API.PeeringName = "" },
			want: []string{"spec.api.peeringName: should be at least 1 chars long"},
		},
		"a node name that no Node can have is refused": {
			edit: func(p *Peering) { p.Spec.Borrow.NodeName = "Cloud_1" },
			want: []string{"spec.borrow.nodeName: nodeName must be a name that a Node can have: a-z, 0-9, - and ., starting and ending with a letter or digit"},
		},
		"a node name with dots is accepted": {edit: func(p *Peering) { p.Spec.Borrow.NodeName = "east.cloud" }},
		"no node name is accepted":          {edit: func(p *Peering) { p.Spec.Borrow.NodeName = "" }},
		"a node name of 64 characters is refused": {
			edit: func(p *Peering) { p.Spec.Borrow.NodeName = strings.Repeat("a", 64) },
			want: []string{"spec.borrow.nodeName: may not be more than 63 bytes"},
		},
		"a share above 100 percent is refused": {
			edit: func(p *Peering) { p.Spec.Share.Percent = 101 },
			want: []string{"spec.share.percent: should be less than or equal to 100"},
		},
		"a share below 1 percent is refused": {
			edit: func(p *Peering) { p.Spec.Share.Percent = -1 },
			want: []string{"spec.share.percent: should be greater than or equal to 1"},
		},
		"an unknown pod security level is refused": {
			edit: func(p *Peering) { p.Spec.Share.PodSecurity = "strict" },
			want: []string{`spec.share.podSecurity: supported values: "privileged", "baseline", "restricted"`},
		},
		"an ingress class is accepted": {edit: func(p *Peering) { p.Spec.Share.IngressClassName = "nginx.tenants" }},
		"what is no ingress class is refused": {
			edit: func(p *Peering) { p.Spec.Share.IngressClassName = "Nginx" },
			want: []string{"spec.share.ingressClassName: ingressClassName must be the name of an IngressClass: a-z, 0-9, - and ., starting and ending with a letter or digit"},
		},
		"an ingress class that is no label is refused": {
			edit: func(p *Peering) { p.Spec.Share.IngressClassName = strings.Repeat("a", 64) },
			want: []string{"spec.share.ingressClassName: may not be more than 63 bytes"},
		},
		"the API through the tunnel is accepted": {edit: func(p *Peering) { p.Spec.API.Via = APIViaTunnel }},
		"the API through a tunnel that is not there is refused": {
			edit: func(p *Peering) { p.Spec.API.Via, p.Spec.Tunnel = APIViaTunnel, nil },
			want: []string{"spec: api.via Tunnel needs tunnel with mode Tunnel: otherwise there is no tunnel to go through"},
		},
		"the API through the tunnel with mode External is refused": {
			edit: func(p *Peering) { p.Spec.API.Via, p.Spec.Tunnel.Mode = APIViaTunnel, TunnelModeExternal },
			want: []string{"spec: api.via Tunnel needs tunnel with mode Tunnel: otherwise there is no tunnel to go through"},
		},
		"an unknown way to the API is refused": {
			edit: func(p *Peering) { p.Spec.API.Via = "Pigeon" },
			want: []string{`spec.api.via: supported values: "Direct", "Tunnel"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := validPeering()
			row.edit(p)
			if diff := cmp.Diff(row.want, schema.validate(t, schema.defaulted(t, p), nil)); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPeering_Update has one row per transition rule, and one per change that must stay possible.
func TestPeering_Update(t *testing.T) {
	const nodeNameFixed = "spec.borrow.nodeName: nodeName cannot be changed while pods may be bound to the node. Delete the Peering and peer again"
	schema := newSchema(t, peeringCRD)
	for name, row := range map[string]struct {
		before, after func(*Peering)
		want          []string
	}{
		"another cluster id is refused": {
			after: func(p *Peering) { p.Spec.ClusterID = "west" },
			want:  []string{"spec.clusterID: clusterID cannot be changed: a Peering is with one cluster for its whole life. Delete it and peer again"},
		},
		"another node name is refused": {
			after: func(p *Peering) { p.Spec.Borrow.NodeName = "other" },
			want:  []string{nodeNameFixed},
		},
		"taking the node name away is refused": {
			after: func(p *Peering) { p.Spec.Borrow.NodeName = "" },
			want:  []string{nodeNameFixed},
		},
		"giving a node name afterwards is refused": {
			before: func(p *Peering) { p.Spec.Borrow.NodeName = "" },
			after:  func(p *Peering) { p.Spec.Borrow.NodeName = "other" },
			want:   []string{nodeNameFixed},
		},
		"other node labels are accepted":   {after: func(p *Peering) { p.Spec.Borrow.Labels = map[string]string{"price": "low"} }},
		"another server is accepted":       {after: func(p *Peering) { p.Spec.API.Server = "https://203.0.113.8:6443" }},
		"another share is accepted":        {after: func(p *Peering) { p.Spec.Share.Percent = 10 }},
		"ending the borrowing is accepted": {after: func(p *Peering) { p.Spec.Borrow, p.Spec.API = nil, nil }},
		"ending the sharing is accepted":   {after: func(p *Peering) { p.Spec.Share = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			before := validPeering()
			if row.before != nil {
				row.before(before)
			}
			after := before.DeepCopy()
			row.after(after)
			if diff := cmp.Diff(row.want, schema.validate(t, schema.defaulted(t, after), schema.defaulted(t, before))); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPeering_CreateUntyped has the mistakes that the Go types make impossible.
func TestPeering_CreateUntyped(t *testing.T) {
	schema := newSchema(t, peeringCRD)
	for name, row := range map[string]struct {
		path  []string
		value any // nil takes the field away
		want  []string
	}{
		"no spec is refused":          {path: []string{"spec"}, want: []string{"spec: Required value"}},
		"no cluster id is refused":    {path: []string{"spec", "clusterID"}, want: []string{"spec.clusterID: Required value"}},
		"no server is refused":        {path: []string{"spec", "api", "server"}, want: []string{"spec.api.server: Required value"}},
		"no Secret is refused":        {path: []string{"spec", "api", "secretName"}, want: []string{"spec.api.secretName: Required value"}},
		"no tenant is refused":        {path: []string{"spec", "api", "tenantNamespace"}, want: []string{"spec.api.tenantNamespace: Required value"}},
		"no Peering there is refused": {path: []string{"spec", "api", "peeringName"}, want: []string{"spec.api.peeringName: Required value"}},
		"an amount that is no quantity is refused": {
			path: []string{"spec", "share", "resources", "cpu"}, value: "much",
			want: []string{`spec.share.resources.cpu: should match '^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$'`},
		},
		"a whole number as an amount is accepted": {
			path: []string{"spec", "share", "resources", "cpu"}, value: int64(4),
		},
		"an amount of 0 is accepted": {
			path: []string{"spec", "share", "resources", "memory"}, value: "0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			object := schema.defaulted(t, validPeering())
			if row.value == nil {
				unstructured.RemoveNestedField(object, row.path...)
			} else if err := unstructured.SetNestedField(object, row.value, row.path...); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, schema.validate(t, object, nil)); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPeering_Tunnel has one row per rule of the tunnel. want are the refusals of the API server; none: accepted.
func TestPeering_Tunnel(t *testing.T) {
	const sizes = "range and as must be ranges of the same size and family, for example 10.244.0.0/16 and 100.64.0.0/16"
	const noRange = "cidr must be a range such as 10.244.0.0/16 or fd00:1::/48"
	schema := newSchema(t, peeringCRD)
	for name, row := range map[string]struct {
		edit func(*Tunnel)
		want []string
	}{
		"all parts are accepted":    {edit: func(*Tunnel) {}},
		"an empty one is accepted":  {edit: func(tu *Tunnel) { *tu = Tunnel{} }},
		"an alias of IPv6":          {edit: func(tu *Tunnel) { tu.Aliases = []Alias{{Range: "fd00:1::/64", As: "fd00:2::/64"}} }},
		"a range seen as it is":     {edit: func(tu *Tunnel) { tu.Aliases = []Alias{{Range: "10.1.0.0/16", As: "10.1.0.0/16"}} }},
		"no endpoint for ourselves": {edit: func(tu *Tunnel) { tu.Endpoints = []string{"none"} }},
		"an unknown mode is refused": {
			edit: func(tu *Tunnel) { tu.Mode = "Ferry" },
			want: []string{`spec.tunnel.mode: supported values: "Tunnel", "External", "Off"`},
		},
		"an alias of another size is refused": {
			edit: func(tu *Tunnel) { tu.Aliases[0].As = "100.64.0.0/15" },
			want: []string{"spec.tunnel.aliases[0]: " + sizes},
		},
		"an alias of another family is refused": {
			edit: func(tu *Tunnel) { tu.Aliases[0].As = "fd00::/16" },
			want: []string{"spec.tunnel.aliases[0]: " + sizes},
		},
		"an alias that is no range is refused": {
			edit: func(tu *Tunnel) { tu.Aliases[0].As = "100.64.0.0" },
			want: []string{"spec.tunnel.aliases[0]: " + sizes},
		},
		"an alias of the peer of another size is refused": {
			edit: func(tu *Tunnel) { tu.Remote.Aliases[0].As = "100.64.0.0/15" },
			want: []string{"spec.tunnel.remote.aliases[0]: " + sizes},
		},
		"a range that is none is refused": {
			edit: func(tu *Tunnel) { tu.Remote.Ranges[0].CIDR = "10.244.0.0" },
			want: []string{"spec.tunnel.remote.ranges[0].cidr: " + noRange},
		},
		"a range of an unknown kind is refused": {
			edit: func(tu *Tunnel) { tu.Remote.Ranges[0].Kind = "Services" },
			want: []string{`spec.tunnel.remote.ranges[0].kind: supported values: "Pods", "Nodes", "API"`},
		},
		"a key that is none is refused": {
			edit: func(tu *Tunnel) { tu.Remote.Gateways[0].PublicKey = "short" },
			want: []string{"spec.tunnel.remote.gateways[0].publicKey: should match '^[A-Za-z0-9+/]{43}=$'"},
		},
		"nine gateways are refused": {
			edit: func(tu *Tunnel) {
				for len(tu.Remote.Gateways) < MaxSlots+1 {
					tu.Remote.Gateways = append(tu.Remote.Gateways, tu.Remote.Gateways[0])
				}
			},
			want: []string{"spec.tunnel.remote.gateways: must have at most 8 items"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := validPeering()
			row.edit(p.Spec.Tunnel)
			if diff := cmp.Diff(row.want, schema.validate(t, schema.defaulted(t, p), nil)); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPeering_Defaults(t *testing.T) {
	schema := newSchema(t, peeringCRD)
	p := validPeering()
	p.Spec.Share = &Share{}
	var got Peering
	data, err := json.Marshal(schema.defaulted(t, p))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := &Share{Percent: 100, PodSecurity: PodSecurityBaseline, NamespaceNames: NamespaceNamesSuffixed}
	if diff := cmp.Diff(want, got.Spec.Share); diff != "" {
		t.Errorf("an empty share (-want +got):\n%s", diff)
	}
}

// validPeering sets every part of the spec.
func validPeering() *Peering {
	return &Peering{
		TypeMeta:   metav1.TypeMeta{APIVersion: GroupVersion.String(), Kind: PeeringKind},
		ObjectMeta: metav1.ObjectMeta{Name: "cloud"},
		Spec: PeeringSpec{
			ClusterID: "5e0b0f4e-8e39-4a53-9ac5-4f7d54a6d7b1",
			API: &APIEndpoint{
				Server:          "https://203.0.113.7:6443",
				CABundle:        []byte("-----BEGIN CERTIFICATE-----"),
				SecretName:      "peer-cloud",
				TenantNamespace: "spillway-tenant-home",
				PeeringName:     "home",
			},
			Borrow: &Borrow{NodeName: "cloud", Labels: map[string]string{"price": "high"}},
			Share: &Share{
				Percent:      50,
				Resources:    corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")},
				NodeSelector: map[string]string{"pool": "lent"},
				PodSecurity:  PodSecurityRestricted,
			},
			Tunnel: &Tunnel{
				Aliases:   []Alias{{Range: "10.244.0.0/16", As: "100.64.0.0/16"}},
				Endpoints: []string{"gateway.example.org:51820"},
				Remote: &ClusterNetwork{
					Gateways: []GatewaySlot{{
						PublicKey: "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=",
						Endpoints: []string{"203.0.113.7:51820"}, TLSEndpoints: []string{"203.0.113.7:51820"},
					}},
					Ranges:     []NetworkRange{{CIDR: "10.244.0.0/16", Kind: RangePods}},
					Aliases:    []Alias{{Range: "10.244.0.0/16", As: "100.65.0.0/16"}},
					SeenRanges: []string{"10.244.0.0/16"},
				},
			},
		},
	}
}
