package v1alpha1

// Labels, annotations and taints that Spillway writes on, or reads from, objects of other groups.
const (
	// LabelOrigin is on everything Spillway makes in another cluster. Its value is the consumer's cluster id.
	// Objects without it are never changed or deleted.
	LabelOrigin = "spillway.dev/origin"

	// LabelNode is on every twin: the name of the virtual node the local pod is bound to.
	LabelNode = "spillway.dev/virtual-node"

	// LabelPeer is on every virtual node: the name of the Peering it stands for.
	LabelPeer = "spillway.dev/peer"

	// LabelTenant is on everything a provider makes for one of its tenants. Its value is the consumer's cluster id.
	LabelTenant = "spillway.dev/tenant"

	// LabelOffload on a namespace of the consumer says whether its pods may run in a peer. Only the value
	// OffloadEnabled allows it.
	LabelOffload = "spillway.dev/offload"

	// OffloadEnabled is the value of LabelOffload that lets the pods of a namespace leave the cluster.
	OffloadEnabled = "enabled"

	// AnnotationOriginUID is on every twin: the UID of the local object. A local object with the same name and
	// another UID is another object.
	AnnotationOriginUID = "spillway.dev/origin-uid"

	// AnnotationOriginNamespace is on every twin: the namespace of the local object.
	AnnotationOriginNamespace = "spillway.dev/origin-namespace"

	// AnnotationImages is on every twin: a hash of each container's image at home, so that a provider that rewrites
	// images to a mirror of its own is left alone until the image at home changes.
	AnnotationImages = "spillway.dev/origin-images"

	// TaintVirtualNode keeps off a virtual node every pod that does not tolerate it. Effect NoSchedule, value empty.
	TaintVirtualNode = "spillway.dev/virtual-node"

	// FieldManager is the manager under which Spillway's controllers write.
	FieldManager = "spillway"

	// SystemNamespace is where Spillway keeps its own Secrets and Leases.
	SystemNamespace = "spillway-system"

	// ControllerLease is the Lease in SystemNamespace that a running controller renews.
	ControllerLease = "spillwayd"
)
