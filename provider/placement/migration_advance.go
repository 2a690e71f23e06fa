package placement

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// defaultSoak is how long pods have to be Ready when the gate does not say.
	defaultSoak = 10 * time.Second
	// defaultStepTimeout is how long a step may take when the spec does not say.
	defaultStepTimeout = 10 * time.Minute
	// migrationSettle is how long after the beginning of a step, in whole seconds, the first pod is moved: until admission knows of it,
	// and API servers that they are to ask. A replacement that is steered by an old share would be moved a second time.
	migrationSettle = 2 * time.Second
)

// Reasons of a Migration's conditions.
const (
	becausePending     = "Pending"
	becauseMoving      = "Moving"
	becauseSoaking     = "Soaking"
	becausePaused      = "Paused"      // by its spec
	becauseStepFailed  = "StepFailed"  // pods were not Ready in time
	becauseGateFailed  = "GateFailed"  // the gate said no
	becauseTakenOver   = "TakenOver"   // by a newer Migration
	becauseAsked       = "Asked"       // spec.rollback
	becauseRollingBack = "RollingBack" // pods go back
	becauseRolledBack  = "RolledBack"
	becauseRefused     = "Refused"
	becauseCompleted   = "Completed"
	becauseHolds       = "Holds"
)

// MigrationView is what was seen of a Migration.
type MigrationView struct {
	// Verdict is what Check says, with what the gates add when they cannot be reached. Nil while it is not known. Read before it begins.
	Verdict *Verdict
	// Workloads of the status that are there, with their pods.
	Workloads []Workload
	// Gate is the word of the gate, beside the soak time; read when the pods have soaked, and when it fails before.
	Gate GateView
	// Restarted says that nobody has looked at the gate until now: soaking starts anew.
	Restarted bool
	// Budget says that a PodDisruptionBudget let a pod not go when it was asked last.
	Budget bool
	// TakenOver says that a newer Migration moves its workloads, a sentence; empty when none does.
	TakenOver string
}

// GateState is the word of a gate.
type GateState string

// The words of a gate.
const (
	GateWaits GateState = "" // not known yet
	GateHolds GateState = "Holds"
	GateFails GateState = "Fails"
)

// GateView is the word of a gate and why, a sentence.
type GateView struct {
	State GateState
	Why   string
}

// MigrationWish is what the pods of one workload should become.
type MigrationWish struct {
	Workload Workload
	Wish     Wish
}

// MigrationSoak is how long the pods of a step have to be Ready.
func MigrationSoak(spec *v1alpha1.MigrationSpec) time.Duration {
	if spec.Gate.Soak == nil {
		return defaultSoak
	}
	return spec.Gate.Soak.Duration
}

// Advance says what the status of a Migration should be, and what its pods should become. A status with another share, phase or
// workloads is to be written before pods are moved: those who steer new pods go by it. The status is all that is remembered.
func Advance(m *v1alpha1.Migration, seen MigrationView, now time.Time) (v1alpha1.MigrationStatus, []MigrationWish) {
	a := &advance{m: m, spec: &m.Spec, is: *m.Status.DeepCopy(), seen: seen, now: now}
	if !migrationFinal(a.is.Phase) {
		a.count()
	}
	a.step()
	a.is.ObservedGeneration = m.Generation
	return a.is, a.wishes()
}

// migrationFinal says that nothing comes after a phase but a rollback.
func migrationFinal(p v1alpha1.MigrationPhase) bool {
	return p == v1alpha1.MigrationRefused || p == v1alpha1.MigrationRolledBack || p == v1alpha1.MigrationCompleted
}

// advance is an Advance that is being made.
type advance struct {
	m    *v1alpha1.Migration
	spec *v1alpha1.MigrationSpec
	is   v1alpha1.MigrationStatus
	seen MigrationView
	now  time.Time
}

// step goes on from the phase that it is in.
func (a *advance) step() {
	phase := a.is.Phase
	switch {
	case phase == v1alpha1.MigrationRefused, phase == v1alpha1.MigrationRolledBack:
	case phase == v1alpha1.MigrationRollingBack:
		a.goBack()
	case a.is.StartTime == nil:
		a.begin()
	case a.spec.Rollback:
		a.rollback(becauseAsked, "a rollback was asked for")
	case phase == v1alpha1.MigrationCompleted:
	case phase == v1alpha1.MigrationPaused:
		a.resume()
	case a.seen.TakenOver != "":
		a.pause(becauseTakenOver, a.seen.TakenOver)
	case a.spec.Paused:
		a.pause(becausePaused, "paused: pods on their way arrive, no more leave")
	default:
		a.work()
	}
}

