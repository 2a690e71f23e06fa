package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Migration moves workloads of its namespace to a peer, or home, in steps. Each step moves its share of every workload, waits for the
// gate, and then goes on, stops or rolls back. While a Migration exists it says where new pods of its workloads go, also when it is
// completed: deleting it leaves pods where they are, and new ones to OffloadPolicies. Of two Migrations that name one workload the
// newer one counts.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,categories=spillway
// +kubebuilder:printcolumn:name="To",type=string,JSONPath=`.status.to`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Share",type=integer,JSONPath=`.status.share`
// +kubebuilder:printcolumn:name="Moved",type=string,JSONPath=`.status.moved`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Migration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what is wanted.
	// +required
	Spec MigrationSpec `json:"spec"`

	// status says what was last seen. Written by the controller only.
	// +optional
	Status MigrationStatus `json:"status,omitempty"`
}

// MigrationSpec says what is wanted. What is moved and where to cannot be changed: make another Migration.
//
// +kubebuilder:validation:XValidation:rule="self.workloads == oldSelf.workloads && self.to == oldSelf.to",message="what is moved and where to cannot be changed: make another Migration"
// +kubebuilder:validation:XValidation:rule="!(has(oldSelf.rollback) && oldSelf.rollback) || (has(self.rollback) && self.rollback)",message="a rollback cannot be taken back: make another Migration"
type MigrationSpec struct {
	// workloads that are moved.
	// +required
	Workloads WorkloadChoice `json:"workloads"`

	// to is where they go.
	// +required
	To Destination `json:"to"`

	// steps are the shares of each workload's pods, in percent, that have moved after each step: rising, the last 100. Default: 100.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=100
	// +kubebuilder:validation:XValidation:rule="self[self.size()-1] == 100 && self.isSorted() && self.all(i, self.exists_one(j, j == i))",message="steps rise to 100, for example [10, 50, 100]"
	// +listType=atomic
	Steps []int32 `json:"steps,omitempty"`

	// gate has to hold after each step before the next one begins, and after the last before the Migration is completed.
	// +optional
	Gate MigrationGate `json:"gate,omitempty"`

	// onFailure says what happens when a step or its gate fails. Rollback: what has moved goes back. Pause: everything stays, until
	// paused or rollback is set.
	// +optional
	// +kubebuilder:default=Rollback
	// +kubebuilder:validation:Enum=Rollback;Pause
	OnFailure FailureAction `json:"onFailure,omitempty"`

	// maxConcurrent is how many pods of one workload may be on their way at once. Default: a quarter of them.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxConcurrent *int32 `json:"maxConcurrent,omitempty"`

	// stepTimeout is how long a step may take until its pods are Ready, before it has failed. Default 10m.
	// +optional
	StepTimeout *metav1.Duration `json:"stepTimeout,omitempty"`

	// paused stops it where it is: pods on their way arrive, no more leave. Set to false again, a Migration that has paused itself tries
	// its step once more.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// rollback takes what has moved back to where it was. It cannot be taken back: make another Migration.
	// +optional
	Rollback bool `json:"rollback,omitempty"`
}

// WorkloadChoice names workloads: one, those with labels, or all of the namespace.
//
// +kubebuilder:validation:XValidation:rule="(has(self.names) ? 1 : 0) + (has(self.selector) ? 1 : 0) + (has(self.all) && self.all ? 1 : 0) == 1",message="give names, or selector, or all: true"
type WorkloadChoice struct {
	// names of workloads.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	Names []WorkloadName `json:"names,omitempty"`

	// selector selects workloads by their labels.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// all workloads of the namespace.
	// +optional
	All bool `json:"all,omitempty"`
}

