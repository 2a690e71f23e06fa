package placement

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// migWorld is a Deployment of some pods, whose wishes come true at once but for AtOnce per second, and a gate.
type migWorld struct {
	m     *v1alpha1.Migration
	w     Workload
	now   time.Time
	gate  GateView
	stuck bool // nothing becomes Ready at the destination
	trace []string
	moves int
	seen  MigrationView // what differs
}

func newMigWorld(replicas int, steps ...int32) *migWorld {
	name := v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadDeployment, Name: "web"}
	x := &migWorld{
		now: time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC), gate: GateView{State: GateHolds},
		m: &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "go", Generation: 1}, Spec: v1alpha1.MigrationSpec{
			Workloads: v1alpha1.WorkloadChoice{Names: []v1alpha1.WorkloadName{name}}, To: v1alpha1.Destination{Peer: "west"}, Steps: steps}},
		w:    Workload{Namespace: "shop", Kind: "Deployment", Name: "web", Replicas: int32(replicas)},
		seen: MigrationView{Verdict: &Verdict{To: "west", Workloads: []MigrationPlan{{WorkloadName: name, Replicas: int32(replicas)}}}},
	}
	for range replicas {
		x.w.Members = append(x.w.Members, Member{Pod: migPod("web", "")})
	}
	return x
}

// pass is one second of the world.
func (x *migWorld) pass() {
	seen := x.seen
	seen.Workloads, seen.Gate = []Workload{x.w}, x.gate
	before := x.m.Status
	status, wishes := Advance(x.m, seen, x.now)
	x.m.Status, x.seen.Restarted = status, false
	if s := fmt.Sprintf("%s %d%% %s", status.Phase, status.Share, status.Moved); status.Phase != before.Phase || status.Share != before.Share {
		x.trace = append(x.trace, s)
		wishes = nil // the status is written first
	}
	for _, wish := range wishes {
		x.grant(wish.Wish)
	}
	x.now = x.now.Add(time.Second)
}

func (x *migWorld) grant(wish Wish) {
	there := 0
	for _, m := range x.w.Members {
		if m.Place == wish.To {
			there++
		}
	}
	for i := range x.w.Members {
		if m := &x.w.Members[i]; m.Place != wish.To && there < wish.Count && wish.AtOnce > 0 {
			m.Pod, m.Place = migPod("web", wish.To), wish.To
			if x.stuck && wish.To != Home {
				m.Status.Conditions = nil
			}
			there, wish.AtOnce, x.moves = there+1, wish.AtOnce-1, x.moves+1
		}
	}
}

// until passes until a phase, and says how long it took.
func (x *migWorld) until(t *testing.T, phase v1alpha1.MigrationPhase) time.Duration {
	t.Helper()
	start := x.now
	for range 3600 {
		if x.pass(); x.m.Status.Phase == phase {
			return x.now.Sub(start)
		}
	}
	t.Fatalf("never %s: %s, %s", phase, x.m.Status.Phase, x.m.Status.Message)
	return 0
}

func (x *migWorld) expect(t *testing.T, moves int, trace ...string) {
	t.Helper()
	if diff := cmp.Diff(trace, x.trace); diff != "" {
		t.Errorf("phases (-want +have):\n%s", diff)
	}
	if x.moves != moves {
		t.Errorf("%d pods moved, want %d", x.moves, moves)
	}
}

