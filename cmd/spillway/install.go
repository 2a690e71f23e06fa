package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
)

// installWish is what a user wants to be installed or upgraded.
type installWish struct {
	command       string // install or upgrade
	local         access
	values        valueFlags
	chart         string   // a path; empty: the embedded one
	gatewayNodes  []string // nil: chosen when there are none
	noTunnel      bool
	skipPreflight bool
	force         bool // upgrade although versions are skipped or it goes back
	dryRun        bool
	noWait        bool
	yes           bool
	timeout       time.Duration
	format        string
}

// installRun is one run of install or upgrade.
type installRun struct {
	wish     installWish
	term     terminal
	steps    *steps
	home     *cluster
	helm     *helm
	chart    *chart.Chart
	values   map[string]any // of the release to be
	had      *release.Release
	facts    facts
	findings []preflightFinding
	gateways []string // nodes that this run labels
	planned  []plannedObject
	manifest string
	revision int
}

func installCommand(term terminal) *cobra.Command {
	wish := installWish{command: "install"}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install Spillway in a cluster",
		Long: `Install checks whether the cluster is fit for Spillway, installs the chart that this program carries and waits until all
of it works. The release is called spillway, in the namespace spillway-system, and Helm knows it.

It may be run again: what is there already stays, what is missing is made, and a second run changes nothing. Values that are
given are put over those of the release. When no node is labelled spillway.dev/gateway, up to two nodes are chosen as gateways
of the tunnel.`,
		Example: `  # is the cluster fit, and what would be made?
  spillway install --context home --dry-run

  # install
  spillway install --context home

  # the nodes that carry the tunnel, a mirror of the image, and more memory
  spillway install --gateway-nodes edge-0,edge-1 --set image.repository=mirror.example/spillwayd --values mine.yaml

  # the objects alone, for review or GitOps
  spillway install --dry-run -o yaml`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := wish.complete(); err != nil {
				return err
			}
			return runInstall(cmd.Context(), term, wish)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	addAccessFlags(flags, &wish.local, nil)
	addReleaseFlags(flags, &wish)
	flags.StringSliceVar(&wish.gatewayNodes, "gateway-nodes", nil, "nodes to label as gateways of the tunnel (default: up to two when none is labelled)")
	flags.BoolVar(&wish.noTunnel, "no-tunnel", false, "install no agents on the nodes: pods of two clusters do not reach each other, unless their networks are joined already")
	return cmd
}

// addReleaseFlags adds what install and upgrade have in common.
func addReleaseFlags(flags *pflag.FlagSet, wish *installWish) {
	flags.StringArrayVarP(&wish.values.files, "values", "f", nil, "YAML file with values of the chart (may be given several times; - reads stdin)")
	flags.StringArrayVar(&wish.values.set, "set", nil, "one value of the chart, PATH=VALUE (may be given several times)")
	flags.BoolVar(&wish.values.reset, "reset-values", false, "forget the values that the release has; only those given now count")
	flags.StringVar(&wish.chart, "chart", "", "folder or archive of Spillway's chart (default: the chart in this program)")
	flags.BoolVar(&wish.dryRun, "dry-run", false, "only check, and say what would be made or changed")
	flags.BoolVar(&wish.skipPreflight, "skip-preflight", false, "do not check whether the cluster is fit")
	flags.BoolVar(&wish.force, "force", false, "go on although versions are skipped, or although another installation seems to be under way")
	flags.BoolVar(&wish.noWait, "no-wait", false, "do not wait until everything works")
	flags.DurationVar(&wish.timeout, "timeout", 5*time.Minute, "how long to wait in all")
	flags.StringVarP(&wish.format, "output", "o", "", "print one object at the end, as json or yaml (the steps then go to stderr); with --dry-run, yaml prints the manifests")
}

// complete checks the flags.
func (w *installWish) complete() error {
	if w.timeout <= 0 {
		return usagef("Give a time like 60s or 5m.", "--timeout %s is not a time to wait", w.timeout)
	}
	if w.noTunnel && len(w.gatewayNodes) > 0 {
		return usagef("Leave one of the two out.", "--no-tunnel leaves out what --gateway-nodes is about")
	}
	return checkFormat(w.format, formatJSON, formatYAML)
}

