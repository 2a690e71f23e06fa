package charts

import (
	"flag"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the files that tests compare with")

// examples are the documented value sets, and the defaults under the name of values.yaml.
func examples(t *testing.T) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{"values.yaml": {}}
	files, err := fs.Glob(Spillway(), "examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		out[path.Base(file)] = valuesOf(t, file)
	}
	return out
}

func valuesOf(t *testing.T, file string) map[string]any {
	t.Helper()
	text, err := fs.ReadFile(Spillway(), file)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return values
}

func TestLint_NoExampleHasAnErrorOrAWarning(t *testing.T) {
	for name, values := range examples(t) {
		t.Run(name, func(t *testing.T) {
			for _, m := range lint.All("spillway", values, ReleaseNamespace, true).Messages {
				if m.Severity > support.InfoSev {
					t.Error(m)
				}
			}
		})
	}
}

func TestRender_Defaults(t *testing.T) {
	const golden = "testdata/defaults.yaml"
	all, err := Render(nil, RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kept := all[:0]
	for _, m := range all {
		if m.Kind != "CustomResourceDefinition" { // they are generated, and long
			kept = append(kept, m)
		}
	}
	got := Join(kept)
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("the defaults give something else (-want +got); write it with -update:\n%s", diff)
	}
}

func TestRender_ObjectsComeInTheOrderOfTheirInstallation(t *testing.T) {
	all, err := Render(nil, RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, m := range all {
		at[m.Kind+"/"+m.Name] = i + 1
	}
	order := []string{"Namespace/spillway-node", "ServiceAccount/spillway-node", "CustomResourceDefinition/peerings.spillway.dev",
		"ClusterRole/spillwayd", "ClusterRoleBinding/spillwayd", "Deployment/spillway-controller", "MutatingWebhookConfiguration/spillway-webhook"}
	for i, name := range order {
		if at[name] == 0 || i > 0 && at[name] < at[order[i-1]] {
			t.Errorf("%s is object %d of %d, after %v", name, at[name], len(all), order[:i])
		}
	}
}

func TestRender_EachObjectSaysWhoseItIs(t *testing.T) {
	for name, values := range examples(t) {
		all, err := Render(values, RenderOptions{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, m := range all {
			if !strings.Contains(m.Text, "app.kubernetes.io/part-of: spillway") || !strings.Contains(m.Text, "app.kubernetes.io/managed-by: Helm") {
				t.Errorf("%s: %s %s has not the labels of the chart", name, m.Kind, m.Name)
			}
			if keep := strings.Contains(m.Text, "helm.sh/resource-policy: keep"); keep != (m.Kind == "CustomResourceDefinition") {
				t.Errorf("%s: %s %s stays when the release goes: %t", name, m.Kind, m.Name, keep)
			}
		}
	}
}

func TestRender_NothingWorksOutsideOfWhatIsEnabled(t *testing.T) {
	off := map[string]any{"enabled": false}
	all, err := Render(map[string]any{"controller": off, "node": off}, RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rights := regexp.MustCompile(`^(Namespace|ServiceAccount|StorageClass|CSIDriver|CustomResourceDefinition|(Cluster)?Role(Binding)?|` +
		`MutatingWebhookConfiguration|ValidatingAdmissionPolicy(Binding)?)$`)
	for _, m := range all {
		if !rights.MatchString(m.Kind) {
			t.Errorf("a release without programs has %s %s", m.Kind, m.Name)
		}
	}
}

func TestRender_Refusals(t *testing.T) {
	for name, row := range map[string]struct {
		o    RenderOptions
		want string
	}{
		"another namespace": {RenderOptions{Namespace: "default"}, "Spillway lives in the namespace spillway-system and not in default"},
		"old Kubernetes":    {RenderOptions{KubeVersion: "v1.32.9"}, "Spillway needs Kubernetes >= 1.33.0-0, the cluster has v1.32.9"},
		"no version":        {RenderOptions{KubeVersion: "new"}, `read the Kubernetes version "new"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Render(nil, row.o); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q", err, row.want)
			}
		})
	}
}
