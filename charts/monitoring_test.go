package charts

import (
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const everyMonitor = `
metrics:
  serviceMonitor: {enabled: true, interval: 15s, labels: {release: prometheus}}
  podMonitor: {enabled: true, labels: {release: prometheus}}
  prometheusRule: {enabled: true}
  dashboard: {enabled: true, annotations: {grafana_folder: Spillway}}
`

// TestMonitoring_Objects: what Prometheus and Grafana read arrives as it is in the files, whatever braces are in it.
func TestMonitoring_Objects(t *testing.T) {
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(everyMonitor), &values); err != nil {
		t.Fatal(err)
	}
	all, err := Render(values, RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]map[string]any{}
	for _, m := range all {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(m.Text), &o); err != nil {
			t.Fatalf("%s: %v", m.Path, err)
		}
		found[m.Kind+"/"+m.Name] = o
	}
	for _, name := range []string{"ServiceMonitor/spillway-controller", "PodMonitor/spillway-node", "PrometheusRule/spillway", "ConfigMap/spillway-dashboard"} {
		if found[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	rule, err := json.Marshal(found["PrometheusRule/spillway"]["spec"])
	if err != nil || !strings.Contains(string(rule), "{{ $labels.peer }}") {
		t.Errorf("alerts %s (error %v), want their own templates in them", rule, err)
	}
	data, _ := found["ConfigMap/spillway-dashboard"]["data"].(map[string]any)
	text, _ := data["spillway.json"].(string)
	if !json.Valid([]byte(text)) || !strings.Contains(text, "{{peer}}") {
		t.Errorf("the dashboard is no JSON with legends in it: %.200s", text)
	}
}

// TestMonitoring_OffByDefault: the operator's kinds are not in every cluster.
func TestMonitoring_OffByDefault(t *testing.T) {
	all, err := Render(nil, RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.APIVersion == "monitoring.coreos.com/v1" || m.Name == "spillway-dashboard" {
			t.Errorf("%s %s is made although nobody asked", m.Kind, m.Name)
		}
	}
}