func (x *migWorld) condition(kind string) string {
	for _, c := range x.m.Status.Conditions {
		if c.Type == kind {
			return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	return "none"
}

func TestAdvance_WholeMigration(t *testing.T) {
	x := newMigWorld(10, 10, 50, 100)
	took := x.until(t, v1alpha1.MigrationCompleted)
	x.expect(t, 10, "Moving 10% 0/10", "Gating 10% 1/10", "Moving 50% 1/10", "Gating 50% 5/10", "Moving 100% 5/10", "Gating 100% 10/10", "Completed 100% 10/10")
	if took > time.Minute {
		t.Errorf("took %s", took)
	}
	if have := x.condition(v1alpha1.ConditionCompleted); have != "True Completed: all has moved to west" {
		t.Error(have)
	}
	before := x.m.Status
	x.pass()
	if diff := cmp.Diff(before, x.m.Status); diff != "" {
		t.Errorf("a completed Migration changes:\n%s", diff)
	}
}

func TestAdvance_FailingGateRollsBack(t *testing.T) {
	x := newMigWorld(10, 50, 100)
	x.until(t, v1alpha1.MigrationGating)
	x.gate = GateView{State: GateFails, Why: "3.1% of 100 requests failed, 1% may"}
	x.until(t, v1alpha1.MigrationRollingBack)
	if took := x.until(t, v1alpha1.MigrationRolledBack); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	x.expect(t, 10, "Moving 50% 0/10", "Gating 50% 5/10", "RollingBack 0% 5/10", "RolledBack 0% 0/10")
	for kind, want := range map[string]string{
		v1alpha1.ConditionCompleted:   "False GateFailed: step 1 of 2 (50%): 3.1% of 100 requests failed, 1% may",
		v1alpha1.ConditionGateHolds:   "False GateFailed: step 1 of 2 (50%): 3.1% of 100 requests failed, 1% may",
		v1alpha1.ConditionProgressing: "False RolledBack: rolled back: step 1 of 2 (50%): 3.1% of 100 requests failed, 1% may",
	} {
		if have := x.condition(kind); have != want {
			t.Errorf("%s is %q, want %q", kind, have, want)
		}
	}
}

func TestAdvance_PauseAndResume(t *testing.T) {
	x := newMigWorld(10, 50, 100)
	x.until(t, v1alpha1.MigrationGating)
	x.m.Spec.Paused, x.m.Generation = true, 2
	x.until(t, v1alpha1.MigrationPaused)
	for range 1000 {
		x.pass()
	}
	x.m.Spec.Paused, x.m.Generation = false, 3
	x.until(t, v1alpha1.MigrationCompleted)
	x.expect(t, 10, "Moving 50% 0/10", "Gating 50% 5/10", "Paused 50% 5/10", "Moving 50% 5/10", "Gating 50% 5/10", "Moving 100% 5/10",
		"Gating 100% 10/10", "Completed 100% 10/10")
}

func TestAdvance_StepTimeout(t *testing.T) {
	for name, row := range map[string]struct {
		action v1alpha1.FailureAction
		want   v1alpha1.MigrationPhase
		reason string
	}{
		"rolls back":    {v1alpha1.FailureRollback, v1alpha1.MigrationRolledBack, v1alpha1.ConditionCompleted},
		"pauses itself": {v1alpha1.FailurePause, v1alpha1.MigrationPaused, v1alpha1.ConditionProgressing},
	} {
		t.Run(name, func(t *testing.T) {
			x := newMigWorld(4, 50, 100)
			x.m.Spec.OnFailure, x.m.Spec.StepTimeout, x.stuck = row.action, &metav1.Duration{Duration: time.Minute}, true
			took := x.until(t, row.want)
			if took < time.Minute || took > 80*time.Second {
				t.Errorf("took %s", took)
			}
			if have := x.condition(row.reason); !strings.HasPrefix(have, "False StepFailed: step 1 of 2 (50%) has taken longer than 1m0s: 0 of 2 pods are Ready in west") {
				t.Error(have)
			}
		})
	}
}

// TestAdvance_PausedItself: it stays until the spec changes, and then tries once more, or goes back.
func TestAdvance_PausedItself(t *testing.T) {
	x := newMigWorld(4, 50, 100)
	x.m.Spec.OnFailure, x.gate = v1alpha1.FailurePause, GateView{State: GateFails, Why: "no"}
	x.until(t, v1alpha1.MigrationPaused)
	for range 100 {
		x.pass()
	}
	if x.m.Status.Phase != v1alpha1.MigrationPaused {
		t.Fatalf("is %s", x.m.Status.Phase)
	}
	x.gate, x.m.Generation = GateView{State: GateHolds}, x.m.Generation+2 // paused, and not any more, between two passes
	x.until(t, v1alpha1.MigrationCompleted)
	x.m.Spec.Rollback, x.m.Generation = true, x.m.Generation+1
	x.until(t, v1alpha1.MigrationRolledBack)
	x.expect(t, 8, "Moving 50% 0/4", "Gating 50% 2/4", "Paused 50% 2/4", "Moving 50% 2/4", "Gating 50% 2/4", "Moving 100% 2/4", "Gating 100% 4/4",
		"Completed 100% 4/4", "RollingBack 0% 4/4", "RolledBack 0% 0/4")
}

func TestAdvance_BeforeItBegins(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*migWorld)
		want   string
	}{
		"not looked at":    {func(x *migWorld) { x.seen.Verdict = nil }, "Pending: what it names is being looked at"},
		"refused":          {func(x *migWorld) { x.seen.Verdict.Refusals = []string{"no room", "no peer"} }, "Refused: no room; no peer"},
		"paused":           {func(x *migWorld) { x.m.Spec.Paused = true }, "Paused: paused before anything has moved"},
		"rolled back":      {func(x *migWorld) { x.m.Spec.Rollback = true }, "RolledBack: rolled back before anything had moved"},
		"paused, and back": {func(x *migWorld) { x.m.Spec.Paused = true; x.pass(); x.m.Spec.Rollback = true }, "RolledBack: rolled back before anything had moved"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newMigWorld(4, 100)
			row.change(x)
			x.pass()
			if have := fmt.Sprintf("%s: %s", x.m.Status.Phase, x.m.Status.Message); have != row.want || x.m.Status.Share != 0 || x.m.Status.Workloads != nil {
				t.Errorf("%s, share %d", have, x.m.Status.Share)
			}
		})
	}
}

