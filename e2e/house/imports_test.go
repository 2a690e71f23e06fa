package house

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/spillway-dev/spillway"

// room is a part of the house. Its packages may import each other, and those of the rooms in mayImport.
type room struct {
	path      string // of the folder; the packages below it belong to it unless another room is closer
	mayImport []string
	why       string // said when an arrow is not in mayImport
}

// rooms is the import table. An arrow that is not here does not exist.
func rooms() []room {
	return []room{
		{"cmd/spillway", []string{"peering/v1alpha1", "peering/policy", "provider/placement", "charts", "internal/version", "internal/manual"},
			"the command for people only writes and reads the kinds of spillway.dev, so that everything works without it"},
		{"cmd/spillwayd", []string{"provider", "provider/placement", "provider/placer", "peering", "tunnel", "internal/netbench", "internal/address",
			"internal/version", "internal/metrics", "internal/tracing", "internal/manual"},
			"cmd/spillwayd wires the parts together and decides nothing about pods or kinds itself"},
		{"peering/policy", []string{"peering/v1alpha1"},
			"policy is pure: OffloadPolicies in, what they mean for a pod out"},
		{"peering", []string{"peering/v1alpha1", "peering/policy", "internal/live", "internal/address", "internal/metrics", "internal/tracing"},
			"peering knows whether a cluster is usable, and neither nodes nor pods nor the tunnel"},
		{"peering/v1alpha1", nil,
			"the types are what others stand on; they know nothing of the code that reads them"},
		{"provider", []string{"reflector", "internal/live", "internal/address", "internal/metrics", "internal/tracing"},
			"provider shows a peer as Nodes and leaves twins to reflector; what it needs of a Peering is handed to it"},
		{"provider/placement", []string{"peering/v1alpha1"},
			"placement decides where pods go from the kinds of spillway.dev alone"},
		{"provider/placer", []string{"provider/placement", "peering/v1alpha1", "peering/policy", "internal/live", "internal/metrics"},
			"placer gathers what placement decides on, and applies it; it knows neither peers' API servers nor twins"},
		{"reflector", []string{"reflector/translate", "internal/live", "internal/address", "internal/metrics", "internal/tracing"},
			"reflector keeps twins equal; it knows no kind of spillway.dev and not why a pod is on a node"},
		{"reflector/translate", nil,
			"translate is pure: local object in, twin out. What it needs is an argument"},
		{"tunnel", nil,
			"tunnel turns wanted peers, routes and translations into kernel state and knows nothing else"},
		{"internal/live", nil,
			"live is a cache of one watch and knows nothing of what the objects mean"},
		{"internal/address", nil,
			"address is arithmetic on ranges; whose they are is not its business"},
		{"internal/version", nil,
			"version says which Spillway this is, to everybody"},
		{"internal/metrics", []string{"internal/version"},
			"metrics has the registry; what is measured is known where it happens"},
		{"internal/tracing", []string{"internal/metrics"},
			"tracing sends spans; which there are is known where they happen"},
		{"internal/manual", nil,
			"manual writes down what commands say of themselves, and knows none"},
		{"charts", nil,
			"charts has the chart and knows nothing of who installs it"},
		{"build/image", nil,
			"image makes images of any program, those of the lab as well"},
		{"build/images", []string{"build/image"},
			"images builds the programs and packs them; it knows nothing of what they do"},
		{"build/docs", []string{"charts", "peering/v1alpha1", "internal/metrics", "internal/manual"},
			"docs writes pages from what the chart, the kinds and the programs say of themselves"},
		{"internal/netbench", nil,
			"netbench measures the way between two processes and knows nothing of what lies on it"},
	}
}

// barred are imports outside the module that a room must not have, each with the reason.
func barred(roomPath, imported string) string {
	switch {
	case roomPath == "reflector/translate" && under(imported, "k8s.io/client-go"):
		return "translate is pure and has no client; take plain objects"
	case roomPath == "reflector/translate" && under(imported, "go.uber.org/zap"):
		return "translate is pure and has no logger; return what is to be said"
	case roomPath == "tunnel" && (under(imported, "k8s.io") || under(imported, "sigs.k8s.io")):
		return "tunnel knows no Kubernetes; hand it netip values"
	case imported == "log", imported == "log/slog", under(imported, "github.com/sirupsen/logrus"):
		return "zap is the one logger; zap.NewStdLog makes a *log.Logger where a library wants one"
	case under(imported, "k8s.io/klog") && !under(roomPath, "cmd") && !under(roomPath, "e2e"):
		return "zap is the one logger; only cmd points klog at it"
	}
	return ""
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Deps                               []string // of Imports, transitive
}

func TestImports_FollowTheTable(t *testing.T) {
	for _, complaint := range importComplaints(listPackages(t)) {
		t.Error(complaint)
	}
}

