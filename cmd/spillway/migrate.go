package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// migrateWish is what a user wants to be moved.
type migrateWish struct {
	command   string // migrate or switch; for what is printed
	local     access
	namespace string // empty: that of the context
	name      string // of the Migration; empty: one that says what it moves
	choice    v1alpha1.WorkloadChoice
	to        destination
	gates     gateFlags
	spec      v1alpha1.MigrationSpec // made from all of the above
	dryRun    bool
	wait      waiting
	format    string
}

// destination is where pods go, as the user wrote it.
type destination struct {
	peer string // empty: home
	text string
}

// name is that of the place in messages and in status.to.
func (d destination) name() string {
	if d.peer == "" {
		return placeHome
	}
	return d.peer
}

// waiting says whether a command stays until what it began has ended.
type waiting struct{ wait, noWait bool }

func (w *waiting) addFlags(flags *pflag.FlagSet, what string) {
	flags.BoolVar(&w.wait, "wait", true, "stay and show how far it is, until "+what)
	flags.BoolVar(&w.noWait, "no-wait", false, "end when it has begun; it goes on by itself")
}

func (w waiting) stays() bool { return w.wait && !w.noWait }

func migrateCommand(term terminal) *cobra.Command {
	wish := migrateWish{command: "migrate"}
	var all bool
	var selector, to string
	cmd := &cobra.Command{
		Use:   "migrate TARGET… --to PEER|home",
		Short: "Move workloads to a peer, or home, in steps",
		Long: `Migrate moves Deployments, StatefulSets and CronJobs of a namespace to a peer, or home, in steps. After each step it waits until
the pods are Ready, have been so for a while (--soak), and the gate holds (--http, --prometheus, --job); then it goes on. If a
step or its gate fails, what has moved goes back, or all stays (--on-failure pause).

It makes a Migration, an object which spillwayd works off, and shows how far it is. Ended with Ctrl-C, the Migration goes on.
What cannot be moved is refused before anything moves; --dry-run only says what would become of what.

The Migration stays when all has moved: it keeps new pods where the workload is. Deleting it leaves them to OffloadPolicies.`,
		Example: `  # what would move where, what goes along, and what would break?
  spillway migrate deployment/web -n shop --to cloud --dry-run

  # in three steps, while requests are answered
  spillway migrate deployment/web -n shop --to cloud --steps 10,50,100 --soak 1m --http http://web.shop.svc/healthz --max-p99 300ms

  # several, or those with a label, or all of the namespace; and home
  spillway migrate deployment/web statefulset/queue cronjob/report -n shop --to cloud
  spillway migrate -l tier=front -n shop --to cloud
  spillway migrate --all -n shop --to home

  # go by what Prometheus says; stop there if it is too much
  spillway migrate deployment/web -n shop --to cloud --steps 10,100 --on-failure pause \
    --prometheus http://prometheus.monitoring.svc:9090 --query 'sum(rate(errors_total{app="web"}[1m]))' --max 0.5

  # look at it again, stop it, go on, take it back
  spillway migrate status web-to-cloud -n shop
  spillway migrate pause web-to-cloud -n shop
  spillway migrate resume web-to-cloud -n shop
  spillway migrate rollback web-to-cloud -n shop`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if wish.choice, err = parseChoice(args, selector, all); err != nil {
				return err
			}
			if err := wish.complete(cmd.Flags(), to); err != nil {
				return err
			}
			return runMigrate(cmd.Context(), term, wish)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&to, "to", "", "where they go: the name of a peer, or home (peer/home for a peer of that name)")
	flags.BoolVar(&all, "all", false, "move all workloads of the namespace")
	flags.StringVarP(&selector, "selector", "l", "", "move the workloads with these labels, for example tier=front")
	wish.addFlags(flags)
	wish.gates.addFlags(flags)
	addAccessFlags(flags, &wish.local, nil)
	cmd.AddCommand(migrateStatusCommand(term), migrateListCommand(term), migratePauseCommand(term), migrateResumeCommand(term), migrateRollbackCommand(term))
	return cmd
}

