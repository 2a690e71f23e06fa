package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

// report says what a Migration would do.
type report struct {
	Moves  []plannedMove `json:"moves"`
	Along  []string      `json:"along,omitempty"`  // objects that follow the pods
	Breaks []string      `json:"breaks,omitempty"` // why it would be refused, a sentence each
	Notes  []string      `json:"notes,omitempty"`  // what else there is to know, a sentence each
}

// plannedMove is what becomes of one workload.
type plannedMove struct {
	Workload string  `json:"workload"`
	From     string  `json:"from"`
	To       string  `json:"to"`
	Pods     int32   `json:"pods"`
	There    int32   `json:"there,omitempty"` // pods that are at the destination already
	Steps    []int32 `json:"steps,omitempty"` // pods at the destination after each step
}

// checkMigration says what the Migration of f would do, and why it would be refused: the controller's verdict, but for gates, which it
// asks from where it runs.
func checkMigration(_ context.Context, f migrateFacts) (report, error) {
	if f.nodes == nil || f.namespace == nil {
		return report{Moves: []plannedMove{}, Notes: []string{"You may not read nodes, so that only the controller can tell what would break"}}, nil
	}
	verdict := placement.Check(f.input())
	r := report{Moves: []plannedMove{}, Breaks: verdict.Refusals, Notes: verdict.Warnings}
	along := map[string]bool{}
	for _, w := range verdict.Workloads {
		r.Moves = append(r.Moves, plannedMove{Workload: words(w.WorkloadName), From: cmp.Or(w.From, placeHome), To: cmp.Or(verdict.To, placeHome),
			Pods: w.Replicas, There: w.There, Steps: w.Steps})
		for _, name := range w.Along {
			along[name] = true
		}
	}
	r.Along = slices.Sorted(maps.Keys(along))
	return r, nil
}

// input is f as package placement reads it.
func (f migrateFacts) input() placement.MigrationInput {
	set := policy.NewSet(pointers(f.policies), pointers(f.migrations))
	return placement.MigrationInput{
		Namespace: f.namespace, Spec: f.migration.Spec,
		Deployments: f.deployments, StatefulSets: f.statefulSets, CronJobs: f.cronJobs, Budgets: f.budgets, Services: f.services,
		Others: pointers(f.migrations), Nodes: pointers(f.nodes), Pods: append(pointers(f.pods), pointers(f.elsewhere)...), Policy: set.For,
	}
}

// stepsOf are the shares of m; one of 100 when it says none.
func stepsOf(m *v1alpha1.Migration) []int32 {
	if len(m.Spec.Steps) == 0 {
		return []int32{100}
	}
	return m.Spec.Steps
}

// lines tell r to people.
func (r report) lines() []string {
	var lines []string
	for _, m := range r.Moves {
		text := fmt.Sprintf("%s goes from %s to %s", m.Workload, m.From, m.To)
		switch {
		case m.There > 0 && m.There >= m.Pods:
			text = fmt.Sprintf("%s is at %s already, all %s", m.Workload, m.To, plural(int(m.Pods), "pod"))
		case len(m.Steps) == 0:
			text += ": its next runs, after the last step"
		case len(m.Steps) == 1:
			text += fmt.Sprintf(": %s in one step", plural(int(m.Pods), "pod"))
		default:
			text += fmt.Sprintf(": %s of its %s", strings.Trim(strings.ReplaceAll(fmt.Sprint(m.Steps), " ", ", "), "[]"), plural(int(m.Pods), "pod"))
		}
		lines = append(lines, text)
	}
	if len(r.Along) > 0 {
		lines = append(lines, "Along go: "+strings.Join(r.Along, ", "))
	}
	lines = append(lines, r.Notes...)
	for _, b := range r.Breaks {
		lines = append(lines, "It would break: "+b)
	}
	return lines
}