// begin starts what may start.
func (a *advance) begin() {
	v := a.seen.Verdict
	switch {
	case a.spec.Rollback:
		a.end(v1alpha1.MigrationRolledBack, becauseAsked, "rolled back before anything had moved")
	case a.spec.Paused:
		a.pause(becausePaused, "paused before anything has moved")
	case v == nil:
		a.progress(v1alpha1.MigrationPending, becausePending, "what it names is being looked at")
	case len(v.Refusals) > 0:
		a.is.To = migrationPlaceWord(v.To)
		a.end(v1alpha1.MigrationRefused, becauseRefused, strings.Join(v.Refusals, "; "))
	default:
		a.is.To = migrationPlaceWord(v.To)
		a.is.StartTime = a.stamp()
		for _, w := range v.Workloads {
			a.is.Workloads = append(a.is.Workloads, v1alpha1.MigratedWorkload{
				WorkloadName: w.WorkloadName, From: w.From, Replicas: w.Replicas, Moved: w.There,
			})
		}
		a.tally()
		a.enter(1)
	}
}

// enter begins a step, or tries it once more.
func (a *advance) enter(step int32) {
	steps := MigrationSteps(a.spec)
	step = min(max(step, 1), int32(len(steps)))
	a.is.Step, a.is.Share = step, steps[step-1]
	a.is.StepTime, a.is.ReadyTime = a.stamp(), nil
	a.condition(v1alpha1.ConditionGateHolds, metav1.ConditionUnknown, becauseMoving, "the pods of "+a.stepWord()+" are not all Ready yet")
	a.move()
}

// work looks after the pods of the step.
func (a *advance) work() {
	if a.is.StepTime == nil {
		a.is.StepTime = a.stamp()
	}
	if !a.settled() {
		a.is.ReadyTime = nil
		a.move()
		if limit := a.stepTimeout(); a.now.Sub(a.is.StepTime.Time) >= limit {
			a.fail(becauseStepFailed, fmt.Sprintf("%s has taken longer than %s: %s%s", a.stepWord(), limit, a.counts(), a.held()))
		}
		return
	}
	if a.is.Phase != v1alpha1.MigrationGating || a.is.ReadyTime == nil || a.seen.Restarted {
		// The status has whole seconds: rounded up, so that no pod soaks too short.
		ready := metav1.NewTime(a.now.Add(time.Second - 1).Truncate(time.Second))
		a.is.ReadyTime = &ready
		a.progress(v1alpha1.MigrationGating, becauseSoaking, fmt.Sprintf("%s: %s; they soak for %s", a.stepWord(), a.counts(), MigrationSoak(a.spec)))
		return
	}
	soaked := a.now.Sub(a.is.ReadyTime.Time) - MigrationSoak(a.spec)
	switch {
	case a.seen.Gate.State == GateFails:
		a.fail(becauseGateFailed, a.stepWord()+": "+a.seen.Gate.Why)
	case soaked < 0:
	case a.seen.Gate.State == GateHolds:
		a.pass()
	case soaked > a.stepTimeout():
		a.fail(becauseGateFailed, fmt.Sprintf("%s: the gate has not answered in %s", a.stepWord(), a.stepTimeout()))
	default:
		why := a.seen.Gate.Why
		if why == "" {
			why = "the gate is asked"
		}
		a.progress(v1alpha1.MigrationGating, becauseSoaking, a.stepWord()+": "+why)
	}
}

// pass goes on after a gate that holds.
func (a *advance) pass() {
	why := a.seen.Gate.Why
	if why == "" {
		why = fmt.Sprintf("its pods were Ready for %s", MigrationSoak(a.spec))
	}
	holds := fmt.Sprintf("%s: %s", a.stepWord(), why)
	for i, share := range MigrationSteps(a.spec) { // they may have been changed since
		if share > a.is.Share {
			a.enter(int32(i + 1))
			a.condition(v1alpha1.ConditionGateHolds, metav1.ConditionTrue, becauseHolds, holds)
			return
		}
	}
	a.condition(v1alpha1.ConditionGateHolds, metav1.ConditionTrue, becauseHolds, holds)
	a.end(v1alpha1.MigrationCompleted, becauseCompleted, "all has moved to "+a.is.To)
}

// fail does what spec.onFailure says.
func (a *advance) fail(reason, why string) {
	if reason == becauseGateFailed {
		a.condition(v1alpha1.ConditionGateHolds, metav1.ConditionFalse, reason, why)
	}
	if a.spec.OnFailure == v1alpha1.FailurePause {
		a.pause(reason, why+"; change the spec, or set paused and take it away again, to try once more, or set rollback")
		return
	}
	a.rollback(reason, why)
}

