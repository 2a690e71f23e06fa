package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// controlWish is what a user wants of a Migration that is there.
type controlWish struct {
	local           access
	namespace, name string
	allNamespaces   bool
	wait            waiting // of those that change it
	format          string
}

// migrationRow is a Migration as it is printed.
type migrationRow struct {
	Namespace string                      `json:"namespace"`
	Name      string                      `json:"name"`
	To        string                      `json:"to"`
	Phase     string                      `json:"phase"`
	Step      int32                       `json:"step,omitempty"`
	Steps     []int32                     `json:"steps"`
	Share     int32                       `json:"share"`
	Moved     int32                       `json:"moved"`
	Pods      int32                       `json:"pods"`
	Message   string                      `json:"message,omitempty"`
	Workloads []v1alpha1.MigratedWorkload `json:"workloads,omitempty"`
	Since     *time.Time                  `json:"since,omitempty"`

	progress string
}

func rowOf(m *v1alpha1.Migration) migrationRow {
	r := migrationRow{Namespace: m.Namespace, Name: m.Name, To: toOf(m), Phase: string(phaseOf(m)), Step: m.Status.Step, Steps: stepsOf(m),
		Share: m.Status.Share, Message: m.Status.Message, Workloads: m.Status.Workloads, Since: timeOf(m.CreationTimestamp), progress: progressWords(m, false)}
	r.Moved, r.Pods = movedOf(m)
	return r
}

// controlCommand makes a command about one Migration.
func controlCommand(cmd *cobra.Command, wish *controlWish, do func(context.Context) error) *cobra.Command {
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("See which there are: spillway migrate list", "%s takes the name of one Migration, but got %d", cmd.Name(), len(args))
		}
		return checkMigrationName(args[0])
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		wish.name = args[0]
		if err := wish.check(); err != nil {
			return err
		}
		return do(cmd.Context())
	}
	wish.addFlags(cmd)
	return cmd
}

func (w *controlWish) check() error {
	if err := checkNamespace(w.namespace); err != nil {
		return err
	}
	return checkFormat(w.format, formatJSON, formatYAML)
}

func (w *controlWish) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&w.namespace, "namespace", "n", "", "namespace of the Migration (default: that of the context)")
	flags.StringVarP(&w.format, "output", "o", "", "print json or yaml")
	addAccessFlags(flags, &w.local, nil)
}

func migrateStatusCommand(term terminal) *cobra.Command {
	var wish controlWish
	return controlCommand(&cobra.Command{
		Use:   "status NAME",
		Short: "Show how far a Migration is, and what it waits for",
		Example: `  spillway migrate status web-to-cloud -n shop
  spillway migrate status web-to-cloud -n shop -o json`,
	}, &wish, func(ctx context.Context) error {
		c, m, err := wish.read(ctx)
		if err != nil {
			return asFailure(err)
		}
		if wish.format != "" {
			return asFailure(printObject(term.out, wish.format, rowOf(m)))
		}
		return asFailure(printMigration(term.out, m, c.clock.now()))
	})
}

// read reads the Migration that is meant.
func (w controlWish) read(ctx context.Context) (*cluster, *v1alpha1.Migration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*reachTimeout)
	defer cancel()
	c, namespace, err := openIn(w.local, w.namespace)
	if err != nil {
		return nil, nil, err
	}
	if err := reach(ctx, c); err != nil {
		return nil, nil, err
	}
	m, err := c.migrations(namespace).Get(ctx, w.name, metav1.GetOptions{})
	if err == nil {
		return c, m, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, nil, explain(c, "read Migration "+w.name, err)
	}
	others, err := listMigrations(ctx, c, namespace)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for i := range others {
		names = append(names, others[i].Name)
	}
	do := "There is none. Those of other namespaces: spillway migrate list --all-namespaces"
	if len(names) > 0 {
		do = "There are: " + shortened(names, 10) + "."
	}
	return nil, nil, problemf(do, "there is no Migration %q in namespace %q of %s", w.name, namespace, c.title())
}

