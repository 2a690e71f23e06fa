package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Peering describes the relation of this cluster with one other cluster: who it is, how to reach it, what this
// cluster borrows from it and what this cluster shares with it. Each of the two clusters holds its own Peering.
//
// A cluster that borrows is the consumer: it shows the peer as a virtual node and runs pods there. A cluster that
// shares is the provider. Both parts may be set; then pods go both ways.
//
// +genclient:nonNamespaced
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=spillway
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.nodes[*].name`
// +kubebuilder:printcolumn:name="Offered-CPU",type=string,JSONPath=`.status.offer.cpu`,priority=1
// +kubebuilder:printcolumn:name="Offered-Memory",type=string,JSONPath=`.status.offer.memory`,priority=1
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.clusterID`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 40",message="the name of a Peering becomes part of node and namespace names: use at most 40 characters"
// +kubebuilder:validation:XValidation:rule="!self.metadata.name.contains('.')",message="the name of a Peering becomes part of namespace names, which have no dots: use a-z, 0-9 and -"
type Peering struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what is wanted.
	// +required
	Spec PeeringSpec `json:"spec"`

	// status says what was last seen. Written by the controller only.
	// +optional
	Status PeeringStatus `json:"status,omitzero"`
}

// PeeringSpec says what is wanted of the relation with one other cluster.
//
// +kubebuilder:validation:XValidation:rule="has(self.borrow) || has(self.share)",message="set borrow (run pods in the peer), share (let the peer run pods here), or both"
// +kubebuilder:validation:XValidation:rule="!has(self.borrow) || has(self.api)",message="borrow needs api: the address of the peer's API server and the Secret with the credential it gave out"
// +kubebuilder:validation:XValidation:rule="!has(self.api) || !has(self.api.via) || self.api.via != 'Tunnel' || (has(self.tunnel) && (!has(self.tunnel.mode) || self.tunnel.mode == 'Tunnel'))",message="api.via Tunnel needs tunnel with mode Tunnel: otherwise there is no tunnel to go through"
type PeeringSpec struct {
	// clusterID identifies the peer: the UID of its kube-system namespace, or its ClusterProperty
	// cluster.clusterset.k8s.io (KEP-2149) where that is set. Immutable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="clusterID cannot be changed: a Peering is with one cluster for its whole life. Delete it and peer again"
	ClusterID string `json:"clusterID"`

	// api says how this cluster reaches the API server of the peer. Needed with borrow.
	// +optional
	API *APIEndpoint `json:"api,omitempty"`

	// borrow makes this cluster a consumer of the peer: the peer appears here as a virtual node.
	// +optional
	Borrow *Borrow `json:"borrow,omitempty"`

	// share makes this cluster a provider for the peer: its pods may run here, within these limits.
	// +optional
	Share *Share `json:"share,omitempty"`

	// tunnel says how the pod networks of the two clusters are joined. Absent: mode Off.
	// +optional
	Tunnel *Tunnel `json:"tunnel,omitempty"`
}

// APIEndpoint says how to reach an API server and which credential to show there.
type APIEndpoint struct {
	// server is the address of the peer's API server as seen from the pods of this cluster, for example
	// https://203.0.113.7:6443.
	// +required
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() == 'https'",message="server must be an https URL, for example https://203.0.113.7:6443"
	Server string `json:"server"`

	// caBundle is the PEM bundle that signs the certificate of server. Empty: the roots of the machine.
	// +optional
	// +kubebuilder:validation:MaxLength=1048576
	CABundle []byte `json:"caBundle,omitempty"`

	// secretName names the Secret in the namespace spillway-system of this cluster with the long-lived credential,
	// under the key token. That credential can do one thing at the peer: request the short-lived token everything
	// else is done with.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName"`

	// tenantNamespace is the namespace at the peer that holds this cluster's identity there.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	TenantNamespace string `json:"tenantNamespace"`

	// peeringName is the name of the Peering at the peer that stands for this cluster. Its status carries the offer.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	PeeringName string `json:"peeringName"`

	// via says which way this cluster's controller takes to the API server. Direct: to server. Tunnel: through the
	// tunnel to the peer's Service default/kubernetes, so that no other port than the tunnel's must be open; needs
	// tunnel mode Tunnel. Default Direct.
	// +optional
	// +kubebuilder:default=Direct
	// +kubebuilder:validation:Enum=Direct;Tunnel
	Via APIRoute `json:"via,omitempty"`
}

// APIRoute is a way to the peer's API server.
type APIRoute string

// The ways to the peer's API server.
const (
	APIDirect    APIRoute = "Direct"
	APIViaTunnel APIRoute = "Tunnel"
)

