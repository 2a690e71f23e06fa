package placement

import (
	"slices"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// migrationRules are looked at in this order; each adds what it finds.
func migrationRules() []func(*migrationCheck) {
	return []func(*migrationCheck){
		(*migrationCheck).steps,
		(*migrationCheck).destination,
		(*migrationCheck).namespace,
		(*migrationCheck).gate,
		migrationEach((*migrationCheck).policy),
		migrationEach((*migrationCheck).volumes),
		migrationEach((*migrationCheck).budgets),
		migrationEach((*migrationCheck).nodesMatch),
		migrationEach((*migrationCheck).onePerNode),
		(*migrationCheck).room,
		migrationEach((*migrationCheck).halt),
		migrationEach((*migrationCheck).spread),
		migrationEach((*migrationCheck).contested),
		(*migrationCheck).nothing,
	}
}

// migrationEach asks a rule for each workload.
func migrationEach(rule func(*migrationCheck, *migrationSubject)) func(*migrationCheck) {
	return func(c *migrationCheck) {
		for i := range c.subjects {
			rule(c, &c.subjects[i])
		}
	}
}

func (c *migrationCheck) steps() {
	steps, last := MigrationSteps(&c.in.Spec), int32(0)
	for _, s := range steps {
		if s <= last || s > 100 {
			c.refuse("steps %v do not rise to 100: give for example 10,50,100", steps)
			return
		}
		last = s
	}
	if last != 100 {
		c.refuse("steps %v do not end with 100: give for example 10,50,100", steps)
	}
}

func (c *migrationCheck) destination() {
	if c.to == Home {
		return
	}
	if len(c.nodes) == 0 {
		c.refuse("there is no peer %s with a virtual node: spillway status says which peers there are", c.to)
		return
	}
	if !slices.ContainsFunc(c.nodes, migrationReady) {
		c.refuse("peer %s is not Ready: wait until it is, spillway status says why", c.to)
	} else if len(c.open()) == 0 {
		c.refuse("peer %s is cordoned: spillway uncordon %s lets pods go there again", c.to, c.to)
	}
}

// open are the nodes of the destination that take pods now.
func (c *migrationCheck) open() []*corev1.Node {
	var out []*corev1.Node
	for _, n := range c.nodes {
		if migrationReady(n) && !n.Spec.Unschedulable {
			out = append(out, n)
		}
	}
	return out
}

func migrationReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func (c *migrationCheck) namespace() {
	if c.to != Home && c.in.Namespace.Labels[v1alpha1.LabelOffload] == v1alpha1.OffloadDisabled {
		c.refuse("namespace %s is closed for offloading by its label %s=%s: kubectl label namespace %s %s- opens it", c.in.Namespace.Name,
			v1alpha1.LabelOffload, v1alpha1.OffloadDisabled, c.in.Namespace.Name, v1alpha1.LabelOffload)
	}
}

func (c *migrationCheck) gate() {
	job := c.in.Spec.Gate.Job
	if job == nil {
		return
	}
	for i := range c.in.CronJobs {
		if c.in.CronJobs[i].Name == job.FromCronJob {
			return
		}
	}
	c.refuse("the gate's CronJob %s is not in namespace %s: make it, suspended, or name another", job.FromCronJob, c.in.Namespace.Name)
}

func (c *migrationCheck) policy(s *migrationSubject) {
	if c.in.Policy == nil || c.to == Home {
		return
	}
	if p := c.in.Policy(s.template.Labels); p != nil && p.Spec.When == v1alpha1.OffloadNever {
		c.refuse("OffloadPolicy %s keeps the pods of %s at home: change its when, or its podSelector", p.Name, s)
	}
}

func (c *migrationCheck) volumes(s *migrationSubject) {
	if len(s.claims) > 0 {
		c.refuse("%s has volumes of its own (volumeClaimTemplates %s), which cannot follow: move what they hold by other means, or name other workloads",
			s, strings.Join(s.claims, ", "))
	}
	for i := range s.template.Spec.Volumes {
		if what := migrationStays(&s.template.Spec.Volumes[i]); what != "" {
			c.refuse("%s has volume %s (%s), which cannot follow: take it out of the template, or name other workloads",
				s, s.template.Spec.Volumes[i].Name, what)
		}
	}
}

// migrationStays says what a volume is that stays where it is; empty when it can follow.
func migrationStays(v *corev1.Volume) string {
	source := &v.VolumeSource
	switch {
	case source.PersistentVolumeClaim != nil:
		return "claim " + source.PersistentVolumeClaim.ClaimName
	case source.HostPath != nil:
		return "hostPath " + source.HostPath.Path
	case source.EmptyDir != nil, source.ConfigMap != nil, source.Secret != nil, source.Projected != nil, source.DownwardAPI != nil,
		source.Ephemeral != nil, source.Image != nil, *source == (corev1.VolumeSource{}):
		return ""
	}
	return "of a storage system that this cluster's nodes reach"
}

func (c *migrationCheck) budgets(s *migrationSubject) {
	if s.Kind == v1alpha1.WorkloadCronJob || s.replicas == 0 || c.there(s) == s.replicas {
		return
	}
	var found []string
	for i := range c.in.Budgets {
		b := &c.in.Budgets[i]
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || b.Spec.Selector == nil || !selector.Matches(labels.Set(s.template.Labels)) {
			continue
		}
		found = append(found, b.Name)
		if why := migrationNever(b, c.expected(selector)); why != "" {
			c.refuse("PodDisruptionBudget %s never lets a pod of %s go (%s): let it allow at least one", b.Name, s, why)
		}
	}
	if len(found) > 1 {
		slices.Sort(found)
		c.refuse("PodDisruptionBudgets %s all select the pods of %s, and the Eviction API then refuses each: let one of them select the pods",
			strings.Join(found, ", "), s)
	}
}

// expected is how many pods there should be of all that a selector means.
func (c *migrationCheck) expected(selector labels.Selector) int {
	var n int32
	for _, s := range c.all() {
		if selector.Matches(labels.Set(s.template.Labels)) {
			n += s.replicas
		}
	}
	return int(n)
}

// migrationNever says why a budget over so many pods never allows an eviction; empty when it may.
func migrationNever(b *policyv1.PodDisruptionBudget, pods int) string {
	if most := b.Spec.MaxUnavailable; most != nil {
		if n, err := intstr.GetScaledValueFromIntOrPercent(most, pods, true); err == nil && n <= 0 {
			return "maxUnavailable " + most.String()
		}
	}
	if least := b.Spec.MinAvailable; least != nil {
		if n, err := intstr.GetScaledValueFromIntOrPercent(least, pods, true); err == nil && n >= pods {
			return "minAvailable " + least.String()
		}
	}
	return ""
}

func (c *migrationCheck) nodesMatch(s *migrationSubject) {
	nodes := c.open()
	if c.to == Home || len(nodes) == 0 {
		return
	}
	pod := &corev1.Pod{Spec: s.template.Spec}
	matches := func(n *corev1.Node) bool {
		ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n)
		return err == nil && ok
	}
	if !slices.ContainsFunc(nodes, matches) {
		c.refuse("%s selects nodes by labels that the virtual node of peer %s does not have: change its nodeSelector or affinity, or give the "+
			"node these labels (spec.borrow.labels of the Peering)", s, c.to)
		return
	}
	var repels string
	tolerated := func(n *corev1.Node) bool {
		taint, found := corev1helpers.FindMatchingUntoleratedTaint(logr.Discard(), n.Spec.Taints, pod.Spec.Tolerations, migrationHardTaint, false)
		if found {
			repels = taint.ToString()
		}
		return !found
	}
	if !slices.ContainsFunc(nodes, func(n *corev1.Node) bool { return matches(n) && tolerated(n) }) {
		c.refuse("%s does not tolerate taint %s of the virtual node of peer %s: tolerate it in the template, or take it off", s, repels, c.to)
	}
}

// migrationHardTaint says that a taint keeps pods off that do not tolerate it, even when they are steered to the node.
func migrationHardTaint(t *corev1.Taint) bool {
	return t.Key != v1alpha1.TaintVirtualNode && t.Effect != corev1.TaintEffectPreferNoSchedule
}
