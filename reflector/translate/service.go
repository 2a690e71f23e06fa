package translate

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Service returns the twin of local: a new object that shares nothing with it; nil for Services that every cluster has.
// The name, the ports and the selector are those of home. The cluster IP is the peer's own. A Service that home shows to the
// outside (NodePort, LoadBalancer, external addresses) is a ClusterIP at the peer: home is where it is shown.
//
// Twins have the labels of their pods, so the peer itself finds those that run there, also while home is away; EndpointSlice
// adds the others.
func Service(local *corev1.Service, env Env) *corev1.Service {
	if local.Namespace == metav1.NamespaceDefault && local.Name == "kubernetes" {
		return nil
	}
	return &corev1.Service{ObjectMeta: twinMeta(&local.ObjectMeta, env), Spec: twinService(&local.Spec)}
}

// twinService is what of a Service's spec is home's to say. That of a twin gives itself.
func twinService(local *corev1.ServiceSpec) corev1.ServiceSpec {
	copied := local.DeepCopy()
	spec := corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, Ports: copied.Ports, Selector: copied.Selector,
		SessionAffinity: copied.SessionAffinity, SessionAffinityConfig: copied.SessionAffinityConfig,
		PublishNotReadyAddresses: copied.PublishNotReadyAddresses, TrafficDistribution: copied.TrafficDistribution,
	}
	for i := range spec.Ports {
		spec.Ports[i].NodePort = 0
	}
	switch {
	case local.Type == corev1.ServiceTypeExternalName:
		spec.Type, spec.ExternalName = local.Type, local.ExternalName
	case headless(local):
		spec.ClusterIP = corev1.ClusterIPNone
	}
	if len(local.IPFamilies) > 1 && local.Type != corev1.ServiceTypeExternalName {
		both := corev1.IPFamilyPolicyPreferDualStack // the peer may have one family only
		spec.IPFamilyPolicy = &both
	}
	return spec
}

func headless(s *corev1.ServiceSpec) bool { return s.ClusterIP == corev1.ClusterIPNone }

// ServiceEqual says whether have needs no write to be want (a result of Service). What the peer's API server adds is no
// difference.
func ServiceEqual(want, have *corev1.Service) bool {
	decided := twinService(&have.Spec)
	decided.IPFamilyPolicy = want.Spec.IPFamilyPolicy
	return sameMeta(&want.ObjectMeta, &have.ObjectMeta) && apiequality.Semantic.DeepEqual(want.Spec, decided)
}

// ServiceReplace says whether the API refuses to update have to want: a cluster IP neither comes nor goes.
func ServiceReplace(want, have *corev1.Service) bool {
	return want.Spec.Type == have.Spec.Type && headless(&want.Spec) != headless(&have.Spec)
}

// KeepService takes into want the addresses and defaults that the peer's API server has given have.
func KeepService(want, have *corev1.Service) {
	if want.Spec.Type != have.Spec.Type || want.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	want.Spec.ClusterIP, want.Spec.ClusterIPs = have.Spec.ClusterIP, have.Spec.ClusterIPs
	want.Spec.IPFamilies, want.Spec.InternalTrafficPolicy = have.Spec.IPFamilies, have.Spec.InternalTrafficPolicy
	if want.Spec.IPFamilyPolicy == nil {
		want.Spec.IPFamilyPolicy = have.Spec.IPFamilyPolicy
	}
}