// TestImports_ComplaintsGiveTheReason shows that the check above can fail.
func TestImports_ComplaintsGiveTheReason(t *testing.T) {
	for name, row := range map[string]struct {
		from string
		pkg  pkg
		want string // part of the only complaint; empty: none
	}{
		"an arrow of the table":           {"provider", pkg{Imports: ours("reflector")}, ""},
		"within a room":                   {"provider/capacity", pkg{Imports: ours("provider/quota")}, ""},
		"a client belongs to its types":   {"peering", pkg{Imports: ours("peering/v1alpha1/client")}, ""},
		"e2e takes anything":              {"e2e/scenarios", pkg{Imports: ours("reflector/translate", "cmd/spillway/peer")}, ""},
		"an arrow against the table":      {"reflector", pkg{Imports: ours("provider")}, "reflector must not import provider"},
		"an arrow that skips a room":      {"provider", pkg{Imports: ours("reflector/translate")}, "provider must not import reflector/translate"},
		"translate takes nothing of ours": {"reflector/translate", pkg{Imports: ours("peering/v1alpha1")}, "translate is pure"},
		"a folder nobody planned":         {"util", pkg{}, "util is in no room"},
		"nobody imports cmd":              {"peering", pkg{Imports: ours("cmd/spillway")}, "nothing imports cmd"},
		"nobody imports e2e":              {"peering", pkg{Imports: ours("e2e/lab")}, "nothing imports e2e"},
		"not even tests import e2e":       {"peering", pkg{TestImports: ours("e2e/lab")}, "nothing imports e2e"},
		"a client in translate":           {"reflector/translate", pkg{Imports: []string{"k8s.io/client-go/kubernetes"}}, "has no client"},
		"Kubernetes in tunnel":            {"tunnel", pkg{Imports: []string{"k8s.io/api/core/v1"}}, "knows no Kubernetes"},
		"a second logger":                 {"provider", pkg{Imports: []string{"log"}}, "zap is the one logger"},
		"klog outside cmd":                {"provider", pkg{Imports: []string{"k8s.io/klog/v2"}}, "zap is the one logger"},
		"klog in cmd":                     {"cmd/spillwayd", pkg{Imports: []string{"k8s.io/klog/v2"}}, ""},
		"controller-runtime, far away":    {"provider", pkg{Deps: []string{"sigs.k8s.io/controller-runtime/pkg/client"}}, "controller-runtime"},
	} {
		t.Run(name, func(t *testing.T) {
			row.pkg.ImportPath = module + "/" + row.from
			expectOne(t, importComplaints([]pkg{row.pkg}), row.want)
		})
	}
}

// importComplaints returns one sentence per import that breaks the table.
func importComplaints(packages []pkg) []string {
	var complaints []string
	for _, p := range packages {
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		complaints = append(complaints, arrowComplaints(from, p)...)
		if slices.ContainsFunc(p.Deps, func(dep string) bool { return under(dep, "sigs.k8s.io/controller-runtime") }) {
			complaints = append(complaints, fmt.Sprintf(
				"%s depends on sigs.k8s.io/controller-runtime: Spillway has one informer stack, client-go's; `go list -deps` shows the way there", from))
		}
		for _, imported := range p.Imports {
			if reason := barred(roomOf(from).path, imported); reason != "" {
				complaints = append(complaints, fmt.Sprintf("%s must not import %s: %s", from, imported, reason))
			}
		}
	}
	return complaints
}

// arrowComplaints judges the arrows between our own packages.
func arrowComplaints(from string, p pkg) []string {
	home := roomOf(from)
	if home.path == "" {
		return []string{fmt.Sprintf("%s is in no room of the house: put the package below one of the folders of the import table, "+
			"or, if it is a new part, give it a row in rooms() and in docs/architecture.md", from)}
	}
	var complaints []string
	for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
		to, ok := strings.CutPrefix(imported, module+"/")
		if !ok || under(from, "e2e") {
			continue
		}
		for _, last := range []string{"cmd", "e2e"} {
			if under(to, last) && roomOf(to).path != home.path {
				complaints = append(complaints, fmt.Sprintf("%s must not import %s: nothing imports %s, it is where the arrows end", from, to, last))
			}
		}
	}
	for _, imported := range p.Imports {
		to, ok := strings.CutPrefix(imported, module+"/")
		if !ok || under(to, "cmd") || under(to, "e2e") || under(from, "e2e") {
			continue
		}
		if target := roomOf(to).path; target != home.path && !slices.Contains(home.mayImport, target) {
			complaints = append(complaints, fmt.Sprintf("%s must not import %s: %s", from, to, home.why))
		}
	}
	return complaints
}

// roomOf returns the closest room above path, or the zero room.
func roomOf(path string) room {
	if under(path, "e2e") {
		return room{path: "e2e"}
	}
	var closest room
	for _, r := range rooms() {
		if under(path, r.path) && len(r.path) > len(closest.path) {
			closest = r
		}
	}
	return closest
}

// under reports whether path is folder or below it.
func under(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

func ours(paths ...string) []string {
	out := make([]string, len(paths))
	for i, path := range paths {
		out[i] = module + "/" + path
	}
	return out
}

// listPackages asks the go command for every package of this module.
func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e",
		"-json=ImportPath,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list the packages of %s: %v\n%s", module, err, stderr.String())
	}
	var packages []pkg
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// expectOne fails unless there is exactly one complaint and it contains want, or none if want is empty.
func expectOne(t *testing.T, complaints []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(complaints) > 0:
		t.Errorf("complaints %q, want none", complaints)
	case want != "" && (len(complaints) != 1 || !strings.Contains(complaints[0], want)):
		t.Errorf("complaints %q, want one with %q", complaints, want)
	}
}
