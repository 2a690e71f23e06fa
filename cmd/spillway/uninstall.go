package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"helm.sh/helm/v3/pkg/release"
)

// Values of --pods.
const (
	podsHome   = "home"
	podsRefuse = "refuse"
)

// uninstallWish is what a user wants to be taken out of a cluster.
type uninstallWish struct {
	local        access
	pods         string // home or refuse
	evictTenants bool
	yes          bool
	dryRun       bool
	timeout      time.Duration
	format       string
}

// uninstallRun is one run of uninstall.
type uninstallRun struct {
	wish    uninstallWish
	term    terminal
	steps   *steps
	home    *cluster
	helm    *helm
	had     *release.Release
	seen    traces
	remains []string
}

// uninstalled is what uninstall prints with -o json or yaml.
type uninstalled struct {
	Command string   `json:"command"`
	OK      bool     `json:"ok"`
	Changed bool     `json:"changed"` // something was written to the cluster
	DryRun  bool     `json:"dryRun,omitempty"`
	Cluster *side    `json:"cluster,omitempty"`
	Version string   `json:"version,omitempty"` // of the chart that was there
	Traces  *traces  `json:"traces,omitempty"`  // what was there
	Remains []string `json:"remains,omitempty"` // what could not be removed, and how to do it later
	Steps   []step   `json:"steps"`
	Error   *mishap  `json:"error,omitempty"`
	Seconds float64  `json:"seconds"`
}

func (r *uninstalled) ended(s *steps, bad *mishap) {
	r.OK, r.Error, r.Changed, r.Steps, r.Seconds = bad == nil, bad, s.changed, s.done, seconds(s.took())
}

func uninstallCommand(term terminal) *cobra.Command {
	wish := uninstallWish{}
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take Spillway out of a cluster without a trace",
		Long: `Uninstall un-peers all peers, lets the agents take out of the nodes what they have put into them, removes the release, and
then everything that Spillway made while it ran: its kinds and their objects, what it made for tenants, virtual nodes, labels of
gateways that install chose, and its namespaces.

Pods that run in peers are a reason to refuse, unless --pods home says that they are to come home first: their controllers make
new ones here. Tenants whose pods run here are a reason to refuse, unless --evict-tenants says that they are to go.
It works when half of it is gone already, and a second run finds nothing.`,
		Example: `  # what is there, and what would happen?
  spillway uninstall --context home --dry-run

  # bring the pods home and remove everything
  spillway uninstall --context home --pods home

  # at a provider: the pods of other clusters are to go
  spillway uninstall --context cloud --evict-tenants --yes`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := wish.complete(); err != nil {
				return err
			}
			return runUninstall(cmd.Context(), term, wish)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	addAccessFlags(flags, &wish.local, nil)
	flags.StringVar(&wish.pods, "pods", podsRefuse, "what to do when pods of this cluster run in peers: home brings them home first, refuse lists them and stops")
	flags.BoolVar(&wish.evictTenants, "evict-tenants", false, "stop the pods of other clusters that run here, delete their claims, and forget these clusters")
	flags.BoolVar(&wish.dryRun, "dry-run", false, "only say what is there and what would happen")
	flags.BoolVarP(&wish.yes, "yes", "y", false, "do not ask")
	flags.DurationVar(&wish.timeout, "timeout", 5*time.Minute, "how long to wait in all")
	flags.StringVarP(&wish.format, "output", "o", "", "print one object at the end, as json or yaml (the steps then go to stderr)")
	return cmd
}

func (w *uninstallWish) complete() error {
	if w.timeout <= 0 {
		return usagef("Give a time like 60s or 5m.", "--timeout %s is not a time to wait", w.timeout)
	}
	if w.pods != podsHome && w.pods != podsRefuse {
		return usagef("Use home or refuse.", "--pods %q is not known", w.pods)
	}
	return checkFormat(w.format, formatJSON, formatYAML)
}

