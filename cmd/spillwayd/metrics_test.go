package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/spillway-dev/spillway/charts"
	"github.com/spillway-dev/spillway/internal/metrics"
)

// update writes docs/metrics.md; `make generate` does.
var update = flag.Bool("update", false, "write docs/metrics.md instead of comparing with it")

const page = "../../docs/metrics.md"

// TestMetrics_Page: every measure that either program has is on the page, and nothing else.
func TestMetrics_Page(t *testing.T) {
	want := pageText(metrics.Families())
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(have)); diff != "" {
		t.Errorf("docs/metrics.md is not what the programs measure: run make generate and commit the result (-want +got):\n%s", diff)
	}
}

// pageText is docs/metrics.md.
func pageText(families []metrics.Family) []byte {
	var b bytes.Buffer
	b.WriteString(`# Metrics

<!-- Written by make generate from what the programs declare. Do not edit. -->

The controller serves ` + "`/metrics`" + ` at port 9641 of its pods, the agent of a node at port 9640 of the node. Values are in base units, which the name
says; histograms are classic and native. No label holds the name of a pod: what labels hold is bounded by the number of peers, kinds and
actions. Both programs also have the collectors of Go (` + "`go_*`" + `) and of the process (` + "`process_*`" + `: memory, CPU, open files).

A peer's values end when its Peering does. Requests of this cluster's kubelets' API, and streams of containers, are no requests to an API server here.

The chart has a dashboard and alerts on these (` + "`metrics.dashboard`, `metrics.prometheusRule`" + `), and objects that make Prometheus scrape them
(` + "`metrics.serviceMonitor`, `metrics.podMonitor`" + `).
`)
	for _, section := range []struct {
		title string
		in    metrics.Program
	}{{"Of the controller", metrics.Controller}, {"Of the agent of a node", metrics.Node}, {"Of both", metrics.Both}} {
		fmt.Fprintf(&b, "\n## %s\n\n| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n", section.title)
		for _, f := range families {
			if f.In != section.in {
				continue
			}
			var labels []string
			for _, l := range f.Labels {
				labels = append(labels, "`"+l+"`")
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Name, f.Type, f.Unit(), strings.Join(labels, ", "), strings.ReplaceAll(f.Help, "|", "\\|"))
		}
	}
	return b.Bytes()
}

// TestMetrics_Lint judges every measure that is declared, whether it has a value or not, and what is scraped now.
func TestMetrics_Lint(t *testing.T) {
	gathered, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var declared []*dto.MetricFamily
	for _, f := range metrics.Families() {
		if !strings.HasPrefix(f.Name, "spillway_") {
			t.Errorf("%s does not begin with spillway_", f.Name)
		}
		if !strings.HasSuffix(f.Help, ".") {
			t.Errorf("the help of %s is no sentence", f.Name)
		}
		if slices.Contains(f.Labels, "pod") || slices.Contains(f.Labels, "name") {
			t.Errorf("%s has the name of an object in a label: there is no bound on those", f.Name)
		}
		declared = append(declared, sample(f))
	}
	problems, err := promlint.NewWithMetricFamilies(append(declared, gathered...)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// sample is a family with one value.
func sample(f metrics.Family) *dto.MetricFamily {
	m := &dto.Metric{}
	for _, l := range f.Labels {
		m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(l), Value: proto.String("x")})
	}
	out := &dto.MetricFamily{Name: &f.Name, Help: &f.Help, Metric: []*dto.Metric{m}}
	switch f.Type {
	case metrics.Counter:
		out.Type, m.Counter = dto.MetricType_COUNTER.Enum(), &dto.Counter{Value: proto.Float64(0)}
	case metrics.Gauge:
		out.Type, m.Gauge = dto.MetricType_GAUGE.Enum(), &dto.Gauge{Value: proto.Float64(0)}
	case metrics.Histogram:
		out.Type, m.Histogram = dto.MetricType_HISTOGRAM.Enum(), &dto.Histogram{}
	}
	return out
}

// TestMetrics_QueriesOfTheChart: what the dashboard and the alerts ask for is there.
func TestMetrics_QueriesOfTheChart(t *testing.T) {
	queries := map[string]string{} // by where they are
	var board struct {
		UID    string
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(chartFile(t, "files/dashboard.json"), &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for i, target := range p.Targets {
			queries[fmt.Sprintf("panel %q, query %d", p.Title, i)] = target.Expr
		}
	}
	used := checkQueries(t, queries)
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalStrict(chartFile(t, "files/rules.yaml"), &struct {
		Groups any `json:"groups"`
	}{}); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(chartFile(t, "files/rules.yaml"), &rules); err != nil {
		t.Fatal(err)
	}
	alerts := map[string]string{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			alerts["alert "+r.Alert] = r.Expr
			for _, key := range []string{"summary", "description", "runbook_url"} {
				if r.Annotations[key] == "" {
					t.Errorf("alert %s has no %s", r.Alert, key)
				}
			}
			if r.Labels["severity"] == "" {
				t.Errorf("alert %s has no severity", r.Alert)
			}
		}
	}
	checkQueries(t, alerts)
	for _, f := range metrics.Families() {
		if !used[f.Name] && !slices.Contains(unshown, f.Name) {
			t.Errorf("%s is in no panel of the dashboard", f.Name)
		}
	}
}

// unshown are measures that are for looking closer, not for the dashboard.
var unshown = []string{
	"spillway_workqueue_adds_total", "spillway_workqueue_unfinished_work_seconds",
}

// checkQueries says which queries ask for what is not there, and which measures are asked for.
func checkQueries(t *testing.T, queries map[string]string) map[string]bool {
	t.Helper()
	used, families := map[string]bool{}, map[string]metrics.Family{}
	for _, f := range metrics.Families() {
		families[f.Name] = f
	}
	name, group := regexp.MustCompile(`spillway_[a-z_]+`), regexp.MustCompile(`(?:by|on|without|group_left|ignoring) ?\(([^)]*)\)|\{([^}]*)\}`)
	for _, where := range slices.Sorted(maps.Keys(queries)) {
		expr := queries[where]
		known := map[string]bool{"le": true, "instance": true, "namespace": true, "pod": true, "job": true, "container": true, "node": true}
		for _, n := range name.FindAllString(expr, -1) {
			f, ok := families[n]
			if !ok {
				if f, ok = families[regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(n, "")]; ok && f.Type != metrics.Histogram {
					ok = false
				}
			}
			if !ok {
				t.Errorf("%s asks for %s, which no program measures: %s", where, n, expr)
				continue
			}
			used[f.Name] = true
			for _, l := range f.Labels {
				known[l] = true
			}
		}
		for _, m := range group.FindAllStringSubmatch(expr, -1) {
			for _, l := range strings.Split(m[1]+m[2], ",") {
				if l = strings.TrimSpace(regexp.MustCompile(`[=!~].*`).ReplaceAllString(l, "")); l != "" && !known[l] {
					t.Errorf("%s asks for label %q, which its measures do not have: %s", where, l, expr)
				}
			}
		}
		if strings.Count(expr, "(") != strings.Count(expr, ")") {
			t.Errorf("%s has a parenthesis too many or too few: %s", where, expr)
		}
	}
	return used
}

func chartFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := fs.ReadFile(charts.Spillway(), name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
