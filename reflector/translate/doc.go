// Package translate says what a local object looks like in the peer, and what the peer's answer looks like at home.
//
// It knows the fields of pods, ConfigMaps, Secrets, Services, EndpointSlices, NetworkPolicies, Ingresses and Events. It knows no client, clock,
// logger or global: every function is pure, safe for concurrent use, and gives the same bytes for the same input. fields.md beside this file says, field by
// field, what is copied, dropped, changed or kept following, and why; a test fails on a field that is not in it.
//
//	twin := translate.Twin(local, env)                          // create it
//	patch, sub, err := translate.Drift(local, twin, env)        // patch it, while patch is not nil
//	want := translate.PodStatus(local, twin, env)               // what home should show
//	patch, err := translate.StatusPatch(local, want)            // patch pods/status, if not nil
package translate

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Names that this package writes on, or reads from, objects. Those that are API have the same value in peering/v1alpha1,
// which this package may not import; a test compares them.
const (
	// LabelOrigin is on every twin: the consumer's cluster id.
	LabelOrigin = "spillway.dev/origin"

	// LabelNode is on every twin of a pod: the virtual node the local pod is bound to.
	LabelNode = "spillway.dev/virtual-node"

	// LabelPeer is on every virtual node.
	LabelPeer = "spillway.dev/peer"

	// LabelIsolated is on every twin of a pod that a NetworkPolicy of home selects for Ingress; its value is IsolatedIngress.
	// What the provider lets in by itself is then not let in: the reflected policies say what is.
	LabelIsolated = "spillway.dev/isolated"

	// IsolatedIngress is the value of LabelIsolated.
	IsolatedIngress = "ingress"

	// AnnotationOriginUID is on every twin: the UID of the local object.
	AnnotationOriginUID = "spillway.dev/origin-uid"

	// AnnotationOriginNamespace is on every twin: the namespace of the local object.
	AnnotationOriginNamespace = "spillway.dev/origin-namespace"

	// AnnotationImages is on every twin of a pod: a hash of each image that the local pod asked for when it was last
	// written. As long as it is the local pod's, that image is not compared: a provider whose admission rewrites images (a
	// registry mirror) would otherwise be written to for ever.
	AnnotationImages = "spillway.dev/origin-images"

	// AnnotationEndpointsSaid is on a reflected EndpointSlice while its provider does not reach the endpoints: it has turned
	// them not ready, and will turn them back.
	AnnotationEndpointsSaid = "spillway.dev/endpoints-said"

	// VolumeProvisioner is the provisioner of StorageClasses whose volumes are made where the first pod lands.
	VolumeProvisioner = "spillway.dev/volumes"

	// KeyRemoteClass is a parameter of such a StorageClass and an annotation on a claim: the class of the volume at the
	// peer. Default: that of the peer.
	KeyRemoteClass = "spillway.dev/remote-class"

	// KeyLocalClass is a parameter of such a StorageClass: the class of volumes whose first pod stays at home. Default: the
	// default class of home.
	KeyLocalClass = "spillway.dev/local-class"

	// TaintVirtualNode is the taint of virtual nodes.
	TaintVirtualNode = "spillway.dev/virtual-node"

	// HeldSeconds is how long pods on virtual nodes tolerate that their node is away, once Spillway has said so: a hundred years,
	// in seconds, which tells it from what a user says.
	HeldSeconds = 100 * 365 * 24 * 3600

	// FieldManager is the manager under which twins are written. The API server's record of what it wrote
	// (managedFields) is what Drift goes by when a label or annotation disappears at home.
	FieldManager = "spillway"
)

// ConditionOffloaded is the type of the condition that a local pod has while the peer does not run it, with the provider's
// words as its message. It is only ever False and is removed when the twin has a node.
// Reasons: those given to Refused, and ReasonUnschedulable.
const ConditionOffloaded = "spillway.dev/Offloaded"

