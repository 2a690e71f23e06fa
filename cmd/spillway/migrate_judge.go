package main

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// judgeMigration says what is wrong with what a user wants to be moved, going by what is there. It returns the Migrations that the
// new one makes superfluous.
func judgeMigration(f migrateFacts, context string) (superseded []string, err error) {
	all := f.all()
	if err := f.judgeTargets(all, context); err != nil {
		return nil, err
	}
	if err := f.judgeDestination(context); err != nil {
		return nil, err
	}
	if job := f.migration.Spec.Gate.Job; job != nil {
		is := func(w workload) bool { return w.Kind == v1alpha1.WorkloadCronJob && w.Name == job.FromCronJob }
		if !slices.ContainsFunc(all, is) {
			return nil, problemf(f.known(all, v1alpha1.WorkloadCronJob), "there is no CronJob %q in namespace %q for --job", job.FromCronJob, f.migration.Namespace)
		}
	}
	return f.judgeOthers(all)
}

// judgeTargets refuses what is not there.
func (f migrateFacts) judgeTargets(all []workload, context string) error {
	choice, ns := f.migration.Spec.Workloads, f.migration.Namespace
	for _, name := range choice.Names {
		if !slices.ContainsFunc(all, func(w workload) bool { return w.WorkloadName == name }) {
			return problemf(f.known(all, name.Kind), "there is no %s %q in namespace %q of context %q", name.Kind, name.Name, ns, context)
		}
	}
	if len(chosen(choice, all)) > 0 {
		return nil
	}
	if choice.Selector != nil && len(all) > 0 {
		return problemf("Look at their labels: kubectl --context "+context+" -n "+ns+" get deployments,statefulsets,cronjobs --show-labels",
			"the selector matches none of the %s of namespace %q", plural(len(all), "workload"), ns)
	}
	return problemf("Choose another with -n NAMESPACE.", "namespace %q of context %q has no Deployment, StatefulSet or CronJob", ns, context)
}

// known says which workloads of a kind there are.
func (f migrateFacts) known(all []workload, kind v1alpha1.WorkloadKind) string {
	var names []string
	for _, w := range all {
		if w.Kind == kind {
			names = append(names, w.Name)
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("There is no %s there at all.", kind)
	}
	return "There are: " + shortened(names, 10) + "."
}

// shortened lists at most this many names.
func shortened(names []string, most int) string {
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// judgeDestination refuses a peer that is not there, or takes no pods.
func (f migrateFacts) judgeDestination(context string) error {
	to := f.migration.Spec.To.Peer
	if to == "" || !f.peeringsRead {
		return nil
	}
	var names []string
	for i := range f.peerings {
		if f.peerings[i].Spec.Borrow != nil {
			names = append(names, f.peerings[i].Name)
		}
	}
	slices.Sort(names)
	p := find(f.peerings, to)
	switch {
	case p == nil && len(names) == 0:
		return problemf(howToPeer(context), "there is no peer %q, and this cluster borrows from no other", to)
	case p == nil:
		return problemf("There are: "+strings.Join(names, ", ")+", and home.", "there is no peer %q", to)
	case p.Spec.Borrow == nil:
		return problemf("Make it lend too: spillway peer --context "+context+" --remote-context OTHER", "the Peering %q only shares: this cluster borrows nothing from that peer", to)
	case p.DeletionTimestamp != nil:
		return problemf("Move to another.", "the Peering %q is being removed", to)
	case !holds(p, v1alpha1.ConditionNodeReady):
		what, do := whyNot(p, []string{v1alpha1.ConditionAuthenticated, v1alpha1.ConditionNodeReady})
		return problemf(do, "the peer %s takes no pods: %s", to, what)
	}
	own := slices.DeleteFunc(slices.Clone(f.nodes), func(n corev1.Node) bool { return n.Labels[v1alpha1.LabelPeer] != to })
	if len(own) > 0 && !slices.ContainsFunc(own, func(n corev1.Node) bool { return !n.Spec.Unschedulable }) {
		return problemf("Open it: spillway uncordon "+to, "the peer %s is cordoned", to)
	}
	return nil
}

// judgeOthers refuses to move what another Migration moves at this moment, and names those that have ended and move nothing but
// what the new one moves.
func (f migrateFacts) judgeOthers(all []workload) (superseded []string, err error) {
	mine := chosen(f.migration.Spec.Workloads, all)
	is := func(name v1alpha1.WorkloadName) bool {
		return slices.ContainsFunc(mine, func(w workload) bool { return w.WorkloadName == name })
	}
	for i := range f.migrations {
		other := &f.migrations[i]
		theirs := governed(other, all)
		shared := slices.IndexFunc(theirs, is)
		switch {
		case shared < 0 || other.DeletionTimestamp != nil:
		case !isOver(other):
			return nil, problemf(fmt.Sprintf("Wait for it, or take it back: spillway migrate status %s -n %s; spillway migrate rollback %[1]s -n %[2]s", other.Name, other.Namespace),
				"the Migration %q moves %s already (%s)", other.Name, words(theirs[shared]), phaseOf(other))
		case !slices.ContainsFunc(theirs, func(n v1alpha1.WorkloadName) bool { return !is(n) }):
			superseded = append(superseded, other.Name)
		}
	}
	slices.Sort(superseded)
	return superseded, nil
}

// governed are the workloads of a Migration: those found when it began, or those that it would find now.
func governed(m *v1alpha1.Migration, all []workload) []v1alpha1.WorkloadName {
	var names []v1alpha1.WorkloadName
	for _, w := range m.Status.Workloads {
		names = append(names, w.WorkloadName)
	}
	if len(names) > 0 {
		return names
	}
	for _, w := range chosen(m.Spec.Workloads, all) {
		names = append(names, w.WorkloadName)
	}
	return names
}

// phaseOf is where m stands.
func phaseOf(m *v1alpha1.Migration) v1alpha1.MigrationPhase {
	if m.Status.Phase == "" {
		return v1alpha1.MigrationPending
	}
	return m.Status.Phase
}

// isOver says whether m has come to an end, and has seen all that was wished of it. A completed one that is to be rolled back has not.
func isOver(m *v1alpha1.Migration) bool {
	if m.Status.ObservedGeneration < m.Generation {
		return false
	}
	switch m.Status.Phase {
	case v1alpha1.MigrationRefused, v1alpha1.MigrationRolledBack, v1alpha1.MigrationCompleted:
		return true
	}
	return false
}

// begun says whether m counts: it has moved something, or has nothing to move.
func begun(m *v1alpha1.Migration) bool {
	switch phaseOf(m) {
	case v1alpha1.MigrationPending, v1alpha1.MigrationRefused:
		return false
	}
	return true
}
