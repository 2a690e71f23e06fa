package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Tunnel says how the pod networks of the two clusters are joined.
type Tunnel struct {
	// mode is Tunnel (Spillway joins the networks), External (the user routes between them; Spillway installs nothing
	// and uses the addresses of the peer as they are) or Off (pods are not reached across clusters). Default Tunnel.
	// +optional
	// +kubebuilder:default=Tunnel
	// +kubebuilder:validation:Enum=Tunnel;External;Off
	Mode TunnelMode `json:"mode,omitempty"`

	// remote is what the peer says of its network: status.tunnel.local of the peer's Peering. Written by `spillway
	// peer` once and kept up by the controllers afterwards; it may be written by hand.
	// +optional
	Remote *ClusterNetwork `json:"remote,omitempty"`

	// aliases say under which range this cluster sees a range of the peer. The controller writes an entry for every range
	// of the peer: with range and as the same where it is seen as it is, with an as from a pool where it overlaps a range
	// of ours or of another peer, and for the addresses of nodes and of the API server always. An entry stays as long as
	// the peer has the range and nothing of ours overlaps it. One that is set by hand is left alone. While a range has
	// no entry, nothing is sent to it.
	// +optional
	// +listType=map
	// +listMapKey=range
	// +kubebuilder:validation:MaxItems=64
	Aliases []Alias `json:"aliases,omitempty"`

	// endpoints, where the peer reaches the gateways of this cluster, instead of those that are found (the addresses
	// of the gateway nodes, or of the Services spillway-gateway-0, -1 …). Number 0 is of gateway slot 0. Form: HOST:PORT
	// with an IP address or a DNS name. One entry "none" says that this cluster cannot be reached and begins itself.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=261
	Endpoints []string `json:"endpoints,omitempty"`
}

// TunnelMode says who joins the pod networks.
type TunnelMode string

// The modes of a tunnel.
const (
	TunnelModeTunnel   TunnelMode = "Tunnel"
	TunnelModeExternal TunnelMode = "External"
	TunnelModeOff      TunnelMode = "Off"
)

// ClusterNetwork is what one cluster must know of another's network to join it. It holds no secret.
type ClusterNetwork struct {
	// gateways are the gateway slots. Slot k of one cluster speaks with slot k of the other; those that only one of the
	// two has carry nothing.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	Gateways []GatewaySlot `json:"gateways,omitempty"`

	// ranges of addresses in that cluster.
	// +optional
	// +listType=map
	// +listMapKey=cidr
	// +kubebuilder:validation:MaxItems=64
	Ranges []NetworkRange `json:"ranges,omitempty"`

	// aliases say under which range that cluster sees a range of the reader. A range among seenRanges without entry is
	// seen as it is.
	// +optional
	// +listType=map
	// +listMapKey=range
	// +kubebuilder:validation:MaxItems=64
	Aliases []Alias `json:"aliases,omitempty"`

	// seenRanges are the ranges of the reader that aliases speak of: the reader knows by it that its present ranges
	// have been judged.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=49
	SeenRanges []string `json:"seenRanges,omitempty"`

	// sampleNodes are addresses of nodes of that cluster, as they are there: some gateways and some others. Nodes of the
	// reader send probes to them, through everything that packets between nodes pass.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=45
	SampleNodes []string `json:"sampleNodes,omitempty"`

	// takenRanges stand for other clusters there: the reader is to see that cluster under none of them. Named only while it does,
	// since packets then cannot be told apart.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=49
	TakenRanges []string `json:"takenRanges,omitempty"`
}

