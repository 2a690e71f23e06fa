package v1alpha1

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// wholeMigration moves one Deployment to a peer.
func wholeMigration(change func(*MigrationSpec)) *Migration {
	m := &Migration{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"}, Spec: MigrationSpec{
		Workloads: WorkloadChoice{Names: []WorkloadName{{Kind: WorkloadDeployment, Name: "web"}}}, To: Destination{Peer: "cloud"},
	}}
	change(&m.Spec)
	return m
}

// TestMigration has one row per rule. want are the refusals of the API server; none: accepted. Rows with before are updates.
func TestMigration(t *testing.T) {
	schema := newSchema(t, migrationCRD)
	steps := func(s ...int32) func(*MigrationSpec) { return func(m *MigrationSpec) { m.Steps = s } }
	rise := []string{"spec.steps: steps rise to 100, for example [10, 50, 100]"}
	for name, row := range map[string]struct {
		before, now func(*MigrationSpec)
		want        []string
	}{
		"one Deployment is accepted":           {nil, steps(), nil},
		"rising steps are accepted":            {nil, steps(10, 50, 100), nil},
		"steps that end early are refused":     {nil, steps(10, 50), rise},
		"steps that fall are refused":          {nil, steps(50, 10, 100), rise},
		"a step twice is refused":              {nil, steps(10, 10, 100), rise},
		"no destination is refused":            {nil, func(m *MigrationSpec) { m.To = Destination{} }, []string{"spec.to: give peer, or home: true"}},
		"two destinations are refused":         {nil, func(m *MigrationSpec) { m.To.Home = true }, []string{"spec.to: give peer, or home: true"}},
		"all and names are refused":            {nil, func(m *MigrationSpec) { m.Workloads.All = true }, []string{"spec.workloads: give names, or selector, or all: true"}},
		"no workloads are refused":             {nil, func(m *MigrationSpec) { m.Workloads = WorkloadChoice{} }, []string{"spec.workloads: give names, or selector, or all: true"}},
		"a pause is accepted":                  {steps(), func(m *MigrationSpec) { m.Paused = true }, nil},
		"a rollback is accepted":               {steps(), func(m *MigrationSpec) { m.Rollback = true }, nil},
		"a rollback taken back is refused":     {func(m *MigrationSpec) { m.Rollback = true }, steps(), []string{"spec: a rollback cannot be taken back: make another Migration"}},
		"another destination later is refused": {steps(), func(m *MigrationSpec) { m.To.Peer = "other" }, []string{"spec: what is moved and where to cannot be changed: make another Migration"}},
	} {
		t.Run(name, func(t *testing.T) {
			var before map[string]any
			if row.before != nil {
				before = schema.defaulted(t, wholeMigration(row.before))
			}
			if diff := cmp.Diff(row.want, schema.validate(t, schema.defaulted(t, wholeMigration(row.now)), before)); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}
