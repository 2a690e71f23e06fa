package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/yaml"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func upgradeCommand(term terminal) *cobra.Command {
	wish := installWish{command: "upgrade"}
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Upgrade Spillway in a cluster to the version of this program",
		Long: `Upgrade replaces the chart of the release by the one that this program carries, CRDs first, and waits until all of it works.
The values of the release stay; those given now are put over them. Pods that run in peers are left alone.

It goes from one minor version to the next. When it fails it says how to go back: spillway rollback.`,
		Example: `  # what would change?
  spillway upgrade --context home --dry-run

  # upgrade, and keep the values
  spillway upgrade --context home

  # change a value
  spillway upgrade --set controller.replicas=3`,
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
	return cmd
}

// rollbackCommand goes back to a release before the one that is there.
func rollbackCommand(term terminal) *cobra.Command {
	wish, revision := installWish{command: "rollback"}, 0
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Go back to the release of Spillway before the last one",
		Long: `Rollback makes the objects of an earlier revision of the release the wanted ones again, and waits until all of it works.
Pods that run in peers are left alone.`,
		Example: `  # back to the last revision that worked
  spillway rollback --context home

  # back to a certain one; helm -n spillway-system history spillway lists them
  spillway rollback --revision 3`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := wish.complete(); err != nil {
				return err
			}
			if revision < 0 {
				return usagef("Give a number as in helm history, or leave it out.", "--revision %d is not a revision", revision)
			}
			return runRollback(cmd.Context(), term, wish, revision)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	addAccessFlags(flags, &wish.local, nil)
	flags.IntVar(&revision, "revision", 0, "revision of the release to go back to (default: the last one before this that was in use)")
	flags.BoolVar(&wish.force, "force", false, "go on although another installation seems to be under way")
	flags.BoolVar(&wish.dryRun, "dry-run", false, "only say which revision it would be, and what would change")
	flags.BoolVar(&wish.noWait, "no-wait", false, "do not wait until everything works")
	flags.DurationVar(&wish.timeout, "timeout", 5*time.Minute, "how long to wait in all")
	flags.StringVarP(&wish.format, "output", "o", "", "print one object at the end, as json or yaml (the steps then go to stderr)")
	return cmd
}

func runRollback(ctx context.Context, term terminal, wish installWish, revision int) error {
	ctx, cancel := context.WithTimeout(ctx, wish.timeout)
	defer cancel()
	run := &installRun{wish: wish, term: term, steps: newSteps(term, wish.format)}
	err := run.goBack(ctx, revision)
	result := run.result()
	return finish(term, run.steps, wish.format, &result, err)
}

// goBack makes an earlier revision the wanted one.
func (i *installRun) goBack(ctx context.Context, revision int) (err error) {
	if i.home, err = open(i.wish.local, "cluster"); err != nil {
		return err
	}
	if i.helm, err = newHelm(i.home); err != nil {
		return err
	}
	if err := i.steps.run("the API server answers", func() (string, error) { return i.home.server, answers(ctx, i.home) }); err != nil {
		return err
	}
	if i.had, err = i.helm.last(); err != nil {
		return err
	}
	if i.had == nil {
		return problemf("There is nothing to go back to.", "there is no release of Spillway in %s", i.home.title())
	}
	history, err := i.helm.config.Releases.History(releaseName)
	if err != nil {
		return explain(i.home, "read the history of the release", err)
	}
	target, err := pickRevision(history, i.had.Version, revision)
	if err != nil {
		return err
	}
	i.chart = target.Chart
	if i.planned, err = planObjects(i.had.Manifest, target.Manifest); err != nil {
		return err
	}
	if err := i.checkStored(ctx, target.Manifest); err != nil {
		return err
	}
	if i.wish.dryRun {
		i.steps.headline("It would be revision %d again, version %s. This was a dry run: nothing was changed.", target.Version, target.Chart.Metadata.Version)
		return nil
	}
	return i.rollBack(ctx, target)
}

