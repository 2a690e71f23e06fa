package translate

import (
	"net/netip"

	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

// ManagedBySpillway is the value of discoveryv1.LabelManagedBy on EndpointSlices that are twins: the peer's own controller then leaves
// them alone.
const ManagedBySpillway = "spillway.dev"

// EndpointSlice returns the twin of local: what of its endpoints the peer cannot find by itself, under the addresses that the
// peer reaches them at. Nil when that is none.
//
// Not in it are endpoints on the virtual node of this peer (the peer's own controller finds the twins), those on other virtual
// nodes (two peers of one cluster need not reach each other), and private addresses that are no pod's of home. Nodes and zones are
// home's and dropped.
func EndpointSlice(local *discoveryv1.EndpointSlice, env Env) *discoveryv1.EndpointSlice {
	service := local.Labels[discoveryv1.LabelServiceName]
	if service == "" || local.Namespace == "default" && service == "kubernetes" {
		return nil
	}
	twin := &discoveryv1.EndpointSlice{ObjectMeta: twinMeta(&local.ObjectMeta, env), AddressType: local.AddressType}
	twin.Labels[discoveryv1.LabelManagedBy] = ManagedBySpillway
	for i := range local.Endpoints {
		if e := twinEndpoint(&local.Endpoints[i], local.AddressType, env); e != nil {
			twin.Endpoints = append(twin.Endpoints, *e)
		}
	}
	if len(twin.Endpoints) == 0 {
		return nil
	}
	for i := range local.Ports {
		twin.Ports = append(twin.Ports, *local.Ports[i].DeepCopy())
	}
	return twin
}

func twinEndpoint(local *discoveryv1.Endpoint, kind discoveryv1.AddressType, env Env) *discoveryv1.Endpoint {
	if n := local.NodeName; n != nil && (*n == env.NodeName || env.Virtual != nil && env.Virtual(*n)) {
		return nil
	}
	var addresses []string
	for _, a := range local.Addresses {
		if kind != discoveryv1.AddressTypeFQDN {
			a = addressAtPeer(a, env)
		}
		if a != "" {
			addresses = append(addresses, a)
		}
	}
	if len(addresses) == 0 {
		return nil
	}
	e := &discoveryv1.Endpoint{Addresses: addresses, Conditions: *local.Conditions.DeepCopy()}
	if local.Hostname != nil {
		name := *local.Hostname
		e.Hostname = &name
	}
	return e
}

// addressAtPeer is where the peer reaches an address of an endpoint; empty when it does not.
func addressAtPeer(text string, env Env) string {
	a, err := netip.ParseAddr(text)
	if err != nil || env.MapOwn == nil {
		return text
	}
	if there := env.MapOwn(a); there.IsValid() {
		return there.String()
	}
	if a.IsPrivate() || !a.IsGlobalUnicast() {
		return ""
	}
	return text // on the internet, the same from everywhere
}

// EndpointSliceEqual says whether have needs no write to be want (a result of EndpointSlice). While the provider says that it does
// not reach the endpoints, their conditions are its own.
func EndpointSliceEqual(want, have *discoveryv1.EndpointSlice) bool {
	if _, ok := have.Annotations[AnnotationEndpointsSaid]; ok && len(want.Endpoints) == len(have.Endpoints) {
		want = want.DeepCopy()
		for i := range want.Endpoints {
			want.Endpoints[i].Conditions = have.Endpoints[i].Conditions
		}
	}
	return sameMeta(&want.ObjectMeta, &have.ObjectMeta) && want.AddressType == have.AddressType &&
		apiequality.Semantic.DeepEqual(want.Ports, have.Ports) && apiequality.Semantic.DeepEqual(want.Endpoints, have.Endpoints)
}

// EndpointSliceReplace says whether the API refuses to update have to want.
func EndpointSliceReplace(want, have *discoveryv1.EndpointSlice) bool {
	return want.AddressType != have.AddressType
}
