package placement

import (
	"cmp"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// find returns a workload that was seen.
func (a *advance) find(name v1alpha1.WorkloadName) (Workload, bool) {
	for _, w := range a.seen.Workloads {
		if w.Kind == string(name.Kind) && w.Name == name.Name {
			return w, name.Kind != v1alpha1.WorkloadCronJob
		}
	}
	return Workload{}, false
}

// count writes how many pods there are and how many have moved. A workload that is not there any more has none.
func (a *advance) count() {
	for i := range a.is.Workloads {
		mw := &a.is.Workloads[i]
		mw.Replicas, mw.Moved = 0, 0
		if w, ok := a.find(mw.WorkloadName); ok {
			there, _ := migrationCount(w, migrationTo(a.spec.To))
			mw.Replicas, mw.Moved = w.Replicas, min(there, w.Replicas)
		}
	}
	a.tally()
}

// tally adds up what has moved.
func (a *advance) tally() {
	var moved, all int32
	for _, mw := range a.is.Workloads {
		moved, all = moved+mw.Moved, all+mw.Replicas
	}
	if len(a.is.Workloads) > 0 {
		a.is.Moved = fmt.Sprintf("%d/%d", moved, all)
	}
}

// migrationCount is how many of a workload's own pods are Ready at a place, and how many in all. Released pods and those that end
// do not count.
func migrationCount(w Workload, place string) (there, all int32) {
	for _, m := range w.Members {
		if migrationEnded(m.Pod) || migrationReleased(m.Pod) || !Ready(m.Pod) {
			continue
		}
		all++
		if m.Place == place {
			there++
		}
	}
	return there, all
}

func migrationReleased(pod *corev1.Pod) bool { return pod.Labels[v1alpha1.LabelMoving] != "" }

// migrationOnTheWay says that a workload was made to let go of pods that are still there.
func migrationOnTheWay(w Workload) bool {
	return slices.ContainsFunc(w.Members, func(m Member) bool { return migrationReleased(m.Pod) && !migrationEnded(m.Pod) })
}

// migrationServing is how many pods of a workload that were let go of serve still.
func migrationServing(w Workload) (n int32) {
	for _, m := range w.Members {
		if migrationReleased(m.Pod) && !migrationEnded(m.Pod) && Ready(m.Pod) {
			n++
		}
	}
	return n
}

// migrationWaiting is how many pods find no node elsewhere: they wait for room there, which may be why the workload moves, and hold no
// step up.
func migrationWaiting(w Workload, to string) int32 {
	var n int32
	for _, m := range w.Members {
		scheduled := !slices.ContainsFunc(m.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
		})
		if m.Place != to && !scheduled && !migrationEnded(m.Pod) && !migrationReleased(m.Pod) {
			n++
		}
	}
	return n
}

// settled says that all pods of the step are at the destination, all are Ready, and none is on its way.
func (a *advance) settled() bool {
	for _, mw := range a.is.Workloads {
		w, ok := a.find(mw.WorkloadName)
		if !ok {
			continue
		}
		there, all := migrationCount(w, migrationTo(a.spec.To))
		waiting := migrationWaiting(w, migrationTo(a.spec.To))
		if there < MigrationCount(w.Replicas, a.is.Share) || all+waiting < w.Replicas || migrationOnTheWay(w) {
			return false
		}
	}
	return true
}

// migrationBack says that all pods of a workload are where they were, and Ready.
func migrationBack(w Workload, from string) bool {
	there, _ := migrationCount(w, from)
	elsewhere := slices.ContainsFunc(w.Members, func(m Member) bool { return m.Place != from && !migrationEnded(m.Pod) })
	return there >= w.Replicas && !elsewhere && !migrationOnTheWay(w)
}

// counts says how far the step is: "3 of 5 pods are Ready in west, 10 of 10 in all". In all, those count that were let go of and serve.
func (a *advance) counts() string {
	var there, want, ready, all int32
	for _, mw := range a.is.Workloads {
		if w, ok := a.find(mw.WorkloadName); ok {
			n := MigrationCount(w.Replicas, a.is.Share)
			at, total := migrationCount(w, migrationTo(a.spec.To))
			total += migrationServing(w)
			there, want, ready, all = there+min(at, n), want+n, ready+min(total, w.Replicas), all+w.Replicas
		} else { // it has just begun
			n := MigrationCount(mw.Replicas, a.is.Share)
			there, want, ready, all = there+min(mw.Moved, n), want+n, ready+mw.Replicas, all+mw.Replicas
		}
	}
	where := "in " + a.is.To
	if a.spec.To.Home {
		where = "at home"
	}
	return fmt.Sprintf("%d of %d pods are Ready %s, %d of %d in all", there, want, where, ready, all)
}

