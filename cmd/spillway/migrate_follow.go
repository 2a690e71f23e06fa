package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// migrationsOf is about the Migrations of a namespace.
func migrationsOf(c *cluster, namespace string) source[*v1alpha1.Migration] {
	migrations := c.migrations(namespace)
	return source[*v1alpha1.Migration]{
		list: func(ctx context.Context, opts metav1.ListOptions) ([]*v1alpha1.Migration, string, error) {
			list, err := migrations.List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return pointers(list.Items), list.ResourceVersion, nil
		},
		watch: migrations.Watch,
	}
}

// follower shows how far a Migration is.
type follower struct {
	steps     *steps
	home      *cluster
	migration *v1alpha1.Migration           // as it was seen last
	each      func(now *v1alpha1.Migration) // may be nil; called for each state of it
	over      int                           // steps that are over, as was shown
	phase     v1alpha1.MigrationPhase
}

// toTheEnd follows until the Migration has ended or paused.
func (f *follower) toTheEnd(ctx context.Context) error {
	return f.until(ctx, "ends", func(now *v1alpha1.Migration) bool { return isOver(now) || stopped(now) })
}

// stopped says whether m stands still until somebody does something.
func stopped(m *v1alpha1.Migration) bool {
	return m.Status.Phase == v1alpha1.MigrationPaused && m.Status.ObservedGeneration >= m.Generation
}

// until follows until enough is true. what says what is waited for.
func (f *follower) until(ctx context.Context, what string, enough func(*v1alpha1.Migration) bool) error {
	uid, gone := f.migration.UID, false
	f.over = max(0, int(f.migration.Status.Step)-1)
	err := follow(ctx, migrationsOf(f.home, f.migration.Namespace), named(f.migration.Name), func(found map[string]*v1alpha1.Migration) bool {
		now := found[f.migration.Namespace+"/"+f.migration.Name]
		if gone = now == nil || now.UID != uid; gone {
			return true
		}
		if now.Generation < f.migration.Generation {
			return false // a watch may begin in the past
		}
		f.migration = now
		f.show(now)
		if f.each != nil {
			f.each(now)
		}
		return enough(now)
	})
	switch {
	case gone:
		return problemf("Pods stay where they are; new ones go by the OffloadPolicies.", "the Migration %q was deleted meanwhile", f.migration.Name)
	case errors.Is(err, context.Canceled):
		return f.interrupted()
	}
	return explain(f.home, fmt.Sprintf("wait until Migration %s %s", f.migration.Name, what), err)
}

// interrupted is what somebody is told who stops looking.
func (f *follower) interrupted() error {
	m := f.migration
	return problemf(fmt.Sprintf("Look at it again: %s. Stop it: spillway migrate pause %s -n %s. Take it back: spillway migrate rollback %[2]s -n %[3]s",
		lookAgain(m), m.Name, m.Namespace), "you have stopped looking; the Migration %s goes on by itself (%s)", m.Name, phaseOf(m))
}

// show tells what has changed: each step that is over with a line, what goes on now with a bar.
func (f *follower) show(now *v1alpha1.Migration) {
	steps := stepsOf(now)
	over := int(now.Status.Step) - 1
	switch now.Status.Phase {
	case v1alpha1.MigrationCompleted:
		over = len(steps)
	case v1alpha1.MigrationRollingBack, v1alpha1.MigrationRolledBack:
		over = 0
	}
	for ; f.over < min(over, len(steps)); f.over++ { // more than one when it goes fast
		f.steps.ok(fmt.Sprintf("step %d of %d (%d %%)", f.over+1, len(steps), steps[f.over]), "")
	}
	turned := f.phase != now.Status.Phase
	f.phase = now.Status.Phase
	f.steps.stage(turned, progressWords(now, f.steps.style.tty))
}

// stage is progress for what goes on in phases: off a terminal, each new one is told at once.
func (s *steps) stage(turned bool, text string) {
	if turned {
		s.shown = time.Time{}
	}
	s.progress("%s", text)
}

