package lab

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRequests(t *testing.T) {
	const text = `# HELP apiserver_request_total Counter
# TYPE apiserver_request_total counter
apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1"} 12
apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="pods",scope="namespace",subresource="",verb="POST",version="v1"} 3
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="status",verb="PATCH",version="v1"} 1e+06
apiserver_request_total{code="200",component="apiserver",dry_run="",group="apps",resource="deployments",scope="resource",subresource="",verb="APPLY",version="v1"} 1
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="",scope="",subresource="/readyz",verb="GET",version=""} 99
apiserver_request_total_other{code="200",resource="pods",verb="GET"} 7
`
	got, err := parseRequests([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []RequestCount{
		{RequestKey{Verb: "create", Resource: "pods", Code: 201}, 15},
		{RequestKey{Verb: "patch", Resource: "pods", Subresource: "status", Code: 200}, 1000000},
		{RequestKey{Verb: "apply", Group: "apps", Resource: "deployments", Code: 200}, 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, broken := range []string{`apiserver_request_total{code="2`, `apiserver_request_total{code="200"}`, `apiserver_request_total{code} 1`} {
		if _, err := parseRequests([]byte(broken)); err == nil {
			t.Errorf("%s: no error", broken)
		}
	}
}

func TestParseSample_QuotedLabels(t *testing.T) {
	labels, v, err := parseSample(`{a="x,\"y\"}",b=""} 2.5`)
	if err != nil || v != 2.5 {
		t.Fatal(v, err)
	}
	if diff := cmp.Diff(map[string]string{"a": `x,"y"}`, "b": ""}, labels); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDiffRequests(t *testing.T) {
	pods := RequestKey{Verb: "create", Resource: "pods"}
	nodes := RequestKey{Verb: "update", Resource: "nodes"}
	got := DiffRequests([]RequestCount{{pods, 2}, {nodes, 5}}, []RequestCount{{pods, 7}, {nodes, 5}})
	if diff := cmp.Diff([]RequestCount{{pods, 5}}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseAudit(t *testing.T) {
	const agent = `"userAgent":"spillwayd/v0.1 (linux/amd64) kubernetes/abc"`
	rows := []struct {
		name, line string
		want       RequestKey
	}{
		{"create", `{"stage":"ResponseComplete","verb":"create",` + agent + `,"objectRef":{"resource":"pods"},"responseStatus":{"code":201}}`,
			RequestKey{Verb: "create", Resource: "pods", Client: "spillwayd", Code: 201}},
		{"apply that forces", `{"stage":"ResponseComplete","verb":"patch","requestURI":"/x?fieldManager=a&force=true",` + agent + `,"objectRef":{"resource":"pods","subresource":"status"},"responseStatus":{"code":200}}`,
			RequestKey{Verb: "apply", Resource: "pods", Subresource: "status", Client: "spillwayd", Code: 200}},
		{"watch begins", `{"stage":"ResponseStarted","verb":"watch",` + agent + `,"objectRef":{"resource":"leases","apiGroup":"coordination.k8s.io"},"responseStatus":{"code":200}}`,
			RequestKey{Verb: "watch", Group: "coordination.k8s.io", Resource: "leases", Client: "spillwayd", Code: 200}},
		{"watch ends", `{"stage":"ResponseComplete","verb":"watch",` + agent + `,"objectRef":{"resource":"pods"}}`, RequestKey{}},
		{"exec begins", `{"stage":"ResponseStarted","verb":"create",` + agent + `,"objectRef":{"resource":"pods","subresource":"exec"}}`, RequestKey{}},
		{"no object", `{"stage":"ResponseComplete","verb":"get",` + agent + `}`, RequestKey{}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got, _, err := parseAudit([]byte(row.line))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestCacheKey(t *testing.T) {
	mod, sum := []byte("module a"), []byte("sum")
	base := cacheKey(mod, sum, buildGroups(), "go1.26")
	if again := cacheKey(mod, sum, buildGroups(), "go1.26"); again != base {
		t.Error("the same content has two keys")
	}
	tagged := buildGroups()
	tagged[0].tags = "more"
	for name, other := range map[string]string{
		"go.mod":             cacheKey([]byte("module b"), sum, buildGroups(), "go1.26"),
		"go.sum":             cacheKey(mod, []byte("mus"), buildGroups(), "go1.26"),
		"flags":              cacheKey(mod, sum, tagged, "go1.26"),
		"Go version":         cacheKey(mod, sum, buildGroups(), "go1.27"),
		"moved between both": cacheKey([]byte("module as"), []byte("um"), buildGroups(), "go1.26"),
	} {
		if other == base {
			t.Errorf("%s: a change does not change the key", name)
		}
	}
}

// TestModules: what is embedded are the nested modules, of the version that the
// components are told to report, and they name every program as a tool.
func TestModules(t *testing.T) {
	for _, m := range modules() {
		for name, embedded := range map[string][]byte{"go.mod": m.mod, "go.sum": m.sum} {
			file, err := os.ReadFile(filepath.Join(m.folder, name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(file, embedded) {
				t.Errorf("the copy of %s/%s in modules is another: run go generate", m.folder, name)
			}
		}
		for _, g := range m.groups {
			for _, pkg := range g.packages {
				if !regexp.MustCompile(`(?m)^(\t|tool )` + regexp.QuoteMeta(pkg) + `$`).Match(m.mod) {
					t.Errorf("%s/go.mod has no tool %s", m.folder, pkg)
				}
			}
		}
	}
	if !strings.Contains(string(goMod), "k8s.io/kubernetes "+kubernetesVersion) {
		t.Errorf("binaries/go.mod does not require k8s.io/kubernetes %s", kubernetesVersion)
	}
}

func TestOptions(t *testing.T) {
	rows := []struct {
		name string
		o    Options
		want string // in the error
	}{
		{"empty", Options{}, ""},
		{"bad name", Options{Name: "a/b"}, "name"},
		{"long name", Options{Name: strings.Repeat("a", 21)}, "at most 20"},
		{"bad cluster", Options{Clusters: []ClusterOptions{{Name: "East"}}}, "cluster name"},
		{"twice", Options{Clusters: []ClusterOptions{{Name: "a"}, {Name: "a"}}}, "two clusters"},
		{"bad range", Options{Clusters: []ClusterOptions{{PodCIDR: "10.0.0.1/16"}}}, "IPv4 range"},
		{"negative", Options{Clusters: []ClusterOptions{{Simulated: []NodeGroup{{Count: -1}}}}}, "nodes"},
		{"too many", Options{Clusters: make([]ClusterOptions, maxClusters+1)}, "at most"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := row.o.withDefaults()
			if row.want == "" && err != nil {
				t.Fatal(err)
			}
			if row.want != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestSimulatedNodes(t *testing.T) {
	o, err := ClusterOptions{Name: "east", Real: 2, Simulated: []NodeGroup{{Count: 2}, {Count: 300, Labels: map[string]string{"gpu": "yes"}}}}.withDefaults(1)
	if err != nil {
		t.Fatal(err)
	}
	nodes := simulatedNodes(1, o)
	if len(nodes) != 302 {
		t.Fatalf("%d nodes", len(nodes))
	}
	seen := map[string]bool{}
	for _, n := range nodes {
		for _, unique := range []string{n.Name, n.Status.Addresses[0].Address} {
			if seen[unique] {
				t.Errorf("%s twice", unique)
			}
			seen[unique] = true
		}
	}
	got := []string{nodes[0].Name, nodes[0].Spec.PodCIDR, nodes[2].Name, nodes[2].Labels["gpu"], nodes[301].Spec.PodCIDR}
	if diff := cmp.Diff([]string{"east-node-1", "10.101.2.0/24", "east-node2-1", "yes", ""}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestMetricsObjects: all that the manifest leaves open is filled in.
func TestMetricsObjects(t *testing.T) {
	l := layout{pki: pki{dir: "/d"}, dir: "/d", metrics: &port{ip: "127.0.0.1", number: 4711}}
	got := l.metricsObjects([]byte("CA"))
	for _, want := range []string{"externalName: 127.0.0.1}", "port: 4711}", "caBundle: Q0E=\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if args := strings.Join(l.metricsArgs(), " "); !strings.Contains(args, "--secure-port=4711 ") || !strings.Contains(args, "--metric-resolution=10s") {
		t.Error(args)
	}
	if l.metrics = nil; strings.Contains(strings.Join(l.controllerManagerArgs(), " "), "autoscaler") {
		t.Error("a cluster without metrics-server has autoscalers of its own")
	}
}