// Borrow says how the peer appears in this cluster.
//
// +kubebuilder:validation:XValidation:rule=`(has(self.nodeName) ? self.nodeName : "") == (has(oldSelf.nodeName) ? oldSelf.nodeName : "")`,fieldPath=".nodeName",message="nodeName cannot be changed while pods may be bound to the node. Delete the Peering and peer again"
type Borrow struct {
	// nodeName is the name of the virtual node. Default: spillway- and the name of the Peering. Immutable.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="nodeName must be a name that a Node can have: a-z, 0-9, - and ., starting and ending with a letter or digit"
	NodeName string `json:"nodeName,omitempty"`

	// labels are put on the virtual node beside those that Spillway sets.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Labels map[string]string `json:"labels,omitempty"`
}

// Share says how much of this cluster the peer may use and where.
type Share struct {
	// percent of what the selected nodes have free for this tenant: allocatable minus the requests of all pods that
	// are not the tenant's. 1 to 100, default 100.
	// +optional
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Percent int32 `json:"percent,omitempty"`

	// resources is the most the tenant may use in all, whatever is free. A resource that is not named has no such
	// bound.
	// +optional
	Resources corev1.ResourceList `json:"resources,omitempty"`

	// nodeSelector picks the nodes that are offered. Empty: every schedulable node.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// podSecurity is the Pod Security Standard that is enforced in the namespaces of the tenant. Default baseline.
	// +optional
	// +kubebuilder:default=baseline
	// +kubebuilder:validation:Enum=privileged;baseline;restricted
	PodSecurity PodSecurityLevel `json:"podSecurity,omitempty"`

	// namespaceNames says how the namespaces of the tenant are called here. Suffixed (default): as at home, with a suffix
	// that tells consumers apart. SameIfFree: as at home where no namespace of that name is here, so that
	// SERVICE.NAMESPACE.svc.cluster.local means the same in both clusters; a tenant then takes names that you may want
	// later. Names that Kubernetes or Spillway use are never given. A namespace keeps its name.
	// +optional
	// +kubebuilder:default=Suffixed
	// +kubebuilder:validation:Enum=Suffixed;SameIfFree
	NamespaceNames NamespaceNames `json:"namespaceNames,omitempty"`

	// ingressClassName is the class by which Ingresses of the tenant are served here: those of its offloaded namespaces
	// follow, with their certificates, and can have no other class. The class must serve any host that the tenant names.
	// Where NetworkPolicies are enforced, label the namespace of its controller spillway.dev/ingress-controller=CLASS, so that
	// it reaches the tenant's pods. Empty (default): none follow.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="ingressClassName must be the name of an IngressClass: a-z, 0-9, - and ., starting and ending with a letter or digit"
	IngressClassName string `json:"ingressClassName,omitempty"`
}

// NamespaceNames says how the namespaces of a tenant are called at the provider.
type NamespaceNames string

// The ways to call the namespaces of a tenant.
const (
	NamespaceNamesSuffixed   NamespaceNames = "Suffixed"
	NamespaceNamesSameIfFree NamespaceNames = "SameIfFree"
)

// PodSecurityLevel is a level of the Pod Security Standards.
type PodSecurityLevel string

// The levels of the Pod Security Standards.
const (
	PodSecurityPrivileged PodSecurityLevel = "privileged"
	PodSecurityBaseline   PodSecurityLevel = "baseline"
	PodSecurityRestricted PodSecurityLevel = "restricted"
)

// Conditions of a Peering. All have positive polarity: True is good. A condition that does not apply to the roles in
// spec is absent.
const (
	// ConditionTenantReady (with share) is True when the identity, the rights and the namespaces of the tenant are in
	// place. Reasons: TenantReady; TenantFailed (the message carries the API server's words).
	ConditionTenantReady = "TenantReady"

	// ConditionAuthenticated (with borrow) is True when the peer accepted our credential and is the cluster
	// that spec.clusterID names. False: CredentialMissing (the Secret or its key is not there), CredentialRejected
	// (the peer does not know the token), Forbidden (the peer denies a right that peering needs),
	// WrongCluster (another cluster answers at that address). Unknown: Unreachable, when the peer has not answered yet.
	ConditionAuthenticated = "Authenticated"

	// ConditionNodeReady (with borrow) is True when the virtual node is registered and takes pods. False:
	// Unreachable (the peer's API server has not answered for 10 s), NoOffer (the provider has not said what it
	// offers), NodeFailed (the home API server refused the node; the message has its words). Unknown: Starting.
	ConditionNodeReady = "NodeReady"

	// ConditionTunnelUp (with tunnel mode Tunnel) is True while probes of the largest packet size pass in both
	// directions between a gateway of each cluster. False: NoGateway (no node is labelled as gateway), NoNetwork (the
	// peer's network is not known yet), RangesRefused (the peer announces ranges that no cluster can have),
	// AliasPending (the peer has not yet said how it sees our pods' ranges), NoHandshake (no answer ever came: endpoint,
	// firewall or key), ProbesLost (it worked before; no probe has passed for 2 s), LargePacketsLost (small ones pass).
	// Unknown: Starting.
	ConditionTunnelUp = "TunnelUp"

	// ConditionReady is True when every other condition that applies is True. Its reason and message are those of
	// the first condition that is not, or PeeringReady.
	ConditionReady = "Ready"
)