// barWidth is how many characters a full bar has.
const barWidth = 20

// progressWords say how far m is, in one line. A terminal sees a bar too.
func progressWords(m *v1alpha1.Migration, bar bool) string {
	moved, of := movedOf(m)
	var parts []string
	if bar && of > 0 {
		full := int(moved) * barWidth / int(of)
		parts = append(parts, strings.Repeat("█", full)+strings.Repeat("░", barWidth-full))
	}
	if of > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d moved", moved, of))
	}
	steps := stepsOf(m)
	told := strings.HasPrefix(afterPhase(m.Status.Message), "step ")
	if at := m.Status.Step; at >= 1 && int(at) <= len(steps) && !told && !isOver(m) && m.Status.Phase != v1alpha1.MigrationRollingBack {
		parts = append(parts, fmt.Sprintf("step %d of %d (%d %%)", at, len(steps), steps[at-1]))
	}
	text := string(phaseOf(m))
	if m.Status.Message != "" {
		text += ": " + afterPhase(m.Status.Message)
	}
	return strings.Join(append(parts, text), ", ")
}

// movedOf is how many pods have arrived, of how many.
func movedOf(m *v1alpha1.Migration) (moved, of int32) {
	for _, w := range m.Status.Workloads {
		moved += min(w.Moved, w.Replicas)
		of += w.Replicas
	}
	return moved, of
}

// verdictOn is nil for a Migration that has completed, or goes on; for one that has ended badly or stands still it says why, and what to do.
func verdictOn(m *v1alpha1.Migration) error {
	command := func(verb string) string {
		return fmt.Sprintf("spillway migrate %s %s -n %s", verb, m.Name, m.Namespace)
	}
	switch {
	case m.Status.Phase == v1alpha1.MigrationRefused:
		return problemf(fmt.Sprintf("Nothing has moved. Mend that and migrate again; forget this one: kubectl -n %s delete migration %s", m.Namespace, m.Name),
			"the Migration %s was refused: %s", m.Name, whyOf(m))
	case m.Status.Phase == v1alpha1.MigrationRolledBack && isOver(m):
		return problemf(fmt.Sprintf("What had moved is where it was. Mend that and migrate again; look closer: kubectl -n %s describe migration %s", m.Namespace, m.Name),
			"the Migration %s was rolled back: %s", m.Name, whyOf(m))
	case stopped(m):
		return problemf("What has moved stays. Go on: "+command("resume")+". Take it back: "+command("rollback"), "the Migration %s is paused: %s", m.Name, whyOf(m))
	}
	return nil
}

// afterPhase is a message without the phase in front, where it is said anyway.
func afterPhase(message string) string {
	for _, phase := range []string{"paused: ", "refused: ", "rolled back: ", "rolls back: "} {
		message = strings.TrimPrefix(message, phase)
	}
	return message
}

// whyOf is what m says of itself.
func whyOf(m *v1alpha1.Migration) string {
	if m.Status.Message != "" {
		return afterPhase(m.Status.Message)
	}
	for _, kind := range []string{v1alpha1.ConditionCompleted, v1alpha1.ConditionProgressing} {
		if c := meta.FindStatusCondition(m.Status.Conditions, kind); c != nil && c.Message != "" {
			return c.Message
		}
	}
	return "it does not say why"
}

// endWords say what m has done.
func endWords(m *v1alpha1.Migration) string {
	_, of := movedOf(m)
	text := fmt.Sprintf("%s moved to %s", plural(len(m.Status.Workloads), "workload"), toOf(m))
	if of > 0 {
		text += fmt.Sprintf(" (%s)", plural(int(of), "pod"))
	}
	return text
}

// toOf names the place where m moves to.
func toOf(m *v1alpha1.Migration) string {
	if m.Spec.To.Peer != "" {
		return m.Spec.To.Peer
	}
	return placeHome
}