// addFlags adds the flags that migrate and switch have in common.
func (w *migrateWish) addFlags(flags *pflag.FlagSet) {
	if w.command == "migrate" {
		flags.StringVarP(&w.namespace, "namespace", "n", "", "namespace of the workloads (default: that of the context)")
	}
	flags.StringVar(&w.name, "name", "", "name of the Migration (default: what is moved, and where to)")
	flags.BoolVar(&w.dryRun, "dry-run", false, "only say what would move where, what goes along, and what would break")
	w.wait.addFlags(flags, "everything has moved")
	flags.StringVarP(&w.format, "output", "o", "", "print one object at the end, as json or yaml (the steps then go to stderr)")
}

// complete checks the flags and makes the spec of the Migration.
func (w *migrateWish) complete(flags *pflag.FlagSet, to string) (err error) {
	if err := checkNamespace(w.namespace); err != nil {
		return err
	}
	if err := checkMigrationName(w.name); err != nil {
		return err
	}
	if w.to, err = parseDestination(to); err != nil {
		return err
	}
	if w.spec, err = w.gates.spec(flags); err != nil {
		return err
	}
	w.spec.Workloads = w.choice
	w.spec.To = v1alpha1.Destination{Peer: w.to.peer, Home: w.to.peer == ""}
	return checkFormat(w.format, formatJSON, formatYAML)
}

func switchCommand(term terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "switch",
		Short: "Move a whole namespace in one go",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(switchNamespaceCommand(term))
	return cmd
}

func switchNamespaceCommand(term terminal) *cobra.Command {
	wish := migrateWish{command: "switch"}
	var to string
	cmd := &cobra.Command{
		Use:   "namespace NAME --to PEER|home",
		Short: "Move all workloads of a namespace in one go, and back",
		Long: `Switch moves all workloads of a namespace in one step: the blue/green move. It is a Migration of them all, so that everything
that holds for spillway migrate holds here: the new pods are Ready before the old ones go where the workload allows it, and if
they do not become so, or the gate fails, everything goes back.`,
		Example: `  spillway switch namespace shop --to cloud --dry-run
  spillway switch namespace shop --to cloud --http http://web.shop.svc/healthz

  # and back
  spillway switch namespace shop --to home`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("Name it: spillway switch namespace NAME --to PEER", "switch takes one namespace, but got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			wish.namespace, wish.choice = args[0], v1alpha1.WorkloadChoice{All: true}
			if err := wish.complete(cmd.Flags(), to); err != nil {
				return err
			}
			return runMigrate(cmd.Context(), term, wish)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&to, "to", "", "where it goes: the name of a peer, or home (peer/home for a peer of that name)")
	wish.addFlags(flags)
	wish.gates.once = true
	wish.gates.addFlags(flags)
	addAccessFlags(flags, &wish.local, nil)
	return cmd
}

// runMigrate moves what wish says.
func runMigrate(ctx context.Context, term terminal, wish migrateWish) error {
	m := &migrateRun{wish: wish, steps: newSteps(term, wish.format)}
	err := m.run(ctx)
	return concludeMove(term, m.steps, wish.format, m.outcome(), err)
}

// moveOutcome is what the commands that move things print with -o json or yaml.
type moveOutcome struct {
	Command   string         `json:"command"`
	OK        bool           `json:"ok"`
	Changed   bool           `json:"changed"` // something was written to the cluster
	DryRun    bool           `json:"dryRun,omitempty"`
	Migration *migrationRow  `json:"migration,omitempty"`
	Check     *report        `json:"check,omitempty"`    // what would move where
	Replaces  []string       `json:"replaces,omitempty"` // Migrations that the new one takes the place of
	Drain     *drainOutcome  `json:"drain,omitempty"`
	Return    *returnOutcome `json:"return,omitempty"`
	Nodes     []string       `json:"nodes,omitempty"` // cordoned or uncordoned
	Steps     []step         `json:"steps"`
	Error     *mishap        `json:"error,omitempty"`
	Seconds   float64        `json:"seconds"`
}

// concludeMove ends a command that moves things: it adds to result what s saw, prints it where a machine reads along, and returns err.
func concludeMove(t terminal, s *steps, format string, result moveOutcome, err error) error {
	s.clear()
	if err != nil {
		result.Error = mishapOf(err)
	}
	result.OK, result.Changed, result.Steps, result.Seconds = err == nil, s.changed, s.done, seconds(s.took())
	if result.Steps == nil {
		result.Steps = []step{}
	}
	if format != "" {
		if printErr := printObject(t.out, format, result); printErr != nil && err == nil {
			err = fmt.Errorf("print result: %w", printErr)
		}
	}
	return asFailure(err)
}
