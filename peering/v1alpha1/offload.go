package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// OffloadPolicy says which pods of its namespace run in peers, in which, and how. It opens the namespace for offloading, as
// the label spillway.dev/offload=enabled does; the value disabled of that label closes the namespace whatever policies say.
//
// The policies of a namespace are read in the order of their names: the first whose podSelector selects a pod governs it.
// A pod that none selects is governed by the namespace's label alone.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,categories=spillway
// +kubebuilder:printcolumn:name="When",type=string,JSONPath=`.spec.when`
// +kubebuilder:printcolumn:name="Fits",type=string,JSONPath=`.status.conditions[?(@.type=="Fits")].status`
// +kubebuilder:printcolumn:name="Remote",type=integer,JSONPath=`.status.remotePods`
// +kubebuilder:printcolumn:name="Misfits",type=integer,JSONPath=`.status.misfitCount`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type OffloadPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what is wanted.
	// +required
	Spec OffloadPolicySpec `json:"spec"`

	// status says what was last seen. Written by the controller only.
	// +optional
	Status OffloadPolicyStatus `json:"status,omitempty"`
}

// OffloadPolicySpec says what is wanted.
//
// +kubebuilder:validation:XValidation:rule="!has(self.burst) || self.when == 'Burst'",message="burst belongs to when: Burst"
// +kubebuilder:validation:XValidation:rule="self.when == 'Burst' || !has(self.peers) || self.peers.all(p, !has(p.weight) && !has(p.maxPods) && !has(p.maxRequests))",message="weight, maxPods and maxRequests belong to when: Burst, since nobody else counts them"
type OffloadPolicySpec struct {
	// podSelector selects pods of the namespace by their labels. Empty: all.
	// +optional
	PodSelector metav1.LabelSelector `json:"podSelector,omitempty"`

	// when says whether the pods leave. Always: they run on virtual nodes only, and wait while those are full. Allowed: the
	// scheduler chooses among real and virtual nodes. Burst: they run at home, those that find no room overflow to the peers, and
	// come home when there is room again; burst says how. Never: they stay at home. A pod that already has a node stays where it is,
	// see misfits.
	// +optional
	// +kubebuilder:default=Always
	// +kubebuilder:validation:Enum=Always;Allowed;Burst;Never
	When OffloadWhen `json:"when,omitempty"`

	// peers are those that the pods may run in, best first. Empty: any.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	Peers []PeerChoice `json:"peers,omitempty"`

	// burst says when pods overflow and when they come home, with when: Burst. Empty: by the defaults of its fields.
	// +optional
	Burst *Burst `json:"burst,omitempty"`

	// namespace says how this namespace is called at a provider. It holds where the provider admits it (Peering,
	// spec.share.namespaceNames); a namespace that is there keeps its name. The first policy that says it counts.
	// +optional
	Namespace *RemoteNamespace `json:"namespace,omitempty"`

	// reflect says what follows beside the pods. The widest of all policies of the namespace counts.
	// +optional
	Reflect Reflect `json:"reflect,omitempty"`

	// misfits says what happens to pods that run in a peer where they may not, since the policy was changed. Keep: they stay,
	// and are named in the status. Evict: they are moved through the Eviction API, some at a time, so that
	// PodDisruptionBudgets hold and their controllers make others.
	// +optional
	// +kubebuilder:default=Keep
	// +kubebuilder:validation:Enum=Keep;Evict
	Misfits MisfitAction `json:"misfits,omitempty"`

	// failurePolicy says what becomes of new pods while Spillway is away and cannot steer them. Ignore: they are made as if there
	// were no policy, and stay at home unless they tolerate virtual nodes themselves. Fail: they are not made, and their controllers try
	// again. If the policies of a namespace differ, Fail counts. Other namespaces are not concerned.
	// +optional
	// +kubebuilder:default=Ignore
	// +kubebuilder:validation:Enum=Ignore;Fail
	FailurePolicy FailurePolicy `json:"failurePolicy,omitempty"`

	// onPeerLost says what happens to pods whose peer does not answer.
	// +optional
	OnPeerLost PeerLost `json:"onPeerLost,omitempty"`
}