// GatewaySlot is a place that one gateway of a cluster fills at a time. Its key stays when another gateway takes over.
type GatewaySlot struct {
	// publicKey is the WireGuard key of the slot, base64.
	// +required
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9+/]{43}=$`
	PublicKey string `json:"publicKey"`

	// endpoints, best first: HOST:PORT with an IP address or a DNS name, UDP. Empty: cannot be reached, begins itself.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=261
	Endpoints []string `json:"endpoints,omitempty"`

	// tlsEndpoints take the same packets over TLS on TCP, for where UDP is blocked. HOST:PORT, best first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=261
	TLSEndpoints []string `json:"tlsEndpoints,omitempty"`
}

// RangeKind says what the addresses of a range are.
type RangeKind string

// The kinds of ranges.
const (
	RangePods  RangeKind = "Pods"
	RangeNodes RangeKind = "Nodes"
	// RangeAPI is the one address of the Service default/kubernetes.
	RangeAPI RangeKind = "API"
)

// NetworkRange is a range of addresses in a cluster.
type NetworkRange struct {
	// cidr, for example 10.244.0.0/16.
	// +required
	// +kubebuilder:validation:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="cidr must be a range such as 10.244.0.0/16 or fd00:1::/48"
	CIDR string `json:"cidr"`

	// kind says what the addresses are.
	// +required
	// +kubebuilder:validation:Enum=Pods;Nodes;API
	Kind RangeKind `json:"kind"`
}

// Alias maps a range to another of the same size, address by address: the host bits stay.
//
// +kubebuilder:validation:XValidation:rule="isCIDR(self.range) && isCIDR(self.__as__) && cidr(self.range).prefixLength() == cidr(self.__as__).prefixLength() && cidr(self.range).ip().family() == cidr(self.__as__).ip().family()",message="range and as must be ranges of the same size and family, for example 10.244.0.0/16 and 100.64.0.0/16"
type Alias struct {
	// range as it is in the cluster that has it.
	// +required
	// +kubebuilder:validation:MaxLength=49
	Range string `json:"range"`

	// as it is seen by the other cluster.
	// +required
	// +kubebuilder:validation:MaxLength=49
	As string `json:"as"`
}

// TunnelStatus says what the peer must know of this cluster's network, and what was measured.
type TunnelStatus struct {
	// local is what the peer must know: it belongs into spec.tunnel.remote of the peer's Peering. Written by the
	// controller.
	// +optional
	Local *ClusterNetwork `json:"local,omitempty"`

	// apiAddress is the address at which pods and nodes of this cluster reach the peer's API server through the
	// tunnel, for example 100.127.3.9:443. Its certificate speaks for kubernetes.default.svc. Written by the controller.
	// +optional
	APIAddress string `json:"apiAddress,omitempty"`

	// paths are the tunnels between gateway slots, as measured by the gateway of this cluster that holds the slot.
	// Written by gateways on a change, and at most once a minute for figures alone.
	// +optional
	// +listType=map
	// +listMapKey=slot
	Paths []TunnelPath `json:"paths,omitempty"`
}

// TunnelPath is the tunnel between gateway slots of the same number.
type TunnelPath struct {
	// slot number, from 0.
	// +required
	Slot int32 `json:"slot"`

	// node of this cluster that holds the slot.
	// +required
	Node string `json:"node"`

	// up says that packets of the size mtu pass in both directions.
	// +required
	Up bool `json:"up"`

	// reason why it is not up: NoHandshake, ProbesLost or LargePacketsLost, as in the condition TunnelUp. Empty while up.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// transport is UDP, or TLS where UDP did not pass.
	// +optional
	Transport string `json:"transport,omitempty"`

	// endpoint of the peer in use, HOST:PORT.
	// +optional
	Endpoint string `json:"endpoint,omitempty"`

	// rtt is the median round trip of the last probes.
	// +optional
	RTT *metav1.Duration `json:"rtt,omitempty"`

	// lossPercent of the last 100 probes.
	// +optional
	LossPercent int32 `json:"lossPercent,omitempty"`

	// mtu is the largest packet that passes inside the tunnel, bytes.
	// +optional
	MTU int32 `json:"mtu,omitempty"`

	// receivedBytes and sentBytes since the gateway took the slot.
	// +optional
	ReceivedBytes int64 `json:"receivedBytes,omitempty"`
	// +optional
	SentBytes int64 `json:"sentBytes,omitempty"`

	// lastChangeTime is when up last changed.
	// +optional
	LastChangeTime metav1.Time `json:"lastChangeTime,omitzero"`
}
