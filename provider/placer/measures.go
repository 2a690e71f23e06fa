package placer

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/internal/metrics"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

var (
	placed = metrics.NewCounter(metrics.Spec{
		Name: "spillway_placement_decisions_total",
		Help: "Decisions about pending pods that were carried out: overflow lets a pod go to a peer, admit lets it start at home, wait tells it " +
			"why it waits. The peer is empty unless it goes to one.",
		In: metrics.Controller, Labels: []string{"action", "peer"},
	})
	moves = metrics.NewCounter(metrics.Spec{
		Name: "spillway_placement_moves_total",
		Help: "Moves of running pods: release, evict or restore, because of a home-coming, a migration, or what an earlier process left. Result " +
			"done, refused by a PodDisruptionBudget (tried again), or failed.",
		In: metrics.Controller, Labels: []string{"kind", "because", "result"},
	})
	passDuration = metrics.NewHistogram(metrics.Spec{
		Name: "spillway_placement_pass_duration_seconds", Help: "How long one look at all pods or Migrations took, the writes included.",
		In: metrics.Controller, Labels: []string{"loop"}, Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15},
	})
	migrationSteps = metrics.NewCounter(metrics.Spec{
		Name: "spillway_migration_transitions_total", Help: "Times that a Migration went into a phase, or into the next step of one.",
		In: metrics.Controller, Labels: []string{"phase"},
	})
	migrationGates = metrics.NewCounter(metrics.Spec{
		Name: "spillway_migration_gates_total", Help: "Verdicts of gates of Migrations: holds or fails.",
		In: metrics.Controller, Labels: []string{"verdict"},
	})

	scrape = metrics.NewScraped()

	migrationCount = scrape.Gauge(metrics.Spec{
		Name: "spillway_migrations", Help: "Migrations in the cluster, by phase.", In: metrics.Controller, Labels: []string{"phase"},
	})

	scraped = scrape.Registered() // after all of the above are declared
)

// Why pods are moved.
const (
	becauseHome      = "home_coming"
	becauseMigration = "migration"
	becauseLeft      = "left_behind"
)

// moved counts a move.
func moved(kind placement.MoveKind, because string, refused bool, err error) {
	result := "done"
	switch {
	case err != nil:
		result = "failed"
	case refused:
		result = "refused"
	}
	moves.WithLabelValues(labelOf(kind), because, result).Inc()
}

func labelOf(kind placement.MoveKind) string {
	switch kind {
	case placement.Release:
		return "release"
	case placement.Restore:
		return "restore"
	}
	return "evict"
}

func verdictOf(gate metav1.ConditionStatus) string {
	if gate == metav1.ConditionFalse {
		return "fails"
	}
	return "holds"
}

// passed observes how long a pass took.
func passed(loop string, took time.Duration) {
	passDuration.WithLabelValues(loop).Observe(took.Seconds())
}

// tellMetrics says which Migrations there are.
func (m *migrations) tellMetrics(s *metrics.Sink) {
	phases := map[v1alpha1.MigrationPhase]int{}
	for _, mg := range m.cache.List() {
		phases[mg.Status.Phase]++
	}
	for phase, n := range phases {
		s.Set(migrationCount, float64(n), string(phase))
	}
}