func (i *installRun) rollBack(ctx context.Context, target *release.Release) error {
	err := i.steps.run("the release is what it was", func() (string, error) {
		i.steps.changed = true
		if err := i.helm.unlock(i.had, i.wish.force); err != nil {
			return "", err
		}
		r := action.NewRollback(i.helm.config)
		r.Version, r.MaxHistory, r.Timeout = target.Version, keptRevisions, helmTimeout(ctx)
		i.revision = i.had.Version + 1
		return fmt.Sprintf("revision %d, version %s", target.Version, target.Chart.Metadata.Version), i.helm.explain("roll the release back", r.Run(releaseName))
	})
	if err != nil || i.wish.noWait {
		return err
	}
	if err := i.awaitReady(ctx); err != nil {
		return err
	}
	i.steps.headline("Back at version %s after %s.", target.Chart.Metadata.Version, shortDuration(i.steps.took()))
	return nil
}

// pickRevision finds the release to go back to: the one with the number said, or the newest before the current one that was in
// use; one that an uninstallation made is none.
func pickRevision(history []*release.Release, current, said int) (*release.Release, error) {
	var best *release.Release
	for _, r := range history {
		switch {
		case r.Version >= current:
		case said != 0 && r.Version == said:
			return r, nil
		case said == 0 && r.Info.Status == release.StatusSuperseded && !isCleaning(r.Config) && (best == nil || r.Version > best.Version):
			best = r
		}
	}
	if best != nil {
		return best, nil
	}
	if said != 0 {
		return nil, problemf("`helm -n "+v1alpha1.SystemNamespace+" history "+releaseName+"` lists them.", "there is no revision %d before revision %d", said, current)
	}
	return nil, problemf("Upgrade again, or name one with --revision.", "no revision before %d was in use", current)
}

// isCleaning says whether values turn the agents into ones that clean up.
func isCleaning(values map[string]any) bool {
	node, _ := values["node"].(map[string]any)
	clean, _ := node["clean"].(bool)
	return clean
}

// checkStored refuses CRDs that no longer know a version in which objects are stored: the API server would refuse them in the
// middle of the upgrade.
func (i *installRun) checkStored(ctx context.Context, manifest string) error {
	objects, err := byObject(manifest)
	if err != nil {
		return err
	}
	for name, text := range objects {
		crd, is := strings.CutPrefix(name, "CustomResourceDefinition ")
		if !is {
			continue
		}
		stored, err := storedVersions(ctx, i.home, crd)
		if err != nil {
			return explain(i.home, "read CustomResourceDefinition "+crd, err)
		}
		var next customKind
		if err := yaml.Unmarshal([]byte(text), &next); err != nil {
			return fmt.Errorf("read CustomResourceDefinition %s of the chart: %w", crd, err)
		}
		if lost := next.lacks(stored); len(lost) > 0 {
			return problemf("Go step by step, with a version that knows both and migrates what is stored.",
				"objects of %s are stored as %s, which the other version does not know", crd, strings.Join(lost, ", "))
		}
	}
	return nil
}

// customKind is what matters of a CustomResourceDefinition.
type customKind struct {
	Spec struct {
		Versions []struct {
			Name string `json:"name"`
		} `json:"versions"`
	} `json:"spec"`
	Status struct {
		StoredVersions []string `json:"storedVersions"`
	} `json:"status"`
}

// lacks are those of stored that k does not have.
func (k customKind) lacks(stored []string) []string {
	var lost []string
	for _, version := range stored {
		has := false
		for _, known := range k.Spec.Versions {
			has = has || known.Name == version
		}
		if !has {
			lost = append(lost, version)
		}
	}
	slices.Sort(lost)
	return lost
}

// storedVersions are those in which objects of the kind may be stored; none when there is no such kind.
func storedVersions(ctx context.Context, c *cluster, crd string) ([]string, error) {
	data, err := c.get(ctx, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"+crd)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var have customKind
	if err := json.Unmarshal(data, &have); err != nil {
		return nil, fmt.Errorf("decode CustomResourceDefinition %s: %w", crd, err)
	}
	return have.Status.StoredVersions, nil
}
