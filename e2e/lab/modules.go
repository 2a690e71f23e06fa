package lab

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// Copies of the nested modules' files, since a module's files cannot be
// embedded from outside it. A test compares them.
//
//go:generate cp binaries/go.mod modules/go.mod.txt
//go:generate cp binaries/go.sum modules/go.sum.txt
//go:generate cp binaries/metrics/go.mod modules/metrics.go.mod.txt
//go:generate cp binaries/metrics/go.sum modules/metrics.go.sum.txt

//go:embed modules/go.mod.txt
var goMod []byte

//go:embed modules/go.sum.txt
var goSum []byte

//go:embed modules/metrics.go.mod.txt
var metricsMod []byte

//go:embed modules/metrics.go.sum.txt
var metricsSum []byte

// module is a nested module and what is built in it.
type module struct {
	folder   string // of the module, beside this file
	mod, sum []byte
	groups   []buildGroup
}

// modules are more than one because metrics-server asks for later versions of
// what Kubernetes is built with.
func modules() []module {
	return []module{
		{"binaries", goMod, goSum, buildGroups()},
		{"binaries/metrics", metricsMod, metricsSum, []buildGroup{
			{packages: []string{"sigs.k8s.io/metrics-server/cmd/metrics-server"}},
		}},
	}
}

// programs lists what is built in the module.
func (m module) programs() []string {
	var names []string
	for _, g := range m.groups {
		names = append(names, g.names()...)
	}
	return names
}

// findProgram says where a program is built, and together with which others.
func findProgram(name string) (module, buildGroup, error) {
	var all []string
	for _, m := range modules() {
		for _, g := range m.groups {
			if slices.Contains(g.names(), name) {
				return m, g, nil
			}
		}
		all = append(all, m.programs()...)
	}
	return module{}, buildGroup{}, fmt.Errorf("the lab builds no %q, only %s", name, strings.Join(all, ", "))
}