// Reasons of the conditions above.
const (
	ReasonTenantReady        = "TenantReady"
	ReasonTenantFailed       = "TenantFailed"
	ReasonAuthenticated      = "Authenticated"
	ReasonCredentialMissing  = "CredentialMissing"
	ReasonCredentialRejected = "CredentialRejected"
	ReasonForbidden          = "Forbidden"
	ReasonWrongCluster       = "WrongCluster"
	ReasonUnreachable        = "Unreachable"
	ReasonNodeReady          = "NodeReady"
	ReasonNoOffer            = "NoOffer"
	ReasonNodeFailed         = "NodeFailed"
	ReasonStarting           = "Starting"
	ReasonPeeringReady       = "PeeringReady"
	ReasonTunnelUp           = "TunnelUp"
	ReasonNoGateway          = "NoGateway"
	ReasonNoNetwork          = "NoNetwork"
	ReasonRangesRefused      = "RangesRefused"
	ReasonAliasPending       = "AliasPending"
	ReasonNoHandshake        = "NoHandshake"
	ReasonProbesLost         = "ProbesLost"
	ReasonLargePacketsLost   = "LargePacketsLost"
)

// PeeringStatus says what was last seen of the relation.
type PeeringStatus struct {
	// observedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// clusterID is the id of the cluster that holds this object. A consumer compares it with what it expects.
	// +optional
	ClusterID string `json:"clusterID,omitempty"`

	// conditions are TenantReady, Authenticated, NodeReady, TunnelUp and Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// nodes are the virtual nodes that stand for the peer (with borrow).
	// +optional
	// +listType=map
	// +listMapKey=name
	Nodes []VirtualNode `json:"nodes,omitempty"`

	// offer is what this cluster lets the tenant use in all, what it already uses included (with share). Written at
	// most twice a second, and only when it changed.
	// +optional
	Offer corev1.ResourceList `json:"offer,omitempty"`

	// nodeLabels say what the offered nodes are: labels that all of them share, among kubernetes.io/arch,
	// kubernetes.io/os and topology.kubernetes.io/region and zone (with share).
	// +optional
	NodeLabels map[string]string `json:"nodeLabels,omitempty"`

	// tenant is what this cluster has made for the peer (with share).
	// +optional
	Tenant *Tenant `json:"tenant,omitempty"`

	// tunnel says what the peer must know of this cluster's network, and what was measured (with tunnel).
	// +optional
	Tunnel *TunnelStatus `json:"tunnel,omitempty"`
}

// VirtualNode is a Node of this cluster that stands for (part of) the peer.
type VirtualNode struct {
	// name of the Node.
	// +required
	Name string `json:"name"`
}

// Tenant is what a provider has made for one consumer.
type Tenant struct {
	// namespace holds the tenant's identity and its requests for namespaces.
	// +required
	Namespace string `json:"namespace"`

	// renewalSecretName names the Secret in namespace with the long-lived credential to hand to the consumer.
	// +optional
	RenewalSecretName string `json:"renewalSecretName,omitempty"`

	// ingressClassName is the class by which Ingresses of the tenant are served. Empty: none are.
	// +optional
	IngressClassName string `json:"ingressClassName,omitempty"`

	// namespaces are those the tenant asked for and may use.
	// +optional
	// +listType=map
	// +listMapKey=name
	Namespaces []TenantNamespace `json:"namespaces,omitempty"`

	// dns says where pods of the tenant are answered under the names of their home, although its namespaces may have other
	// names here. Absent: they are not, and ask this cluster's own DNS.
	// +optional
	DNS *TenantDNS `json:"dns,omitempty"`
}

// TenantDNS is where every node of a provider answers DNS for the pods of its tenants on it.
type TenantDNS struct {
	// nameservers are IP addresses, best first.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=3
	// +kubebuilder:validation:items:MaxLength=45
	Nameservers []string `json:"nameservers"`

	// clusterDomain is the domain of the provider's Services, for example cluster.local.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClusterDomain string `json:"clusterDomain"`
}

// TenantNamespace maps a namespace of the consumer to its twin in the provider.
type TenantNamespace struct {
	// name of the namespace in the consumer.
	// +required
	Name string `json:"name"`

	// remoteName of the namespace in the provider.
	// +required
	RemoteName string `json:"remoteName"`
}

// PeeringList is a list of Peerings.
//
// +kubebuilder:object:root=true
type PeeringList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Peering `json:"items"`
}