func (a *advance) pause(reason, why string) {
	a.is.ReadyTime = nil
	a.condition(v1alpha1.ConditionProgressing, metav1.ConditionFalse, reason, why)
	a.is.Phase, a.is.Message = v1alpha1.MigrationPaused, why
}

// resume tries the step once more when the spec says so: it was paused by it and is not any more, or it has paused itself and its
// spec was changed since.
func (a *advance) resume() {
	because := meta.FindStatusCondition(a.is.Conditions, v1alpha1.ConditionProgressing)
	bySpec := because != nil && because.Reason == becausePaused
	switch {
	case a.spec.Paused && !bySpec:
		a.pause(becausePaused, "paused: "+a.is.Message)
	case a.spec.Paused, a.seen.TakenOver != "":
	case bySpec || a.m.Generation != a.is.ObservedGeneration:
		a.enter(a.is.Step)
	}
}

// rollback begins to take everything back.
func (a *advance) rollback(reason, why string) {
	a.is.Share, a.is.StepTime, a.is.ReadyTime, a.is.CompletionTime = 0, a.stamp(), nil, nil
	a.condition(v1alpha1.ConditionCompleted, metav1.ConditionFalse, reason, why)
	a.is.Phase = v1alpha1.MigrationRollingBack
	a.returning()
}

// goBack ends when everything is where it was.
func (a *advance) goBack() {
	for i := range a.is.Workloads {
		mw := &a.is.Workloads[i]
		if w, ok := a.find(mw.WorkloadName); ok && !migrationBack(w, mw.From) {
			a.returning()
			return
		}
	}
	why := "it was asked for"
	reason := becauseRolledBack
	if c := meta.FindStatusCondition(a.is.Conditions, v1alpha1.ConditionCompleted); c != nil && c.Status == metav1.ConditionFalse {
		why, reason = c.Message, c.Reason
	}
	a.end(v1alpha1.MigrationRolledBack, reason, why)
	a.is.Message = "rolled back: " + why
	a.condition(v1alpha1.ConditionProgressing, metav1.ConditionFalse, becauseRolledBack, a.is.Message)
}

// end comes to a final phase.
func (a *advance) end(phase v1alpha1.MigrationPhase, reason, why string) {
	completed := metav1.ConditionFalse
	if phase == v1alpha1.MigrationCompleted {
		completed = metav1.ConditionTrue
	}
	a.is.ReadyTime, a.is.CompletionTime = nil, a.stamp()
	a.condition(v1alpha1.ConditionCompleted, completed, reason, why)
	a.condition(v1alpha1.ConditionProgressing, metav1.ConditionFalse, string(phase), why)
	a.is.Phase, a.is.Message = phase, why
}

// progress says what it does now.
func (a *advance) progress(phase v1alpha1.MigrationPhase, reason, why string) {
	a.is.Phase, a.is.Message = phase, why
	a.condition(v1alpha1.ConditionProgressing, metav1.ConditionTrue, reason, why)
}

func (a *advance) move() {
	a.progress(v1alpha1.MigrationMoving, becauseMoving, a.stepWord()+": "+a.counts()+a.held())
}

// held says what keeps pods from going.
func (a *advance) held() string {
	if a.seen.Budget {
		return "; a PodDisruptionBudget lets no more of them go now"
	}
	return ""
}

func (a *advance) returning() {
	back, all := int32(0), int32(0)
	for _, mw := range a.is.Workloads {
		if w, ok := a.find(mw.WorkloadName); ok {
			n, _ := migrationCount(w, mw.From)
			back, all = back+min(n, w.Replicas), all+w.Replicas
		}
	}
	a.progress(v1alpha1.MigrationRollingBack, becauseRollingBack, fmt.Sprintf("rolls back: %d of %d pods are Ready where they were%s", back, all, a.held()))
}

func (a *advance) condition(kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&a.is.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: a.m.Generation,
		LastTransitionTime: *a.stamp(),
	})
}

// stamp is now as a status has it, in whole seconds.
func (a *advance) stamp() *metav1.Time {
	t := metav1.NewTime(a.now.Truncate(time.Second))
	return &t
}

func (a *advance) stepTimeout() time.Duration {
	if a.spec.StepTimeout == nil {
		return defaultStepTimeout
	}
	return a.spec.StepTimeout.Duration
}

// stepWord names the step: "step 2 of 3 (50%)".
func (a *advance) stepWord() string {
	return fmt.Sprintf("step %d of %d (%d%%)", a.is.Step, len(MigrationSteps(a.spec)), a.is.Share)
}
