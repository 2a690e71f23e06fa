package charts

import (
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/yaml"
)

const (
	// ReleaseName and ReleaseNamespace are those of `spillway install`; in another namespace the chart refuses to be.
	ReleaseName      = "spillway"
	ReleaseNamespace = "spillway-system"

	newestKubernetes = "v1.36.0"
)

// RenderOptions says for which cluster and release to render.
type RenderOptions struct {
	// Name and Namespace of the release; empty means ReleaseName and ReleaseNamespace.
	Name, Namespace string
	// KubeVersion is the version of the API server, such as v1.34.2; empty means the newest that Spillway knows.
	KubeVersion string
	// APIVersions are those beside Kubernetes' own that the cluster serves, such as monitoring.coreos.com/v1 or
	// monitoring.coreos.com/v1/ServiceMonitor.
	APIVersions []string
	// Upgrade renders for a release that is there already.
	Upgrade bool
}

// Manifest is one object of the rendered chart.
type Manifest struct {
	// Path is the template that it comes from, relative to the chart, such as templates/rbac.yaml.
	Path string
	// APIVersion, Kind, Namespace and Name of the object; Namespace is empty where the object does not say one.
	APIVersion, Kind, Namespace, Name string
	// Text is the YAML document, with the comments of the template.
	Text string
}

// Render gives the chart's objects for values (nil: the defaults) in the order in which Helm installs them. It returns an error that
// says where, when the schema does not know a value or the value is wrong.
func Render(values map[string]any, o RenderOptions) ([]Manifest, error) {
	c, err := Load()
	if err != nil {
		return nil, err
	}
	return render(c, values, o)
}

// Join is one YAML stream of all manifests, each under the name of its template.
func Join(all []Manifest) []byte {
	var b strings.Builder
	for _, m := range all {
		fmt.Fprintf(&b, "---\n# Source: %s\n%s\n", m.Path, strings.TrimSpace(m.Text))
	}
	return []byte(b.String())
}

func render(c *chart.Chart, values map[string]any, o RenderOptions) ([]Manifest, error) {
	capabilities, err := o.capabilities()
	if err != nil {
		return nil, err
	}
	if wants, has := c.Metadata.KubeVersion, capabilities.KubeVersion.Version; !chartutil.IsCompatibleRange(wants, has) {
		return nil, fmt.Errorf("render the chart: Spillway needs Kubernetes %s, the cluster has %s", wants, has)
	}
	release := chartutil.ReleaseOptions{
		Name: orElse(o.Name, ReleaseName), Namespace: orElse(o.Namespace, ReleaseNamespace),
		Revision: 1, IsInstall: !o.Upgrade, IsUpgrade: o.Upgrade,
	}
	all, err := chartutil.ToRenderValues(c, values, release, capabilities)
	if err != nil {
		return nil, fmt.Errorf("check the values: %w", err)
	}
	texts, err := engine.Render(c, all)
	if err != nil {
		return nil, fmt.Errorf("render the chart: %w", err)
	}
	for path := range texts {
		if strings.HasSuffix(path, "NOTES.txt") {
			delete(texts, path)
		}
	}
	_, sorted, err := releaseutil.SortManifests(texts, capabilities.APIVersions, releaseutil.InstallOrder)
	if err != nil {
		return nil, fmt.Errorf("read the rendered chart: %w", err)
	}
	return manifests(c.Name(), sorted)
}

func manifests(chart string, sorted []releaseutil.Manifest) ([]Manifest, error) {
	out := make([]Manifest, 0, len(sorted))
	for _, s := range sorted {
		m := Manifest{Path: strings.TrimPrefix(s.Name, chart+"/"), Text: s.Content}
		if err := m.identify(); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func (o RenderOptions) capabilities() (*chartutil.Capabilities, error) {
	version, err := chartutil.ParseKubeVersion(orElse(o.KubeVersion, newestKubernetes))
	if err != nil {
		return nil, fmt.Errorf("read the Kubernetes version %q: %w", o.KubeVersion, err)
	}
	c := chartutil.DefaultCapabilities.Copy()
	c.KubeVersion = *version
	c.APIVersions = append(slices.Clone(chartutil.DefaultVersionSet), o.APIVersions...)
	return c, nil
}

func (m *Manifest) identify() error {
	var head struct {
		APIVersion, Kind string
		Metadata         struct{ Name, Namespace string }
	}
	if err := yaml.Unmarshal([]byte(m.Text), &head); err != nil {
		return fmt.Errorf("read %s: %w", m.Path, err)
	}
	m.APIVersion, m.Kind, m.Name, m.Namespace = head.APIVersion, head.Kind, head.Metadata.Name, head.Metadata.Namespace
	return nil
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