// installed is what install and upgrade print with -o json or yaml.
type installed struct {
	Command   string             `json:"command"` // install or upgrade
	OK        bool               `json:"ok"`
	Changed   bool               `json:"changed"` // something was written to the cluster
	DryRun    bool               `json:"dryRun,omitempty"`
	Cluster   *side              `json:"cluster,omitempty"`
	Version   string             `json:"version,omitempty"`  // of the chart that is to be there
	From      string             `json:"from,omitempty"`     // of the chart that was there
	Revision  int                `json:"revision,omitempty"` // of the Helm release
	Preflight []preflightFinding `json:"preflight,omitempty"`
	Gateways  []string           `json:"gateways,omitempty"` // nodes that were labelled
	Objects   []plannedObject    `json:"objects,omitempty"`  // with --dry-run
	Steps     []step             `json:"steps"`
	Error     *mishap            `json:"error,omitempty"`
	Seconds   float64            `json:"seconds"`
}

// runInstall installs or upgrades as wish says.
func runInstall(ctx context.Context, term terminal, wish installWish) error {
	ctx, cancel := context.WithTimeout(ctx, wish.timeout)
	defer cancel()
	run := &installRun{wish: wish, term: term, steps: newSteps(term, wish.format)}
	err := run.run(ctx)
	result := run.result()
	shown := wish.format
	if err == nil && wish.dryRun && shown == formatYAML {
		_, err = fmt.Fprint(term.out, run.manifest)
		shown = ""
	}
	return finish(run.term, run.steps, shown, &result, err)
}

func (i *installRun) result() installed {
	result := installed{Command: i.wish.command, DryRun: i.wish.dryRun, Cluster: sideOf(i.home, ""), Preflight: i.findings,
		Gateways: i.gateways, Objects: i.planned, Revision: i.revision}
	if i.chart != nil {
		result.Version = i.chart.Metadata.Version
	}
	if i.had != nil {
		result.From = i.had.Chart.Metadata.Version
	}
	return result
}

// ended is set by finish.
func (r *installed) ended(s *steps, bad *mishap) {
	r.OK, r.Error, r.Changed, r.Steps, r.Seconds = bad == nil, bad, s.changed, s.done, seconds(s.took())
}

func (i *installRun) run(ctx context.Context) (err error) {
	if err := i.open(); err != nil {
		return err
	}
	if err := i.steps.run("the API server answers", func() (string, error) { return i.home.server, answers(ctx, i.home) }); err != nil {
		return err
	}
	if i.had, err = i.helm.last(); err != nil {
		return err
	}
	if err := i.decideValues(); err != nil {
		return err
	}
	if err := i.checkVersion(); err != nil {
		return err
	}
	if err := i.preflight(ctx); err != nil {
		return err
	}
	if i.gateways, err = i.chooseGateways(); err != nil {
		return err
	}
	if i.wish.dryRun {
		return i.sayPlan(ctx)
	}
	return i.apply(ctx)
}

// open reads what the user named. It talks to no cluster.
func (i *installRun) open() (err error) {
	if i.home, err = open(i.wish.local, "cluster"); err != nil {
		return err
	}
	if i.helm, err = newHelm(i.home); err != nil {
		return err
	}
	if i.chart, err = loadChart(i.wish.chart); err != nil {
		return err
	}
	i.values, err = i.wish.values.read()
	return err
}

// decideValues puts what the user said over what the release has.
func (i *installRun) decideValues() error {
	if i.wish.noTunnel {
		i.values = mergeValues(map[string]any{"node": map[string]any{"enabled": false}}, i.values)
	}
	if i.had != nil && !i.wish.values.reset {
		i.values = mergeValues(i.values, keptValues(i.had.Config))
	}
	return checkValues(i.chart, i.values)
}