// Reasons of conditions and statuses that this package makes up.
const (
	// ReasonUnschedulable (of ConditionOffloaded): the provider's scheduler finds no node for the twin.
	ReasonUnschedulable = "Unschedulable"

	// ReasonDeletionByProvider (of DisruptionTarget): the twin was deleted in the provider, not from home.
	ReasonDeletionByProvider = "DeletionByProvider"
)

// TwinPatch is what the twin of a pod has beside, and before, what its pod has. Shared: it is not changed.
type TwinPatch struct {
	NodeSelector     map[string]string   // of the peer's nodes
	Tolerations      []corev1.Toleration // of taints of the peer's nodes
	RuntimeClassName *string             // nil: the pod's own
}

// Env is what the translation of one virtual node's objects depends on. Copy it freely.
type Env struct {
	// Origin is the consumer's cluster id.
	Origin string

	// NodeName is the virtual node. Twins of ConfigMaps and Secrets do not depend on it.
	NodeName string

	// RemoteNamespace is the twin of the local object's namespace.
	RemoteNamespace string

	// NodeIPs are the addresses that local pods show as hostIP and hostIPs, best first; those of the virtual node. The
	// twin's own are the peer's and mean nothing at home. Empty: local pods show none.
	NodeIPs []netip.Addr

	// MapIP gives the address under which home reaches a pod of the peer. Nil: unchanged. An invalid result hides the
	// address. It must be pure.
	MapIP func(netip.Addr) netip.Addr

	// MapOwn gives the address under which the peer reaches an address of home. Nil: unchanged. An invalid result: not at
	// all. It must be pure.
	MapOwn func(netip.Addr) netip.Addr

	// HomeAPI is where twins reach home's API server; not valid when they do not. Pods then get no tokens.
	HomeAPI netip.AddrPort

	// Patch is how the twin of a pod differs in this peer. It is taken when the twin is made.
	Patch TwinPatch

	// IngressClass is the class by which the peer serves Ingresses of home; empty: it serves none.
	IngressClass string

	// EphemeralClass gives the class (empty: the default one) that the peer has for the claim of an ephemeral volume, which
	// home knows by this name in the pod's namespace. Known is false for classes that travel as they are. Nil: all do. It
	// must be pure.
	EphemeralClass func(claim string) (class string, known bool)

	// DNS answers twins under the names of home where namespaces have others at the peer.
	DNS DNS

	// Skip are subresources that Drift passes over, since the peer has just refused what it would send there: one refusal does
	// not hold up the rest.
	Skip []string

	// Virtual says whether a node of home is a virtual one. Nil: none but NodeName is.
	Virtual func(node string) bool

	// Isolated says whether a NetworkPolicy for Ingress at home selects a pod with these labels, in the namespace of the local
	// object. Nil: none does.
	Isolated func(podLabels map[string]string) bool

	// Views are the ranges that look different from both sides. They do not overlap each other, neither as home sees them nor
	// as the peer does. Nil: every address is the same for both.
	Views func() []View

	// HomePods are the addresses, as home sees them, of the pods on real nodes of home in a namespace that match: with a
	// network of their own, and not ended. Nil: none.
	HomePods func(namespace string, pods labels.Selector) []netip.Addr

	// HomeRanges are ranges, as home sees them, in which every address is one that HomePods may name. Where all pods of home are
	// named they stand for those in them, so that a policy does not change with every pod. Nil: not known.
	HomeRanges func() []netip.Prefix

	// Namespaces are the names of the namespaces of home that match. Nil: none.
	Namespaces func(labels.Selector) []string

	// TenantNamespace is how a namespace of home is called at the peer; false when it has none there. Nil: none has.
	TenantNamespace func(local string) (remote string, ok bool)
}

// View is a range of pods, of home or of the peer, as both see it: of one size and family, host bits are the same.
type View struct{ Home, Peer netip.Prefix }
