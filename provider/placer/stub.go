package placer

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

// stub: all of this file; caches.go, mover.go, migrations.go and policy.Set have the real ones.

// Caches is a stub.
type Caches struct{}

// NewCaches is a stub.
func NewCaches(kubernetes.Interface, func()) *Caches { return &Caches{} }

// Run is a stub.
func (*Caches) Run(ctx context.Context) { <-ctx.Done() }

// Synced is a stub.
func (*Caches) Synced() bool { return false }

// Pods is a stub.
func (*Caches) Pods() []*corev1.Pod { return nil }

// Nodes is a stub.
func (*Caches) Nodes() []*corev1.Node { return nil }

// Of is a stub.
func (*Caches) Of(*corev1.Pod) (placement.Workload, bool) { return placement.Workload{}, false }

// NewMover is a stub.
func NewMover(kubernetes.Interface, record.EventRecorder) Mover { return nil }

// Sweep is a stub.
func Sweep(context.Context, *Caches, Mover, func(placement.Workload) bool) (bool, error) {
	return false, nil
}

type migrations struct{}

func newMigrations(Config, *Caches, Mover) migrations { return migrations{} }

func (migrations) run(ctx context.Context) { <-ctx.Done() }

// hasMigrations says whether a namespace has Migrations that place pods.
func hasMigrations(policy.Set) bool { return false }

// migrationOf returns the Migration that governs a pod; nil when none does.
func migrationOf(policy.Set, *corev1.Pod) *v1alpha1.Migration { return nil }
