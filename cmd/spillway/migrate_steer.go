package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// steering is a change to a Migration that goes on.
type steering struct {
	name    string // of the command
	refusal func(m *v1alpha1.Migration) error
	writes  func(m *v1alpha1.Migration) []steerWrite
	what    string // that is waited for
	enough  func(now *v1alpha1.Migration) bool
	verdict func(m *v1alpha1.Migration) error
	done    func(m *v1alpha1.Migration) string // a sentence
}

// steerWrite is a merge patch of a spec, and what it says.
type steerWrite struct{ says, spec string }

// steerCommand makes a command that changes one Migration and shows what comes of it.
func steerCommand(term terminal, cmd *cobra.Command, s steering) *cobra.Command {
	var wish controlWish
	cmd = controlCommand(cmd, &wish, func(ctx context.Context) error {
		r := &steerRun{wish: wish, steps: newSteps(term, wish.format)}
		err := r.run(ctx, s)
		return concludeMove(term, r.steps, wish.format, r.outcome(s), err)
	})
	wish.wait.addFlags(cmd.Flags(), s.what)
	return cmd
}

// steerRun is one run of pause, resume or rollback.
type steerRun struct {
	wish  controlWish
	steps *steps
	home  *cluster
	m     *v1alpha1.Migration // nil: it was not found
}

func (r *steerRun) outcome(s steering) moveOutcome {
	result := moveOutcome{Command: "migrate " + s.name}
	if r.m != nil {
		row := rowOf(r.m)
		result.Migration = &row
	}
	return result
}

func (r *steerRun) run(ctx context.Context, s steering) (err error) {
	if r.home, r.m, err = r.wish.read(ctx); err != nil {
		return err
	}
	if err := s.refusal(r.m); err != nil {
		return err
	}
	if err := someController(ctx, r.home); err != nil {
		return err
	}
	for _, w := range s.writes(r.m) {
		if err := r.patch(ctx, w); err != nil {
			return err
		}
	}
	if !r.wish.wait.stays() {
		r.steps.headline("It goes on by itself. Look at it: %s", lookAgain(r.m))
		return nil
	}
	watched := &follower{steps: r.steps, home: r.home, migration: r.m}
	err = watched.until(ctx, "has "+s.what, func(now *v1alpha1.Migration) bool {
		return now.Status.ObservedGeneration >= now.Generation && s.enough(now)
	})
	if r.m = watched.migration; err != nil {
		return err
	}
	if err := s.verdict(r.m); err != nil {
		return err
	}
	r.steps.headline("%s", s.done(r.m))
	return nil
}

// patch writes into the spec of the Migration.
func (r *steerRun) patch(ctx context.Context, w steerWrite) error {
	return r.steps.run(w.says, func() (string, error) {
		got, err := r.home.migrations(r.m.Namespace).Patch(ctx, r.m.Name, types.MergePatchType, []byte(`{"spec":`+w.spec+`}`),
			metav1.PatchOptions{FieldManager: managerMoves})
		if err != nil {
			return "", explain(r.home, "change Migration "+r.m.Name, err)
		}
		r.m, r.steps.changed = got, true
		return "", nil
	})
}

// notEnded refuses what an ended Migration cannot do any more.
func notEnded(verb string) func(*v1alpha1.Migration) error {
	return func(m *v1alpha1.Migration) error {
		if isOver(m) {
			return problemf("Make another with spillway migrate, or take back a completed one: spillway migrate rollback "+m.Name+" -n "+m.Namespace,
				"the Migration %s is %s: there is nothing to %s", m.Name, phaseOf(m), verb)
		}
		if m.Spec.Rollback {
			return problemf("Watch it: "+lookAgain(m), "the Migration %s is being rolled back, which cannot be taken back", m.Name)
		}
		return nil
	}
}

