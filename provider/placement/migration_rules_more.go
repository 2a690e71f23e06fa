package placement

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// onePerNode refuses workloads of which a node takes one pod only, when there are more of them than virtual nodes: a whole cluster is
// one node here.
func (c *migrationCheck) onePerNode(s *migrationSubject) {
	nodes := c.open()
	if c.to == Home || len(nodes) == 0 {
		return
	}
	what := ""
	for _, container := range s.template.Spec.Containers {
		for _, port := range container.Ports {
			if port.HostPort != 0 {
				what = fmt.Sprintf("hostPort %d", port.HostPort)
			}
		}
	}
	if a := s.template.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		for _, term := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			selector, err := metav1.LabelSelectorAsSelector(term.LabelSelector)
			if err == nil && term.TopologyKey == corev1.LabelHostname && selector.Matches(labels.Set(s.template.Labels)) {
				what = "required podAntiAffinity by " + corev1.LabelHostname
			}
		}
	}
	if what == "" {
		return
	}
	if int(s.replicas) > len(nodes) {
		c.refuse("%s has %s, so that a node takes one of its pods only, and peer %s is %d virtual node: take it out of the template, "+
			"or prefer instead of require", s, what, c.to, len(nodes))
		return
	}
	c.warn("%s has %s: it holds on the virtual node of peer %s, not on the nodes behind it", s, what, c.to)
}

// halt warns of what people may not expect of a move.
func (c *migrationCheck) halt(s *migrationSubject) {
	if s.halts != "" {
		c.warn("%s %s", s, s.halts)
	}
	if s.replicas != 1 || c.there(s) == 1 {
		return
	}
	switch s.Kind {
	case v1alpha1.WorkloadStatefulSet:
		c.warn("%s has one replica: it is away from when its pod ends until the new one is Ready", s)
	case v1alpha1.WorkloadDeployment:
		if !c.budgeted(s) {
			c.warn("%s has one replica and no PodDisruptionBudget: its move makes the new pod first, but nothing keeps others from taking the only one",
				s)
		}
	}
}

func (c *migrationCheck) budgeted(s *migrationSubject) bool {
	for i := range c.in.Budgets {
		selector, err := metav1.LabelSelectorAsSelector(c.in.Budgets[i].Spec.Selector)
		if err == nil && selector.Matches(labels.Set(s.template.Labels)) {
			return true
		}
	}
	return false
}

// spread warns of spreads that count nodes a pod cannot go to. The others hold: a steered pod sees the nodes of one place only.
func (c *migrationCheck) spread(s *migrationSubject) {
	for _, t := range s.template.Spec.TopologySpreadConstraints {
		ignores := t.NodeAffinityPolicy != nil && *t.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore
		if t.WhenUnsatisfiable == corev1.DoNotSchedule && ignores {
			c.warn("%s spreads over %s with nodeAffinityPolicy Ignore, which counts nodes that a moved pod cannot go to: it may find no place; "+
				"use Honor", s, t.TopologyKey)
		}
	}
}

// contested warns when another Migration says where the workload is now.
func (c *migrationCheck) contested(s *migrationSubject) {
	for _, m := range c.in.Others {
		mine := slices.ContainsFunc(m.Status.Workloads, func(w v1alpha1.MigratedWorkload) bool { return w.WorkloadName == s.WorkloadName })
		if mine && m.Name != c.in.Name && !migrationFinal(m.Status.Phase) {
			c.warn("Migration %s moves %s too: the newer one counts, and the older one pauses", m.Name, s)
		}
	}
}

func (c *migrationCheck) nothing() {
	if len(c.subjects) == 0 {
		return
	}
	for i := range c.subjects {
		s := &c.subjects[i]
		if s.Kind == v1alpha1.WorkloadCronJob || c.there(s) < s.replicas || s.replicas == 0 {
			return
		}
	}
	c.warn("all pods are at %s already: nothing moves", migrationPlaceWord(c.to))
}