// TestAdvance_BreakInTheSoak: pods that are not Ready for a moment, and a process that starts anew, soak from the beginning.
func TestAdvance_BreakInTheSoak(t *testing.T) {
	x := newMigWorld(2, 100)
	x.until(t, v1alpha1.MigrationGating)
	for range 5 {
		x.pass()
	}
	conditions := x.w.Members[0].Status.Conditions
	x.w.Members[0].Status.Conditions = nil
	x.pass()
	x.w.Members[0].Status.Conditions = conditions
	x.pass()
	for range 5 {
		x.pass()
	}
	x.seen.Restarted = true
	if took := x.until(t, v1alpha1.MigrationCompleted); took < 11*time.Second || took > 13*time.Second {
		t.Errorf("completed after %s", took)
	}
}

// TestAdvance_NoRoomAtHome: pods that wait for room at home do not hold up the first step, those that run there and are not Ready do.
func TestAdvance_NoRoomAtHome(t *testing.T) {
	x := newMigWorld(4, 25, 100)
	for _, i := range []int{2, 3} {
		pod := &x.w.Members[i].Pod.Status
		pod.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}
	}
	x.until(t, v1alpha1.MigrationGating)
	x.w.Members[1].Status.Conditions = nil
	for range 30 {
		x.pass()
	}
	if x.m.Status.Phase != v1alpha1.MigrationMoving || x.m.Status.Step != 1 {
		t.Errorf("is %s in step %d", x.m.Status.Phase, x.m.Status.Step)
	}
}

// TestAdvance_StepsChange: the next step is one with a greater share, whatever the steps were.
func TestAdvance_StepsChange(t *testing.T) {
	x := newMigWorld(10, 10, 50, 100)
	for x.m.Status.Step < 2 {
		x.pass()
	}
	x.m.Spec.Steps = []int32{20, 100}
	x.until(t, v1alpha1.MigrationCompleted)
	if x.expectShare(t, 100); x.moves != 10 {
		t.Errorf("%d moved", x.moves)
	}
}

func (x *migWorld) expectShare(t *testing.T, want int32) {
	t.Helper()
	if x.m.Status.Share != want {
		t.Errorf("share is %d, want %d", x.m.Status.Share, want)
	}
}

func TestAdvance_TakenOver(t *testing.T) {
	x := newMigWorld(2, 50, 100)
	x.until(t, v1alpha1.MigrationGating)
	x.seen.TakenOver = "Migration other has taken over deployment/web"
	x.until(t, v1alpha1.MigrationPaused)
	for range 100 {
		x.pass()
	}
	x.expect(t, 1, "Moving 50% 0/2", "Gating 50% 1/2", "Paused 50% 1/2")
}

func TestAssign_DividesByShare(t *testing.T) {
	gated := func(name string) Member {
		pod := migPod("web", "")
		pod.Name, pod.Spec.NodeName, pod.Status.Conditions = name, "", nil
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.GatePlacement}}
		return Member{Pod: pod}
	}
	for name, row := range map[string]struct {
		share int32
		want  string
	}{
		"none yet":         {0, "a: b: c: d:"},
		"a quarter":        {25, "a:west b: c: d:"}, // two of eight, one is there
		"half":             {50, "a:west b:west c:west d:"},
		"all":              {100, "a:west b:west c:west d:west"},
		"one is one of it": {1, "a: b: c: d:"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newMigWorld(8, 100)
			x.m.Status = v1alpha1.MigrationStatus{Share: row.share, To: "west", Workloads: []v1alpha1.MigratedWorkload{{WorkloadName: x.m.Spec.Workloads.Names[0]}}}
			x.w.Members = []Member{{migPod("web", "west"), "west"}, gated("b"), gated("a"), gated("d"), gated("c")}
			var have []string
			for _, a := range Assign(x.m, []Workload{x.w}) {
				have = append(have, a.Pod.Name+":"+a.To)
			}
			if got := strings.Join(have, " "); got != row.want {
				t.Errorf("have %s, want %s", got, row.want)
			}
		})
	}
}