func migratePauseCommand(term terminal) *cobra.Command {
	return steerCommand(term, &cobra.Command{
		Use:   "pause NAME",
		Short: "Stop a Migration where it is",
		Long: `Pause stops a Migration where it is: pods on their way arrive, no more leave. New pods go on being divided between both places.
It waits until nothing is on its way.`,
		Example: `  spillway migrate pause web-to-cloud -n shop`,
	}, steering{
		name:    "pause",
		refusal: notEnded("pause"),
		writes:  func(*v1alpha1.Migration) []steerWrite { return []steerWrite{{"it is to pause", `{"paused":true}`}} },
		what:    "paused",
		enough:  func(now *v1alpha1.Migration) bool { return stopped(now) || isOver(now) },
		verdict: func(m *v1alpha1.Migration) error {
			if stopped(m) {
				return nil
			}
			return problemf("There is nothing left to pause.", "the Migration %s had ended before (%s)", m.Name, m.Status.Phase)
		},
		done: func(m *v1alpha1.Migration) string {
			return fmt.Sprintf("It is paused: %s. Go on: spillway migrate resume %s -n %s", progressWords(m, false), m.Name, m.Namespace)
		},
	})
}

func migrateResumeCommand(term terminal) *cobra.Command {
	return steerCommand(term, &cobra.Command{
		Use:   "resume NAME",
		Short: "Let a paused Migration go on",
		Long: `Resume lets a paused Migration go on, and shows how far it is until it ends. One that has paused itself, since a step or its gate
failed, tries that step once more.`,
		Example: `  spillway migrate resume web-to-cloud -n shop`,
	}, steering{
		name: "resume",
		refusal: func(m *v1alpha1.Migration) error {
			if err := notEnded("resume")(m); err != nil {
				return err
			}
			if !m.Spec.Paused && m.Status.Phase != v1alpha1.MigrationPaused {
				return problemf("Watch it: "+lookAgain(m), "the Migration %s is not paused (%s)", m.Name, phaseOf(m))
			}
			return nil
		},
		writes: func(m *v1alpha1.Migration) []steerWrite {
			goOn := steerWrite{"it is to go on", `{"paused":false}`}
			if !m.Spec.Paused { // it has paused itself: only a change of what is wished tells it to try again
				return []steerWrite{{"its pause is noted", `{"paused":true}`}, goOn}
			}
			return []steerWrite{goOn}
		},
		what:    "ended",
		enough:  func(now *v1alpha1.Migration) bool { return isOver(now) || stopped(now) },
		verdict: verdictOn,
		done:    func(m *v1alpha1.Migration) string { return sentence(endWords(m)) },
	})
}

func migrateRollbackCommand(term terminal) *cobra.Command {
	return steerCommand(term, &cobra.Command{
		Use:   "rollback NAME",
		Short: "Take back what a Migration has moved",
		Long: `Rollback takes what a Migration has moved back to where it was, with the same care, and shows how far it is. It holds for a
completed Migration too. It cannot be taken back: to move once more, make another Migration.`,
		Example: `  spillway migrate rollback web-to-cloud -n shop`,
	}, steering{
		name: "rollback",
		refusal: func(m *v1alpha1.Migration) error {
			switch {
			case m.Status.Phase == v1alpha1.MigrationRefused:
				return problemf(fmt.Sprintf("Forget it: kubectl -n %s delete migration %s", m.Namespace, m.Name), "the Migration %s was refused and has moved nothing", m.Name)
			case m.Status.Phase == v1alpha1.MigrationRolledBack:
				return problemf("Look at it: "+lookAgain(m), "the Migration %s has been rolled back already", m.Name)
			}
			return nil
		},
		writes: func(*v1alpha1.Migration) []steerWrite {
			return []steerWrite{{"it is to roll back", `{"rollback":true}`}}
		},
		what: "been rolled back",
		enough: func(now *v1alpha1.Migration) bool {
			return isOver(now) && now.Status.Phase != v1alpha1.MigrationCompleted
		},
		verdict: func(*v1alpha1.Migration) error { return nil },
		done:    func(m *v1alpha1.Migration) string { return "What had moved is where it was: " + sentence(whyOf(m)) },
	})
}
