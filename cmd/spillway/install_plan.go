package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	semver "k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/yaml"
)

// plannedObject is what would become of one object.
type plannedObject struct {
	Object string `json:"object"` // kind namespace/name
	Deed   string `json:"deed"`   // create, change, keep or delete
}

// Deeds of a plan.
const (
	deedCreate = "create"
	deedChange = "change"
	deedKeep   = "keep"
	deedDelete = "delete"
)

// planObjects says what turns the objects of manifest had into those of manifest next. Sorted by object.
func planObjects(had, next string) ([]plannedObject, error) {
	before, err := byObject(had)
	if err != nil {
		return nil, err
	}
	after, err := byObject(next)
	if err != nil {
		return nil, err
	}
	var plan []plannedObject
	for name, text := range after {
		deed := deedCreate
		if old, there := before[name]; there && old == text {
			deed = deedKeep
		} else if there {
			deed = deedChange
		}
		plan = append(plan, plannedObject{name, deed})
	}
	for name := range before {
		if _, stays := after[name]; !stays {
			plan = append(plan, plannedObject{name, deedDelete})
		}
	}
	slices.SortFunc(plan, func(a, b plannedObject) int { return strings.Compare(a.Object, b.Object) })
	return plan, nil
}

// byObject splits a manifest by kind namespace/name.
func byObject(manifest string) (map[string]string, error) {
	objects := map[string]string{}
	for _, text := range releaseutil.SplitManifests(manifest) {
		var head struct {
			Kind     string `json:"kind"`
			Metadata struct {
				Name      string `json:"name"`
				Namespace string `json:"namespace"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			return nil, fmt.Errorf("read an object of the manifest: %w", err)
		}
		name := head.Metadata.Name
		if head.Metadata.Namespace != "" {
			name = head.Metadata.Namespace + "/" + name
		}
		if head.Kind != "" {
			objects[head.Kind+" "+name] = strings.TrimSpace(text)
		}
	}
	return objects, nil
}

// sayPlan says what would be done.
func (i *installRun) sayPlan(ctx context.Context) error {
	next, err := i.dryRelease(ctx)
	if err != nil {
		return err
	}
	had := ""
	if i.had != nil {
		had = i.had.Manifest
	}
	namespace, err := namespaceManifest()
	if err != nil {
		return err
	}
	i.manifest = namespace + next.Manifest
	if i.planned, err = planObjects(had, next.Manifest); err != nil {
		return err
	}
	if len(i.gateways) > 0 {
		i.steps.note("gateways of the tunnel: %s", strings.Join(i.gateways, ", "))
	}
	for _, object := range i.planned {
		i.steps.note("%-6s %s", object.Deed, object.Object)
	}
	i.steps.headline("This was a dry run: nothing was changed.")
	return nil
}

// namespaceManifest is what install makes before the chart, for those who apply the manifests themselves.
func namespaceManifest() (string, error) {
	want := wantNamespace()
	data, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": want.Name, "labels": want.Labels, "annotations": want.Annotations}})
	if err != nil {
		return "", fmt.Errorf("encode namespace %s: %w", want.Name, err)
	}
	return "---\n" + string(data), nil
}

func (i *installRun) dryRelease(ctx context.Context) (*release.Release, error) {
	if i.everDeployed() {
		return i.helm.upgrade(ctx, i.chart, i.values, true)
	}
	return i.helm.install(ctx, i.chart, i.values, true)
}

// checkVersion refuses steps between versions that nobody has tested.
func (i *installRun) checkVersion() error {
	if i.had == nil {
		if i.wish.command == "upgrade" {
			return problemf(fmt.Sprintf("Install it: spillway install --context %s.", i.home.context), "there is no installation to upgrade in %s", i.home.title())
		}
		return nil
	}
	if i.wish.force {
		return nil
	}
	return judgeVersions(i.had.Chart.Metadata.Version, i.chart.Metadata.Version)
}

// judgeVersions refuses to go back, and to skip a minor version.
func judgeVersions(from, to string) error {
	old, errOld := semver.ParseSemantic(from)
	wanted, errNew := semver.ParseSemantic(to)
	if errOld != nil || errNew != nil {
		return problemf("Repeat the command with --force if you know that they fit.", "versions %q and %q cannot be compared", from, to)
	}
	switch {
	case wanted.LessThan(old):
		return problemf("Use a newer spillway program; or go back to the release before with: spillway rollback. --force goes back all the same.",
			"version %s is installed, which is newer than %s", from, to)
	case wanted.Major() == old.Major() && wanted.Minor() > old.Minor()+1, wanted.Major() > old.Major()+1:
		return problemf(fmt.Sprintf("Upgrade to %d.%d first, with the spillway program of that version. --force skips it all the same.", old.Major(), old.Minor()+1),
			"from %s to %s is more than one minor version", from, to)
	}
	return nil
}

// howToGoBack adds to a failed upgrade how to go back.
func (i *installRun) howToGoBack(err error) error {
	var p *problem
	if err == nil || i.had == nil || !i.steps.changed || !errors.As(err, &p) {
		return err
	}
	back := fmt.Sprintf("To go back to revision %d (version %s): spillway rollback --context %s.", i.had.Version, i.had.Chart.Metadata.Version, i.home.context)
	return &problem{what: p.what, do: strings.TrimSpace(sentence(p.do) + " " + back), cause: err}
}

// answers is nil when c's API server answers and takes the credential.
func answers(ctx context.Context, c *cluster) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	_, err := c.get(ctx, "/api/v1")
	if apierrors.IsForbidden(err) {
		return problemf("Log in, or use a context whose user the API server knows.",
			"the API server of %s at %s does not even tell you what it serves (403): it takes you for anonymous", c.title(), c.server)
	}
	return explain(c, "read the list of kinds", err)
}