// printMigration shows one Migration.
func printMigration(w io.Writer, m *v1alpha1.Migration, now time.Time) error {
	var text strings.Builder
	fmt.Fprintf(&text, "Migration %s/%s to %s: %s\n", m.Namespace, m.Name, toOf(m), progressWords(m, true))
	if what := whatNext(m); what != "" {
		fmt.Fprintf(&text, "  → %s\n", what)
	}
	if m.Status.StepTime != nil && !isOver(m) {
		fmt.Fprintf(&text, "  this step began %s ago\n", duration.HumanDuration(now.Sub(m.Status.StepTime.Time)))
	}
	for _, c := range m.Status.Conditions {
		fmt.Fprintf(&text, "  %-14s %s (%s): %s\n", c.Type, c.Status, c.Reason, orDash(c.Message))
	}
	if len(m.Status.Workloads) > 0 {
		table := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
		fmt.Fprintln(table, "\nWORKLOAD\tFROM\tMOVED")
		for _, moved := range m.Status.Workloads {
			from := moved.From
			if from == "" {
				from = placeHome
			}
			fmt.Fprintf(table, "%s\t%s\t%d/%d\n", words(moved.WorkloadName), from, moved.Moved, moved.Replicas)
		}
		if err := table.Flush(); err != nil {
			return fmt.Errorf("print workloads: %w", err)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// whatNext says what somebody may do about m; empty: nothing.
func whatNext(m *v1alpha1.Migration) string {
	switch phaseOf(m) {
	case v1alpha1.MigrationPaused:
		return fmt.Sprintf("Go on: spillway migrate resume %s -n %s; take it back: spillway migrate rollback %[1]s -n %[2]s", m.Name, m.Namespace)
	case v1alpha1.MigrationRefused:
		return "Nothing has moved. Mend that and migrate again."
	case v1alpha1.MigrationRolledBack:
		return "What had moved is where it was. Mend that and migrate again."
	}
	return ""
}

func migrateListCommand(term terminal) *cobra.Command {
	var wish controlWish
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the Migrations of a namespace",
		Example: `  spillway migrate list -n shop
  spillway migrate list --all-namespaces`,
		Args: noArguments,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := wish.check(); err != nil {
			return err
		}
		return asFailure(runMigrateList(cmd.Context(), term, wish))
	}
	wish.addFlags(cmd)
	cmd.Flags().BoolVarP(&wish.allNamespaces, "all-namespaces", "A", false, "of all namespaces")
	return cmd
}

func runMigrateList(ctx context.Context, term terminal, wish controlWish) error {
	ctx, cancel := context.WithTimeout(ctx, 2*reachTimeout)
	defer cancel()
	c, namespace, err := openIn(wish.local, wish.namespace)
	if err != nil {
		return err
	}
	if err := reach(ctx, c); err != nil {
		return err
	}
	if wish.allNamespaces {
		namespace = metav1.NamespaceAll
	}
	list, err := listMigrations(ctx, c, namespace)
	if err != nil {
		return err
	}
	rows := []migrationRow{}
	for i := range list {
		rows = append(rows, rowOf(&list[i]))
	}
	slices.SortFunc(rows, func(a, b migrationRow) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	if wish.format != "" {
		return printObject(term.out, wish.format, rows)
	}
	return printMigrations(term.out, rows, namespace, c.clock.now())
}

func printMigrations(w io.Writer, rows []migrationRow, namespace string, now time.Time) error {
	if len(rows) == 0 {
		where := "in this cluster"
		if namespace != "" {
			where = "in namespace " + namespace
		}
		_, err := fmt.Fprintf(w, "There is no Migration %s. Make one with: spillway migrate deployment/NAME --to PEER\n", where)
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NAMESPACE\tNAME\tTO\tPHASE\tSHARE\tMOVED\tAGE")
	for _, r := range rows {
		age := "-"
		if r.Since != nil {
			age = duration.HumanDuration(now.Sub(*r.Since))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d%%\t%d/%d\t%s\n", r.Namespace, r.Name, r.To, r.Phase, r.Share, r.Moved, r.Pods, age)
	}
	return table.Flush()
}