// OffloadWhen says whether pods leave the cluster.
type OffloadWhen string

// When pods leave the cluster.
const (
	OffloadAlways  OffloadWhen = "Always"
	OffloadAllowed OffloadWhen = "Allowed"
	OffloadBurst   OffloadWhen = "Burst"
	OffloadNever   OffloadWhen = "Never"
)

// PeerChoice names peers, by name or by the labels of their virtual nodes, and how twins differ there.
//
// +kubebuilder:validation:XValidation:rule="has(self.name) || has(self.selector)",message="name a peer, or select peers by the labels of their virtual nodes"
type PeerChoice struct {
	// name of a Peering.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name,omitempty"`

	// selector selects virtual nodes by their labels, for example topology.kubernetes.io/region, or what
	// spec.borrow.labels of the Peering says. With name, both must hold.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// patch changes the twins in these peers.
	// +optional
	Patch *TwinPatch `json:"patch,omitempty"`

	// weight is the part of the overflow that goes to each of these peers, with burst.choose: Weighted. Default 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	Weight *int32 `json:"weight,omitempty"`

	// maxPods is how many pods of this policy may overflow to each of these peers.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxPods *int32 `json:"maxPods,omitempty"`

	// maxRequests is what the pods of this policy that overflow to each of these peers may request together, for example cpu: 40.
	// +optional
	MaxRequests corev1.ResourceList `json:"maxRequests,omitempty"`
}

// TwinPatch is how a twin differs from its pod in one peer. It is taken when the twin is made.
type TwinPatch struct {
	// nodeSelector selects nodes of the provider, beside what the pod itself needs of its hardware.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations are added for taints of the provider's nodes.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// runtimeClassName replaces the pod's, also where the pod has none.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	RuntimeClassName *string `json:"runtimeClassName,omitempty"`

	// storageClassName is the provider's class for volumes that are made there for claims of the namespace, unless a claim
	// names one itself (annotation spillway.dev/remote-class). The first policy that says one counts.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	StorageClassName *string `json:"storageClassName,omitempty"`
}

// RemoteNamespace says how a namespace is called at a provider.
//
// +kubebuilder:validation:XValidation:rule="(self.naming == 'Chosen') == has(self.name)",message="give a name with naming Chosen, and only then"
type RemoteNamespace struct {
	// naming is Suffixed (the name at home and a suffix that tells consumers apart), SameIfFree (the name at home if it is
	// free there, else with the suffix), or Chosen (name if it is free there, else as Suffixed).
	// +required
	// +kubebuilder:validation:Enum=Suffixed;SameIfFree;Chosen
	Naming RemoteNaming `json:"naming"`

	// name at the provider, with naming Chosen.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`
}

// RemoteNaming is a way to call a namespace at a provider.
type RemoteNaming string

// The ways to call a namespace at a provider.
const (
	RemoteNamingSuffixed   RemoteNaming = "Suffixed"
	RemoteNamingSameIfFree RemoteNaming = "SameIfFree"
	RemoteNamingChosen     RemoteNaming = "Chosen"
)

// Reflect says which objects of the namespace follow to every peer that its pods may run in.
type Reflect struct {
	// configMaps that follow. Used: those that pods in the peer refer to. All: every one.
	// +optional
	// +kubebuilder:default=Used
	// +kubebuilder:validation:Enum=Used;All
	ConfigMaps ReflectWhat `json:"configMaps,omitempty"`

	// secrets that follow. Tokens of ServiceAccounts and Helm's releases never do.
	// +optional
	// +kubebuilder:default=Used
	// +kubebuilder:validation:Enum=Used;All
	Secrets ReflectWhat `json:"secrets,omitempty"`

	// services that follow, with their EndpointSlices: All or None.
	// +optional
	// +kubebuilder:default=All
	// +kubebuilder:validation:Enum=All;None
	Services ReflectWhat `json:"services,omitempty"`

	// ingresses that follow, to providers that serve them: All or None.
	// +optional
	// +kubebuilder:default=All
	// +kubebuilder:validation:Enum=All;None
	Ingresses ReflectWhat `json:"ingresses,omitempty"`

	// networkPolicies that follow: All or None.
	// +optional
	// +kubebuilder:default=All
	// +kubebuilder:validation:Enum=All;None
	NetworkPolicies ReflectWhat `json:"networkPolicies,omitempty"`
}

