package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// managerMoves is the field manager of what the commands that move pods write.
const managerMoves = "spillway-cli-moves"

// migrateRun is one run of migrate or switch.
type migrateRun struct {
	wish       migrateWish
	steps      *steps
	home       *cluster
	migration  *v1alpha1.Migration // as it is wanted, then as it is
	check      *report
	superseded []string
	facts      migrateFacts
}

func (m *migrateRun) outcome() moveOutcome {
	result := moveOutcome{Command: m.wish.command, DryRun: m.wish.dryRun, Check: m.check, Replaces: m.superseded}
	if m.migration != nil {
		r := rowOf(m.migration)
		result.Migration = &r
	}
	return result
}

func (m *migrateRun) run(ctx context.Context) error {
	home, namespace, err := openIn(m.wish.local, m.wish.namespace)
	if err != nil {
		return err
	}
	m.home = home
	if err := m.steps.run("the API server answers", func() (string, error) { return home.server, reach(ctx, home) }); err != nil {
		return err
	}
	if !m.wish.dryRun {
		if err := m.steps.run("a controller works", func() (string, error) { return "", someController(ctx, home) }); err != nil {
			return err
		}
	}
	m.migration = &v1alpha1.Migration{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Migration"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: m.wish.name},
		Spec:       m.wish.spec,
	}
	if err := m.steps.run("what is to be moved is there", func() (string, error) { return m.look(ctx) }); err != nil {
		return err
	}
	if err := m.steps.run("it can be moved", func() (string, error) { return "", m.judge(ctx) }); err != nil {
		return err
	}
	if m.wish.dryRun {
		m.steps.headline("This was a dry run: nothing was changed.")
		return nil
	}
	return m.do(ctx)
}

// someController is requireController for those who may not read its Lease too: they find out by waiting.
func someController(ctx context.Context, c *cluster) error {
	err := requireController(ctx, c)
	if apierrors.IsForbidden(err) {
		return nil
	}
	return err
}

// look reads what the Migration is judged by, and judges what the user gave.
func (m *migrateRun) look(ctx context.Context) (result string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 4*reachTimeout)
	defer cancel()
	if m.facts, err = gatherMigrate(ctx, m.home, m.migration); err != nil {
		return "", err
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(m.facts.migrations, func(o v1alpha1.Migration) bool { return o.Name == name })
	}
	if m.superseded, err = judgeMigration(m.facts, m.home.context); err != nil {
		return "", err
	}
	if taken(m.wish.name) {
		return "", problemf("Give another with --name, or leave it out.", "there is a Migration %q already in namespace %s", m.wish.name, m.migration.Namespace)
	}
	if m.migration.Name == "" {
		m.migration.Name = nameFor(m.wish.choice, m.migration.Namespace, m.wish.to, taken)
	}
	var names []string
	for _, w := range chosen(m.wish.choice, m.facts.all()) {
		names = append(names, words(w.WorkloadName))
	}
	return shortened(names, 5), nil
}

// judge says what the Migration would do, and refuses one that would break something.
func (m *migrateRun) judge(ctx context.Context) error {
	r, err := checkMigration(ctx, m.facts)
	if err != nil {
		return err
	}
	if m.wish.to.peer == "" && find(m.facts.peerings, placeHome) != nil {
		r.Notes = append(r.Notes, "home is this cluster; the peer of that name is --to peer/home")
	}
	m.check = &r
	for _, line := range r.lines() {
		m.steps.note("%s", line)
	}
	if len(r.Breaks) == 0 {
		return nil
	}
	return problemf("Nothing has moved. Mend that, or leave out what cannot follow.", "this cannot be migrated: %s", strings.Join(r.Breaks, "; "))
}

// do makes the Migration and follows it.
func (m *migrateRun) do(ctx context.Context) error {
	err := m.steps.run("Migration "+m.migration.Name, func() (string, error) {
		got, err := m.home.migrations(m.migration.Namespace).Create(ctx, m.migration, metav1.CreateOptions{FieldManager: managerMoves})
		if err != nil {
			return "", explain(m.home, "make Migration "+m.migration.Name, err)
		}
		m.migration, m.steps.changed = got, true
		return created, nil
	})
	if err != nil {
		return err
	}
	watched := &follower{steps: m.steps, home: m.home, migration: m.migration, each: func(now *v1alpha1.Migration) { m.supersede(ctx, now) }}
	defer func() { m.migration = watched.migration }()
	if !m.wish.wait.stays() {
		return m.leave(ctx, watched)
	}
	if err = watched.toTheEnd(ctx); err == nil {
		err = verdictOn(watched.migration)
	}
	if err == nil {
		m.steps.headline("%s in %s.", endWords(watched.migration), shortDuration(m.steps.took()))
	}
	return err
}

// beginTimeout is how long somebody who does not wait for the end waits for the beginning: until the controller has looked at what
// is to be moved, and asked the gates, so that a refusal is told.
const beginTimeout = 30 * time.Second

// leave sees the Migration begin, and leaves it alone then.
func (m *migrateRun) leave(ctx context.Context, watched *follower) error {
	ctx, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	err := watched.until(ctx, "begins", func(now *v1alpha1.Migration) bool { return begun(now) || isOver(now) })
	late := errors.Is(err, context.DeadlineExceeded)
	if err != nil && !late {
		return err
	}
	if watched.migration.Status.Phase == v1alpha1.MigrationRefused {
		return verdictOn(watched.migration)
	}
	if late {
		m.steps.headline("It has not begun after %s.", beginTimeout)
	}
	for _, name := range m.superseded {
		m.steps.headline("The Migration %s has ended and no longer counts once this one has begun: kubectl -n %s delete migration %[1]s", name, m.migration.Namespace)
	}
	m.steps.headline("It goes on by itself. Look at it: %s", lookAgain(watched.migration))
	return nil
}

// supersede deletes the Migrations that the new one takes the place of, once it has begun. One that cannot be deleted is no harm:
// the newer one counts.
func (m *migrateRun) supersede(ctx context.Context, now *v1alpha1.Migration) {
	if !begun(now) || len(m.superseded) == 0 {
		return
	}
	names := m.superseded
	m.superseded = nil
	for _, name := range names {
		err := m.home.migrations(now.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			m.steps.note("The Migration %s, which has ended, could not be deleted (%s). It does not count any more.", name, serverWords(err))
			continue
		}
		m.steps.note("The Migration %s, which had ended, is deleted: this one takes its place.", name)
	}
}

// lookAgain is the command that shows a Migration.
func lookAgain(m *v1alpha1.Migration) string {
	return fmt.Sprintf("spillway migrate status %s -n %s", m.Name, m.Namespace)
}
