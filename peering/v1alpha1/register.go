package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of every Spillway kind.
const GroupName = "spillway.dev"

// GroupVersion is the group and version of the kinds in this package.
var GroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

// PeeringResource is the resource under which the API server serves Peering.
var PeeringResource = GroupVersion.WithResource("peerings")

// OffloadPolicyResource is the resource under which the API server serves OffloadPolicy.
var OffloadPolicyResource = GroupVersion.WithResource("offloadpolicies")

// MigrationResource is the resource under which the API server serves Migration.
var MigrationResource = GroupVersion.WithResource("migrations")

// PeeringKind is the kind of Peering objects.
const PeeringKind = "Peering"

// AddToScheme registers the kinds of this package.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &Peering{}, &PeeringList{}, &OffloadPolicy{}, &OffloadPolicyList{}, &Migration{}, &MigrationList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