// WorkloadName names a workload.
type WorkloadName struct {
	// kind of it.
	// +required
	// +kubebuilder:validation:Enum=Deployment;StatefulSet;CronJob
	Kind WorkloadKind `json:"kind"`

	// name of it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// WorkloadKind is a kind of workloads that can be moved.
type WorkloadKind string

// The kinds of workloads that can be moved.
const (
	WorkloadDeployment  WorkloadKind = "Deployment"
	WorkloadStatefulSet WorkloadKind = "StatefulSet"
	WorkloadCronJob     WorkloadKind = "CronJob"
)

// Destination is a peer, or home.
//
// +kubebuilder:validation:XValidation:rule="has(self.peer) != (has(self.home) && self.home)",message="give peer, or home: true"
type Destination struct {
	// peer is the name of a Peering.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	Peer string `json:"peer,omitempty"`

	// home is this cluster.
	// +optional
	Home bool `json:"home,omitempty"`
}

// MigrationGate has to hold, all of it.
type MigrationGate struct {
	// soak is how long all pods of the step have to be Ready without a break. Default 10s.
	// +optional
	Soak *metav1.Duration `json:"soak,omitempty"`

	// http asks a URL while the pods soak.
	// +optional
	HTTP *HTTPGate `json:"http,omitempty"`

	// prometheus asks a Prometheus API when the pods have soaked.
	// +optional
	Prometheus *PrometheusGate `json:"prometheus,omitempty"`

	// job is run when the pods have soaked; it has to succeed.
	// +optional
	Job *JobGate `json:"job,omitempty"`
}

// HTTPGate asks a URL with GET, ten times a second, while the pods soak. Answers of 5xx and none within a second are errors. Spillway
// asks from where it runs: in a cluster, Services have names (http://web.shop.svc).
type HTTPGate struct {
	// url to ask.
	// +required
	// +kubebuilder:validation:Pattern=`^https?://.+`
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url"`

	// maxErrorPercent is the part of the requests that may fail. Default 1.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxErrorPercent *int32 `json:"maxErrorPercent,omitempty"`

	// maxP99 is how long the slowest but one percent may take. Default: any time.
	// +optional
	MaxP99 *metav1.Duration `json:"maxP99,omitempty"`
}

// PrometheusGate asks a Prometheus API (GET URL/api/v1/query). The query has to give one number.
//
// +kubebuilder:validation:XValidation:rule="has(self.min) || has(self.max)",message="say min or max"
type PrometheusGate struct {
	// url of the server, without /api/v1.
	// +required
	// +kubebuilder:validation:Pattern=`^https?://.+`
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url"`

	// query in PromQL.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Query string `json:"query"`

	// min is the least that the query may give, a decimal number.
	// +optional
	// +kubebuilder:validation:Pattern=`^-?[0-9]+(\.[0-9]+)?$`
	Min string `json:"min,omitempty"`

	// max is the most that the query may give, a decimal number.
	// +optional
	// +kubebuilder:validation:Pattern=`^-?[0-9]+(\.[0-9]+)?$`
	Max string `json:"max,omitempty"`
}

// JobGate runs the Job of a CronJob of the namespace once, as kubectl create job --from does. The CronJob may be suspended.
type JobGate struct {
	// fromCronJob is its name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=52
	FromCronJob string `json:"fromCronJob"`
}

// FailureAction says what happens when a step fails.
type FailureAction string

// What happens when a step fails.
const (
	FailureRollback FailureAction = "Rollback"
	FailurePause    FailureAction = "Pause"
)

// MigrationPhase is where a Migration stands.
type MigrationPhase string

// Where a Migration stands. Refused, RolledBack and Completed are final. A refused one has moved nothing.
const (
	MigrationPending     MigrationPhase = "Pending"
	MigrationMoving      MigrationPhase = "Moving"
	MigrationGating      MigrationPhase = "Gating"
	MigrationPaused      MigrationPhase = "Paused"
	MigrationRollingBack MigrationPhase = "RollingBack"
	MigrationRefused     MigrationPhase = "Refused"
	MigrationRolledBack  MigrationPhase = "RolledBack"
	MigrationCompleted   MigrationPhase = "Completed"
)

// ConditionCompleted of a Migration is True when everything has moved and the last gate held, False with the reason when it was
// refused or rolled back. ConditionProgressing says what it does now, or what it waits for. ConditionGateHolds is the last word of the gate.
const (
	ConditionCompleted   = "Completed"
	ConditionProgressing = "Progressing"
	ConditionGateHolds   = "GateHolds"
)

// MigrationStatus says what was last seen.
type MigrationStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is where it stands.
	// +optional
	Phase MigrationPhase `json:"phase,omitempty"`

	// to is the peer, or home.
	// +optional
	To string `json:"to,omitempty"`

	// step is the number of the step that is being done, from 1.
	// +optional
	Step int32 `json:"step,omitempty"`

	// share is the part of each workload's pods, in percent, that belongs at the destination now. New pods are divided by it.
	// +optional
	Share int32 `json:"share,omitempty"`

	// moved is how many pods run at the destination, of how many, for people: "5/10".
	// +optional
	Moved string `json:"moved,omitempty"`

	// message says what it does or waits for, or why it ended, for people.
	// +optional
	Message string `json:"message,omitempty"`

	// workloads that are moved, found when it began.
	// +optional
	// +listType=atomic
	Workloads []MigratedWorkload `json:"workloads,omitempty"`

	// startTime is when it began.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// stepTime is when this step began.
	// +optional
	StepTime *metav1.Time `json:"stepTime,omitempty"`

	// readyTime is since when all pods of this step have been Ready; empty while they are not.
	// +optional
	ReadyTime *metav1.Time `json:"readyTime,omitempty"`

	// completionTime is when it ended.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// conditions are Completed, Progressing and GateHolds.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MigratedWorkload is a workload that a Migration moves.
type MigratedWorkload struct {
	WorkloadName `json:",inline"`

	// from is where its pods were when it began: a peer, or empty for home. A rollback takes them there.
	// +optional
	From string `json:"from,omitempty"`

	// replicas it has.
	// +optional
	Replicas int32 `json:"replicas"`

	// moved is how many of its pods run at the destination, Ready.
	// +optional
	Moved int32 `json:"moved"`
}

// MigrationList is a list of Migrations.
//
// +kubebuilder:object:root=true
type MigrationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Migration `json:"items"`
}