func runUninstall(ctx context.Context, term terminal, wish uninstallWish) error {
	ctx, cancel := context.WithTimeout(ctx, wish.timeout)
	defer cancel()
	u := &uninstallRun{wish: wish, term: term, steps: newSteps(term, wish.format)}
	err := u.run(ctx)
	result := uninstalled{Command: "uninstall", DryRun: wish.dryRun, Cluster: sideOf(u.home, ""), Traces: &u.seen, Remains: u.remains}
	if u.had != nil {
		result.Version = u.had.Chart.Metadata.Version
	}
	return finish(term, u.steps, wish.format, &result, err)
}

func (u *uninstallRun) run(ctx context.Context) (err error) {
	if u.home, err = open(u.wish.local, "cluster"); err != nil {
		return err
	}
	if u.helm, err = newHelm(u.home); err != nil {
		return err
	}
	if err := u.steps.run("the API server answers", func() (string, error) { return u.home.server, answers(ctx, u.home) }); err != nil {
		return err
	}
	if u.had, err = u.helm.last(); err != nil {
		return err
	}
	if u.seen, err = u.look(ctx); err != nil {
		return err
	}
	if u.seen.none() {
		u.steps.headline("There is nothing of Spillway in %s.", u.home.title())
		return nil
	}
	for _, line := range u.seen.lines() {
		u.steps.note("%s", line)
	}
	if err := judgeUninstall(u.seen, u.wish, u.home); err != nil {
		return err
	}
	if u.wish.dryRun {
		u.steps.headline("This was a dry run: nothing was changed.")
		return nil
	}
	if err := u.confirm(); err != nil {
		return err
	}
	if err := u.remove(ctx); err != nil {
		return err
	}
	u.farewell()
	return nil
}

// judgeUninstall refuses what would harm somebody who was not asked. Pure.
func judgeUninstall(seen traces, wish uninstallWish, home *cluster) error {
	if len(seen.Claims) > 0 {
		return problemf("Copy the data if you need it, then delete these PersistentVolumeClaims.",
			"volumes of Spillway are in use in %s; their data would be out of reach:%s", home.title(), listed(seen.Claims))
	}
	if len(seen.Offloaded) > 0 && wish.pods != podsHome {
		return problemf(fmt.Sprintf("Repeat the command with --pods home: their controllers make new ones here; or move them before, with spillway drain --context %s.", home.context),
			"%s of %s in peers:%s", plural(len(seen.Offloaded), "pod"), home.title()+verb(len(seen.Offloaded)), listed(seen.Offloaded))
	}
	if len(seen.Guests) > 0 && !wish.evictTenants {
		return problemf("Ask the owners of these clusters to un-peer; or repeat the command with --evict-tenants, which stops these pods and deletes these claims.",
			"pods or data of other clusters are in %s:%s", home.title(), listed(seen.Guests))
	}
	return nil
}

// verb is what for n things.
func verb(n int) string {
	if n == 1 {
		return " runs"
	}
	return " run"
}

// listed is names as a list, one a line, not too many.
func listed(names []string) string {
	const most = 20
	var text strings.Builder
	for i, name := range names {
		if i == most {
			fmt.Fprintf(&text, "\n  … and %d more", len(names)-most)
			break
		}
		text.WriteString("\n  - " + name)
	}
	return text.String()
}

// confirm asks on a terminal.
func (u *uninstallRun) confirm() error {
	in := int(os.Stdin.Fd())
	if u.wish.yes || !u.steps.style.tty || !term.IsTerminal(in) {
		return nil
	}
	u.steps.clear()
	fmt.Fprintf(u.steps.w, "Remove Spillway from %s at %s? [y/N] ", u.home.title(), u.home.server)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err == nil && (answer == "y" || answer == "yes") {
		return nil
	}
	return problemf("Answer y, or give --yes.", "not removed")
}

func (u *uninstallRun) farewell() {
	if len(u.remains) == 0 {
		u.steps.headline("Removed in %s; nothing is left.", shortDuration(u.steps.took()))
		return
	}
	u.steps.headline("Removed in %s, but for this:", shortDuration(u.steps.took()))
	for _, line := range u.remains {
		u.steps.headline("  - %s", line)
	}
}
