package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
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
	Steps    []int32 `json:"steps,omitempty"` // pods at the destination after each step
}

// checkMigration says what the Migration of f would do, and why it would be refused. stub: what follows is to come from
// placement.Check, so that it is the controller's verdict.
func checkMigration(_ context.Context, f migrateFacts) (report, error) {
	r := report{Moves: []plannedMove{}}
	along := map[string]bool{}
	for _, w := range chosen(f.migration.Spec.Workloads, f.all()) {
		r.Moves = append(r.Moves, f.planned(w))
		for _, n := range needsOf(&w.template.Spec) {
			if n.Kind != kindClaim {
				along[strings.ToLower(n.Kind)+"/"+n.Name] = true
			}
		}
		for i := range f.services {
			if s := &f.services[i]; len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(w.template.Labels)) {
				along["service/"+s.Name] = true
			}
		}
		r.Breaks = append(r.Breaks, f.stuckVolumes(w)...)
	}
	r.Along = slices.Sorted(maps.Keys(along))
	return r, nil
}

// planned says what becomes of w.
func (f migrateFacts) planned(w workload) plannedMove {
	move := plannedMove{Workload: words(w.WorkloadName), From: f.placesOf(w.WorkloadName), To: cmp.Or(f.migration.Spec.To.Peer, placeHome), Pods: w.replicas}
	if w.Kind == v1alpha1.WorkloadCronJob {
		return move
	}
	for _, share := range stepsOf(f.migration) {
		move.Steps = append(move.Steps, (w.replicas*share+99)/100)
	}
	return move
}

// placesOf names the places where the pods of a workload run.
func (f migrateFacts) placesOf(name v1alpha1.WorkloadName) string {
	peers := map[string]string{}
	for i := range f.nodes {
		peers[f.nodes[i].Name] = f.nodes[i].Labels[v1alpha1.LabelPeer]
	}
	places := map[string]bool{}
	for i := range f.pods {
		if of, ok := workloadOf(&f.pods[i]); ok && of == name && f.pods[i].Spec.NodeName != "" {
			places[cmp.Or(peers[f.pods[i].Spec.NodeName], placeHome)] = true
		}
	}
	return cmp.Or(strings.Join(slices.Sorted(maps.Keys(places)), ", "), placeHome)
}

// stuckVolumes says which volumes of w cannot follow it.
func (f migrateFacts) stuckVolumes(w workload) []string {
	var list []string
	for i := range f.statefulSets {
		if s := &f.statefulSets[i]; w.Kind == v1alpha1.WorkloadStatefulSet && s.Name == w.Name && len(s.Spec.VolumeClaimTemplates) > 0 {
			list = append(list, fmt.Sprintf("%s has volumes of its own (volumeClaimTemplates %s), which cannot follow", words(w.WorkloadName), s.Spec.VolumeClaimTemplates[0].Name))
		}
	}
	for i := range w.template.Spec.Volumes {
		if what := stuck(&w.template.Spec.Volumes[i]); what != "" {
			list = append(list, fmt.Sprintf("%s uses %s, which cannot follow it", words(w.WorkloadName), what))
		}
	}
	return list
}

// stuck names a volume that stays where it is; empty: it does not.
func stuck(v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return kindClaim + " " + v.PersistentVolumeClaim.ClaimName
	case v.HostPath != nil:
		return "the folder " + v.HostPath.Path + " of its node"
	}
	return ""
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
		case len(m.Steps) == 0:
			text += ": its next runs, after the last step"
		case len(m.Steps) == 1:
			text += fmt.Sprintf(": %s at once", plural(int(m.Pods), "pod"))
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
