package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Burst says when pods overflow and when they come home.
type Burst struct {
	// after is how long a pod has to be unschedulable at home before it overflows; and how long it waits for a peer that does not take
	// it before the next one is tried. Default 10s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="after is not negative"
	After *metav1.Duration `json:"after,omitempty"`

	// threshold is what the pods of this policy may have at home. Those beyond it overflow at once, also while home has room. New pods
	// then wait for Spillway (a scheduling gate): while it is away they are not scheduled.
	// +optional
	Threshold *BurstThreshold `json:"threshold,omitempty"`

	// choose says which peer a pod overflows to, among those with room for it. InOrder: the first of spec.peers. Weighted: in
	// proportion to their weights. Cheapest: the one with the lowest label spillway.dev/price; one without comes last.
	// +optional
	// +kubebuilder:default=InOrder
	// +kubebuilder:validation:Enum=InOrder;Weighted;Cheapest
	Choose BurstChoice `json:"choose,omitempty"`

	// clusterAutoscaler says who goes first where a cluster autoscaler adds nodes at home. None: there is none, or it does not matter.
	// First: a pod overflows only once the autoscaler has said that it adds no node for it (Event NotTriggerScaleUp), or after
	// autoscalerWait. Last: the autoscaler is told to wait for each new pod (annotation
	// cluster-autoscaler.kubernetes.io/pod-scale-up-delay), so that it sees only what found no room in peers.
	// +optional
	// +kubebuilder:default=None
	// +kubebuilder:validation:Enum=None;First;Last
	ClusterAutoscaler AutoscalerOrder `json:"clusterAutoscaler,omitempty"`

	// autoscalerWait is how long the one who goes second waits. Default 2m.
	// +optional
	AutoscalerWait *metav1.Duration `json:"autoscalerWait,omitempty"`

	// comeHome says when pods that overflowed come home.
	// +optional
	ComeHome ComeHome `json:"comeHome,omitempty"`
}

// BurstThreshold is what pods may have at home; what is not named has no limit.
//
// +kubebuilder:validation:XValidation:rule="has(self.pods) || has(self.requests)",message="say how many pods, or what they may request"
type BurstThreshold struct {
	// pods at home.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Pods *int32 `json:"pods,omitempty"`

	// requests of the pods at home together.
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// ComeHome says when pods that overflowed come home. Only pods of controllers that make them anew do: those of Jobs end where they
// are, and so do pods without a controller.
type ComeHome struct {
	// when is Automatic (as soon as there is room) or OnRequest (spillway repatriate).
	// +optional
	// +kubebuilder:default=Automatic
	// +kubebuilder:validation:Enum=Automatic;OnRequest
	When ComeHomeWhen `json:"when,omitempty"`

	// stabilization is how long there has to be room at home without a break. Default 5m.
	// +optional
	Stabilization *metav1.Duration `json:"stabilization,omitempty"`

	// maxConcurrent is how many pods may be on their way at once. Default 5.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxConcurrent *int32 `json:"maxConcurrent,omitempty"`

	// headroomPercent is the part of home's capacity that must stay free when pods have come home, so that they need not leave again
	// when the load rises a little. Default 10.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=90
	HeadroomPercent *int32 `json:"headroomPercent,omitempty"`
}

// BurstChoice says which peer a pod overflows to.
type BurstChoice string

// Which peer a pod overflows to.
const (
	BurstInOrder  BurstChoice = "InOrder"
	BurstWeighted BurstChoice = "Weighted"
	BurstCheapest BurstChoice = "Cheapest"
)

// AutoscalerOrder says who goes first.
type AutoscalerOrder string

// Who goes first.
const (
	AutoscalerNone  AutoscalerOrder = "None"
	AutoscalerFirst AutoscalerOrder = "First"
	AutoscalerLast  AutoscalerOrder = "Last"
)

// ComeHomeWhen says whether pods come home by themselves.
type ComeHomeWhen string

// Whether pods come home by themselves.
const (
	ComeHomeAutomatic ComeHomeWhen = "Automatic"
	ComeHomeOnRequest ComeHomeWhen = "OnRequest"
)

// ConditionBursting of an OffloadPolicy with when: Burst is True while pods of it are in peers because they found no room at home
// (Overflowed; the message says where), else False (AtHome). The message also says why some of them wait.
//
// ConditionComingHome is True while pods come home (Returning), else False: NothingToReturn, or Held (the message says by what).
const (
	ConditionBursting   = "Bursting"
	ConditionComingHome = "ComingHome"
)

// Reasons of ConditionBursting and ConditionComingHome.
const (
	ReasonOverflowed      = "Overflowed"
	ReasonAtHome          = "AtHome"
	ReasonReturning       = "Returning"
	ReasonHeld            = "Held"
	ReasonNothingToReturn = "NothingToReturn"
)
