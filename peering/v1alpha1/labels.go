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

	// LabelIsolated is on every twin that a NetworkPolicy of its cluster selects for Ingress. The provider lets nobody reach such
	// a twin by itself: the reflected policies say who may.
	LabelIsolated = "spillway.dev/isolated"

	// IsolatedIngress is the value of LabelIsolated.
	IsolatedIngress = "ingress"

	// LabelTenant is on everything a provider makes for one of its tenants. Its value is the consumer's cluster id.
	LabelTenant = "spillway.dev/tenant"

	// LabelIngressClass is on a tenant's namespaces where Ingresses are served (share.ingressClassName): the only class that the
	// tenant's may have.
	LabelIngressClass = "spillway.dev/ingress-class"

	// LabelIngressController is what a provider puts on the namespace of an ingress controller, with the name of its class as
	// value: tenants with that class (share.ingressClassName) then let its pods reach theirs.
	LabelIngressController = "spillway.dev/ingress-controller"

	// LabelOffload on a namespace of the consumer says whether its pods may run in a peer. OffloadEnabled
	// allows it, and so does an OffloadPolicy unless the value is OffloadDisabled.
	LabelOffload = "spillway.dev/offload"

	// OffloadEnabled is the value of LabelOffload that lets the pods of a namespace leave the cluster.
	OffloadEnabled = "enabled"

	// OffloadDisabled is the value of LabelOffload that closes a namespace, whatever its OffloadPolicies say.
	OffloadDisabled = "disabled"

	// AnnotationPolicy is on pods that an OffloadPolicy has steered: its name.
	AnnotationPolicy = "spillway.dev/offload-policy"

	// WebhookName is the name of the MutatingWebhookConfiguration that steers pods of namespaces with OffloadPolicies, and, in
	// SystemNamespace, of the Secret with its certificate and of the Service that leads to it.
	WebhookName = "spillway-webhook"

	// AnnotationOriginUID is on every twin: the UID of the local object. A local object with the same name and
	// another UID is another object.
	AnnotationOriginUID = "spillway.dev/origin-uid"

	// AnnotationOriginNamespace is on every twin: the namespace of the local object.
	AnnotationOriginNamespace = "spillway.dev/origin-namespace"

	// AnnotationImages is on every twin: a hash of each container's image at home, so that a provider that rewrites
	// images to a mirror of its own is left alone until the image at home changes.
	AnnotationImages = "spillway.dev/origin-images"

	// AnnotationEndpointsSaid is on reflected EndpointSlices while the provider does not reach their endpoints: the conditions
	// that the consumer gave them, a JSON list in their order.
	AnnotationEndpointsSaid = "spillway.dev/endpoints-said"

	// ManagedBySpillway is the value of endpointslice.kubernetes.io/managed-by on reflected EndpointSlices.
	ManagedBySpillway = "spillway.dev"

	// TokenSecretPrefix and the UID of a local pod are the name of the Secret, in the tenant namespace, with the pod's tokens.
	TokenSecretPrefix = "spillway-token-"

	// TaintVirtualNode keeps off a virtual node every pod that does not tolerate it. Effect NoSchedule; its value is the name of the
	// Peering, so that a toleration can mean one peer alone.
	TaintVirtualNode = "spillway.dev/virtual-node"

	// HeldSeconds is how long, in seconds, pods on virtual nodes tolerate that their node does not answer.
	HeldSeconds = 100 * 365 * 24 * 3600

	// LabelGateway on a Node makes it a gateway of the tunnel. Its value does not matter.
	LabelGateway = "spillway.dev/gateway"

	// FieldManager is the manager under which Spillway's controllers write.
	FieldManager = "spillway"

	// SystemNamespace is where Spillway keeps its own Secrets and Leases.
	SystemNamespace = "spillway-system"

	// FieldManagerBurst is the manager of the conditions Bursting and ComingHome of OffloadPolicies, applied server-side beside Fits.
	FieldManagerBurst = "spillway-burst"

	// FieldManagerAddress is the manager of the aliases that the controller allocates in spec.tunnel.aliases.
	FieldManagerAddress = "spillway-address"

	// FieldManagerNetwork is the manager of spec.tunnel.remote, for the command line and the controllers alike. Both
	// replace it whole by merge patch: server-side apply would merge its lists, and old entries would stay.
	FieldManagerNetwork = "spillway-network"

	// TunnelSecret is the Secret in SystemNamespace with the private keys of the gateway slots (slot-0 to slot-7, base64
	// as WireGuard writes them) and the key of the gateways' membership (gossip, 32 bytes).
	TunnelSecret = "spillway-tunnel"

	// GatewayPrefix and the number of a slot name the slot's Lease, and the Service that makes it reachable, in
	// SystemNamespace.
	GatewayPrefix = "spillway-gateway-"

	// MaxSlots is the largest number of gateway slots.
	MaxSlots = 8

	// TunnelPort is the UDP port of slot 0, and the TCP port of its TLS. Slot k has TunnelPort+k.
	TunnelPort = 51820

	// ControllerLease is the Lease in SystemNamespace that a running controller renews.
	ControllerLease = "spillwayd"

	// LabelPrice on a virtual node, by spec.borrow.labels of its Peering, is what an hour of it costs, a decimal number of any currency:
	// pods overflow to the cheapest, and come home from the dearest, where a policy says so (burst.choose: Cheapest).
	LabelPrice = "spillway.dev/price"

	// GatePlacement is the scheduling gate (KEP-3521) of pods that Spillway places before the scheduler sees them: those of workloads
	// that a Migration divides, and of policies with a burst threshold.
	GatePlacement = "spillway.dev/placement"

	// AnnotationPlacement is on pods that Spillway has placed: why they are where they are, a sentence.
	AnnotationPlacement = "spillway.dev/placement"

	// AnnotationBurst is on pods that overflow: the peers that they were sent to and when, "west=2026-01-02T15:04:05Z", the last one
	// last, separated by commas.
	AnnotationBurst = "spillway.dev/burst"

	// AnnotationRepatriate on an OffloadPolicy is the time (RFC 3339) of a wish that pods which overflowed before it come home at once.
	AnnotationRepatriate = "spillway.dev/repatriate"

	// LabelMoving is on pods that their controller was made to let go of, so that it makes others elsewhere first. Its value is the UID
	// of that controller; they go when it has its pods again. AnnotationMoving says what the pod had: a JSON object, see placement.Moving.
	LabelMoving      = "spillway.dev/moving"
	AnnotationMoving = "spillway.dev/moving"

	// UsageService is the Service in SystemNamespace at which a provider tells its tenants what their pods use, and UsagePort its port.
	UsageService = "spillway-usage"
	UsagePort    = "usage"
)