// ReflectWhat says which objects of a kind follow.
type ReflectWhat string

// Which objects of a kind follow.
const (
	ReflectUsed ReflectWhat = "Used"
	ReflectAll  ReflectWhat = "All"
	ReflectNone ReflectWhat = "None"
)

// FailurePolicy says what becomes of pods that cannot be steered.
type FailurePolicy string

// What becomes of pods that cannot be steered.
const (
	FailurePolicyIgnore FailurePolicy = "Ignore"
	FailurePolicyFail   FailurePolicy = "Fail"
)

// MisfitAction says what happens to pods that run where they may not.
type MisfitAction string

// What happens to pods that run where they may not.
const (
	MisfitsKeep  MisfitAction = "Keep"
	MisfitsEvict MisfitAction = "Evict"
)

// PeerLost says what happens to pods whose peer does not answer.
//
// +kubebuilder:validation:XValidation:rule="!has(self.after) || self.action == 'RecreateAfter'",message="after belongs to action RecreateAfter"
type PeerLost struct {
	// action is Keep (everything stays as it is, for as long as it takes) or RecreateAfter: pods that a controller stands
	// behind are removed at home after the time given, so that their controller makes others elsewhere. While the peer does
	// not answer nobody can know whether the old ones still run there; they end when it answers again.
	// +optional
	// +kubebuilder:default=Keep
	// +kubebuilder:validation:Enum=Keep;RecreateAfter
	Action PeerLostAction `json:"action,omitempty"`

	// after is how long the peer has to be silent, with RecreateAfter. Default 5m, at least 10s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s')",message="after is at least 10s, which is what it takes to call a peer lost"
	After *metav1.Duration `json:"after,omitempty"`
}

// PeerLostAction is what happens to pods whose peer does not answer.
type PeerLostAction string

// What happens to pods whose peer does not answer.
const (
	PeerLostKeep          PeerLostAction = "Keep"
	PeerLostRecreateAfter PeerLostAction = "RecreateAfter"
)

// ConditionFits of an OffloadPolicy is True when every pod it governs that runs in a peer may run there. False: Misfits (the
// message says how many and what to do), SelectorInvalid.
const ConditionFits = "Fits"

// Reasons of ConditionFits.
const (
	ReasonAllFit  = "AllFit"
	ReasonMisfits = "Misfits"
	// ReasonSelectorInvalid: a selector of the policy cannot be read, and selects nothing; the message says which and why.
	ReasonSelectorInvalid = "SelectorInvalid"
)

// MaxMisfits is how many pods a status names.
const MaxMisfits = 50

// OffloadPolicyStatus says what was last seen.
type OffloadPolicyStatus struct {
	// observedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions has Fits and, with when: Burst, Bursting and ComingHome.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// remotePods is how many pods that the policy governs are bound to virtual nodes.
	// +optional
	RemotePods int32 `json:"remotePods"`

	// misfitCount is how many of them may not be where they are.
	// +optional
	MisfitCount int32 `json:"misfitCount"`

	// misfits names them, 50 at most, by name.
	// +optional
	// +kubebuilder:validation:MaxItems=50
	// +listType=map
	// +listMapKey=pod
	Misfits []Misfit `json:"misfits,omitempty"`
}

// Misfit is a pod that runs where it may not.
type Misfit struct {
	// pod is its name.
	// +required
	Pod string `json:"pod"`

	// node it runs on.
	// +required
	Node string `json:"node"`

	// message says why it may not be there.
	// +required
	Message string `json:"message"`
}

// OffloadPolicyList is a list of OffloadPolicies.
//
// +kubebuilder:object:root=true
type OffloadPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []OffloadPolicy `json:"items"`
}
