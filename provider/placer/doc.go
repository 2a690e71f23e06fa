// Package placer moves pods: it gathers what package placement decides on, applies what it decides, and tells why, in Events and on the
// pods. Bursts (overflowing and coming home) and Migrations are its loops; a Mover takes single pods from one place to another.
package placer

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/provider/placement"
)

// Policies answers which policies a namespace has.
type Policies interface {
	// Synced says whether all are known. Nothing is decided before.
	Synced() bool
	Set(namespace string) policy.Set
	// Governed returns the policies of all namespaces that have some.
	Governed() map[string]policy.Set
	// Notify calls changed when policies have changed, until stop is called. It must not block.
	Notify(changed func(namespace string)) (stop func())
}

// Mover carries out moves, and nothing else: each of them once, with the pod's UID as a precondition.
type Mover interface {
	// Move carries out one move. refused says that a PodDisruptionBudget does not allow it now: it is to be asked for again.
	Move(ctx context.Context, m placement.Move) (refused bool, err error)
}

// Workloads finds the controllers of pods.
type Workloads interface {
	// Of returns the workload that made a pod, with all its members (released ones too), from caches; false when it is none that makes
	// others, or is not known yet.
	Of(pod *corev1.Pod) (placement.Workload, bool)
}
