package charts

import (
	"strings"
	"testing"
)

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
		"ClusterRole/spillwayd", "ClusterRoleBinding/spillwayd", "MutatingWebhookConfiguration/spillway-webhook"}
	for i, name := range order {
		if at[name] == 0 || i > 0 && at[name] < at[order[i-1]] {
			t.Errorf("%s is object %d of %d, after %v", name, at[name], len(all), order[:i])
		}
	}
}

func TestRender_RefusesOtherNamespaces(t *testing.T) {
	_, err := Render(nil, RenderOptions{Namespace: "default"})
	if err == nil || !strings.Contains(err.Error(), "Spillway lives in the namespace spillway-system and not in default") {
		t.Errorf("rendered for another namespace: %v", err)
	}
}

func TestRender_RefusesOldKubernetes(t *testing.T) {
	_, err := Render(nil, RenderOptions{KubeVersion: "v1.32.9"})
	if err == nil || !strings.Contains(err.Error(), "Spillway needs Kubernetes >= 1.33.0-0, the cluster has v1.32.9") {
		t.Errorf("rendered for an old cluster: %v", err)
	}
}