// wishes are what the pods should become by the status.
func (a *advance) wishes() []MigrationWish {
	var out []MigrationWish
	for _, mw := range a.is.Workloads {
		w, ok := a.find(mw.WorkloadName)
		if !ok {
			continue
		}
		if wish, ok := a.wish(w, mw.From); ok {
			out = append(out, MigrationWish{Workload: w, Wish: wish})
		}
	}
	return out
}

func (a *advance) wish(w Workload, from string) (Wish, bool) {
	name := fmt.Sprintf("Migration %s/%s", a.m.Namespace, a.m.Name)
	most := 0
	if a.spec.MaxConcurrent != nil {
		most = int(*a.spec.MaxConcurrent)
	}
	if a.is.StepTime == nil || a.now.Sub(a.is.StepTime.Time) < migrationSettle {
		return Wish{}, false
	}
	switch a.is.Phase {
	case v1alpha1.MigrationMoving, v1alpha1.MigrationGating:
		if most == 0 {
			most = (int(w.Replicas) + 3) / 4
		}
		return Wish{
			To: migrationTo(a.spec.To), Count: int(MigrationCount(w.Replicas, a.is.Share)), AtOnce: max(most, 1),
			Why: fmt.Sprintf("%s, %s: goes to %s", name, a.stepWord(), a.is.To),
		}, true
	case v1alpha1.MigrationRollingBack:
		// People wait for it: more at once than on the way there.
		return Wish{
			To: from, Count: int(w.Replicas), AtOnce: max(most, (int(w.Replicas)+1)/2, 1),
			Why: fmt.Sprintf("%s rolls back: goes back to %s", name, migrationPlaceWord(from)),
		}, true
	}
	return Wish{}, false
}

// Assignment is where a gated pod goes.
type Assignment struct {
	Pod *corev1.Pod
	To  string // Home is empty
	Why string // a sentence
}

// Assign says where the gated pods of a Migration's workloads go: by its share, counting those that were made from the same template.
func Assign(m *v1alpha1.Migration, workloads []Workload) []Assignment {
	var out []Assignment
	for _, mw := range m.Status.Workloads {
		for _, w := range workloads {
			if w.Kind == string(mw.Kind) && w.Name == mw.Name {
				out = append(out, migrationAssign(m, mw, w)...)
			}
		}
	}
	return out
}

func migrationAssign(m *v1alpha1.Migration, mw v1alpha1.MigratedWorkload, w Workload) []Assignment {
	to, share := migrationTo(m.Spec.To), m.Status.Share
	if mw.Kind == v1alpha1.WorkloadCronJob && share < 100 {
		share = 0 // its runs go over at the end
	}
	there, waiting := map[string]int32{}, []*corev1.Pod(nil)
	for _, member := range w.Members {
		switch {
		case migrationEnded(member.Pod) || migrationReleased(member.Pod):
		case migrationGated(member.Pod):
			waiting = append(waiting, member.Pod)
		case member.Place == to:
			there[migrationVersion(member.Pod)]++
		}
	}
	slices.SortFunc(waiting, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	var out []Assignment
	for _, pod := range waiting {
		place := mw.From
		if share >= 100 || there[migrationVersion(pod)] < MigrationCount(w.Replicas, share) {
			place = to
			there[migrationVersion(pod)]++
		}
		out = append(out, Assignment{Pod: pod, To: place, Why: fmt.Sprintf("Migration %s/%s keeps %d%% of %s in %s: this one goes to %s",
			m.Namespace, m.Name, share, migrationWord(mw.WorkloadName), m.Status.To, migrationPlaceWord(place))})
	}
	return out
}

// migrationVersion tells pods of one version of a workload from those of another. Ordinals replace each other whatever their version.
func migrationVersion(pod *corev1.Pod) string {
	return pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
}

// migrationGated says whether a pod waits for Spillway to place it.
func migrationGated(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.GatePlacement })
}