// keptValues are those of a release that outlive it: all but those with which an uninstallation began.
func keptValues(values map[string]any) map[string]any {
	kept := maps.Clone(values)
	if node, ok := kept["node"].(map[string]any); ok && isCleaning(values) {
		node = maps.Clone(node)
		delete(node, "clean")
		if node["maxUnavailable"] == allAtOnce {
			delete(node, "maxUnavailable")
		}
		kept["node"] = node
		if len(node) == 0 {
			delete(kept, "node")
		}
	}
	return kept
}

// apply makes everything and waits for it.
func (i *installRun) apply(ctx context.Context) error {
	if err := i.steps.run("namespace spillway-system is there", func() (string, error) { return i.ensureNamespace(ctx) }); err != nil {
		return err
	}
	if err := i.labelGateways(ctx); err != nil {
		return err
	}
	if i.had != nil {
		next, err := i.dryRelease(ctx)
		if err == nil {
			err = i.checkStored(ctx, next.Manifest)
		}
		if err != nil {
			return err
		}
	}
	if err := i.steps.run("the chart is installed", func() (string, error) { return i.release(ctx) }); err != nil {
		return i.howToGoBack(err)
	}
	if !i.wish.noWait {
		if err := i.awaitReady(ctx); err != nil {
			return i.howToGoBack(err)
		}
	}
	i.farewell()
	return nil
}

// release makes the next release, unless the one that is there is the same.
func (i *installRun) release(ctx context.Context) (string, error) {
	same, err := i.nothingToDo(ctx)
	if err != nil {
		return "", err
	}
	if same {
		i.revision = i.had.Version
		return fmt.Sprintf("%s, as it was", i.had.Chart.Metadata.Version), nil
	}
	i.steps.changed = true
	if err := i.helm.unlock(i.had, i.wish.force); err != nil {
		return "", err
	}
	var made *release.Release
	if i.everDeployed() {
		made, err = i.helm.upgrade(ctx, i.chart, i.values, false)
	} else {
		made, err = i.helm.install(ctx, i.chart, i.values, false)
	}
	if err != nil {
		return "", err
	}
	i.revision = made.Version
	return fmt.Sprintf("%s, revision %d", made.Chart.Metadata.Version, made.Version), nil
}

// nothingToDo says whether the release that is there is the one that is wanted, with all of its objects.
func (i *installRun) nothingToDo(ctx context.Context) (bool, error) {
	if i.had == nil || i.had.Info.Status != release.StatusDeployed {
		return false, nil
	}
	next, err := i.helm.upgrade(ctx, i.chart, i.values, true)
	if err != nil {
		return false, err
	}
	if next.Manifest != i.had.Manifest || next.Chart.Metadata.Version != i.had.Chart.Metadata.Version || !sameValues(next.Config, i.had.Config) {
		return false, nil
	}
	missing, err := i.helm.missing(i.had.Manifest)
	return len(missing) == 0, err
}

// everDeployed says whether Helm can upgrade: an installation that failed at once is made anew.
func (i *installRun) everDeployed() bool {
	if i.had == nil {
		return false
	}
	all, err := i.helm.config.Releases.History(releaseName)
	return err == nil && slices.ContainsFunc(all, func(r *release.Release) bool {
		return r.Info.Status == release.StatusDeployed || r.Info.Status == release.StatusSuperseded
	})
}

func (i *installRun) farewell() {
	verdict := "Installed"
	if i.wish.command == "upgrade" || i.had != nil {
		verdict = "Upgraded"
	}
	if !i.steps.changed {
		i.steps.headline("Spillway %s is installed already: nothing to do.", i.chart.Metadata.Version)
		return
	}
	text := fmt.Sprintf("%s in %s.", verdict, shortDuration(i.steps.took()))
	if i.wish.noWait {
		text += " Whether its pods start was not waited for."
	}
	if i.had == nil {
		text += fmt.Sprintf(" When the other cluster has it too:\n  spillway peer --context %s --remote-context OTHER", i.home.context)
	}
	i.steps.headline("%s", text)
}
