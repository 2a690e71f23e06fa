package placement

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// MigrationInput is what a Migration is judged by. Nothing in it is changed or kept; lists may be in any order.
type MigrationInput struct {
	// Name of the Migration; empty for one that is only wished for.
	Name      string
	Namespace *corev1.Namespace
	Spec      v1alpha1.MigrationSpec

	// What is in the namespace.
	Deployments  []appsv1.Deployment
	StatefulSets []appsv1.StatefulSet
	CronJobs     []batchv1.CronJob
	Budgets      []policyv1.PodDisruptionBudget
	Services     []corev1.Service
	// Others are the Migrations of the namespace.
	Others []*v1alpha1.Migration

	Nodes []*corev1.Node // all, real and virtual
	Pods  []*corev1.Pod  // those of the namespace, and all that are bound to nodes of the destination
	// Policy returns the OffloadPolicy that governs pods with these labels, nil when none does (policy.Set.For). May be nil.
	Policy func(podLabels map[string]string) *v1alpha1.OffloadPolicy
}

// Verdict is what a Migration would do, and why it may not.
type Verdict struct {
	To        string          // the peer; Home is empty
	Workloads []MigrationPlan // by kind and name
	// Refusals say why it may not begin, Warnings what people should know before it does: sentences that say what to do.
	Refusals, Warnings []string
}

// MigrationPlan is what happens to one workload.
type MigrationPlan struct {
	v1alpha1.WorkloadName
	From     string // a peer; Home is empty
	Replicas int32
	There    int32 // how many of its pods are at the destination already
	// Steps are how many of its pods are at the destination after each step. Empty for CronJobs: their new runs go over with the last.
	Steps []int32
	// Along is what goes with it, by kind and name: "configmap/settings".
	Along []string
}

// Check says what a Migration would move, what goes along, and what would break.
func Check(in MigrationInput) Verdict {
	c := &migrationCheck{in: in, to: migrationTo(in.Spec.To)}
	c.verdict.To = c.to
	c.peers, c.nodes = migrationNodes(in.Nodes, c.to)
	c.resolve()
	for _, rule := range migrationRules() {
		rule(c)
	}
	for i := range c.subjects {
		c.verdict.Workloads = append(c.verdict.Workloads, c.plan(&c.subjects[i]))
	}
	return c.verdict
}

// migrationCheck is a Check that is being made.
type migrationCheck struct {
	in       MigrationInput
	to       string
	peers    map[string]string // by name of a virtual node
	nodes    []*corev1.Node    // of the destination, by name
	subjects []migrationSubject
	verdict  Verdict
}

// peerOf returns the peer that a node stands for.
func (c *migrationCheck) peerOf(node string) string { return c.peers[node] }

// migrationSubject is a workload that is to be moved.
type migrationSubject struct {
	v1alpha1.WorkloadName
	meta     *metav1.ObjectMeta
	replicas int32
	template *corev1.PodTemplateSpec
	claims   []string // of volumeClaimTemplates
	halts    string   // why it is away for a moment, or comes back different; empty when not
	members  []Member // its pods that have not ended
	from     string
}

// String is how kubectl calls it.
func (s *migrationSubject) String() string { return migrationWord(s.WorkloadName) }

// migrationWord is how kubectl calls a workload.
func migrationWord(w v1alpha1.WorkloadName) string {
	return strings.ToLower(string(w.Kind)) + "/" + w.Name
}

// migrationTo is the place of a destination.
func migrationTo(d v1alpha1.Destination) string {
	if d.Home {
		return Home
	}
	return d.Peer
}

// migrationPlaceWord is how people call a place.
func migrationPlaceWord(place string) string {
	if place == Home {
		return "home"
	}
	return place
}

// migrationNodes returns the peers by the names of their virtual nodes, and the nodes of a place by name.
func migrationNodes(all []*corev1.Node, place string) (peers map[string]string, nodes []*corev1.Node) {
	peers = map[string]string{}
	for _, n := range all {
		peer, virtual := n.Labels[v1alpha1.LabelPeer]
		if virtual {
			peers[n.Name] = peer
		}
		if virtual && place == peer || !virtual && place == Home {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	return peers, nodes
}

// resolve finds the workloads that are meant.
func (c *migrationCheck) resolve() {
	choice := c.in.Spec.Workloads
	var selector labels.Selector
	if choice.Selector != nil {
		var err error
		if selector, err = metav1.LabelSelectorAsSelector(choice.Selector); err != nil {
			c.refuse("spec.workloads.selector cannot be read: %v", err)
			return
		}
	}
	named := map[v1alpha1.WorkloadName]bool{}
	for _, n := range choice.Names {
		named[n] = true
	}
	for _, s := range c.all() {
		if choice.All || named[s.WorkloadName] || selector != nil && selector.Matches(labels.Set(s.meta.Labels)) {
			delete(named, s.WorkloadName)
			c.subjects = append(c.subjects, c.populate(s))
		}
	}
	for _, n := range slices.SortedFunc(maps.Keys(named), func(a, b v1alpha1.WorkloadName) int {
		return strings.Compare(migrationWord(a), migrationWord(b))
	}) {
		c.refuse("namespace %s has no %s: kubectl get deployments,statefulsets,cronjobs -n %s says which there are",
			c.in.Namespace.Name, migrationWord(n), c.in.Namespace.Name)
	}
	if len(c.subjects) == 0 && len(choice.Names) == 0 {
		c.refuse("no Deployment, StatefulSet or CronJob of namespace %s is meant: change spec.workloads", c.in.Namespace.Name)
	}
}

// all are the workloads of the namespace that can be moved at all, by kind and name.
func (c *migrationCheck) all() []migrationSubject {
	var out []migrationSubject
	for i := range c.in.Deployments {
		d := &c.in.Deployments[i]
		s := migrationSubject{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadDeployment, Name: d.Name}, meta: &d.ObjectMeta,
			replicas: migrationReplicas(d.Spec.Replicas), template: &d.Spec.Template, members: c.members(d.Spec.Selector, "ReplicaSet")}
		if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
			s.halts = "has strategy Recreate: each of its pods ends before the one instead of it starts, some at a time; with RollingUpdate the " +
				"new ones come first"
		}
		out = append(out, s)
	}
	for i := range c.in.StatefulSets {
		d := &c.in.StatefulSets[i]
		s := migrationSubject{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadStatefulSet, Name: d.Name}, meta: &d.ObjectMeta,
			replicas: migrationReplicas(d.Spec.Replicas), template: &d.Spec.Template, members: c.members(d.Spec.Selector, "StatefulSet")}
		for _, claim := range d.Spec.VolumeClaimTemplates {
			s.claims = append(s.claims, claim.Name)
		}
		if d.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType && d.Status.CurrentRevision != d.Status.UpdateRevision {
			s.halts = "has updateStrategy OnDelete and a newer template: pods that move come back with the newer one"
		}
		out = append(out, s)
	}
	for i := range c.in.CronJobs {
		d := &c.in.CronJobs[i]
		out = append(out, migrationSubject{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadCronJob, Name: d.Name},
			meta: &d.ObjectMeta, template: &d.Spec.JobTemplate.Spec.Template, members: c.runs(d.Name)})
	}
	slices.SortFunc(out, func(a, b migrationSubject) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func migrationReplicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// members are the pods of the namespace that a selector means and a controller of this kind has, or had.
func (c *migrationCheck) members(s *metav1.LabelSelector, kind string) []Member {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil
	}
	return c.pods(func(pod *corev1.Pod) bool {
		owner := metav1.GetControllerOf(pod)
		return selector.Matches(labels.Set(pod.Labels)) && (owner == nil || owner.Kind == kind)
	})
}

// runs are the pods of a CronJob's Jobs.
func (c *migrationCheck) runs(cronJob string) []Member {
	return c.pods(func(pod *corev1.Pod) bool { return RunOf(pod, cronJob) })
}

// RunOf says whether a pod belongs to a run of a CronJob, by the names that the CronJob controller gives.
func RunOf(pod *corev1.Pod, cronJob string) bool {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != "Job" {
		return false
	}
	digits, ok := strings.CutPrefix(owner.Name, cronJob+"-")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

func (c *migrationCheck) pods(mine func(*corev1.Pod) bool) []Member {
	var out []Member
	for _, pod := range c.in.Pods {
		if pod.Namespace == c.in.Namespace.Name && !migrationEnded(pod) && mine(pod) {
			out = append(out, Member{Pod: pod, Place: PlaceOf(pod, c.peerOf)})
		}
	}
	return out
}

// migrationEnded says that a pod takes no room any more, or soon none.
func migrationEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil
}

// populate finds out where the pods of a workload come from: the place, beside the destination, with the most of them.
func (c *migrationCheck) populate(s migrationSubject) migrationSubject {
	counts := map[string]int{}
	for _, m := range s.members {
		if m.Place != c.to {
			counts[m.Place]++
		}
	}
	switch {
	case len(counts) > 0:
		s.from = slices.MinFunc(slices.Sorted(maps.Keys(counts)), func(a, b string) int { return counts[b] - counts[a] })
	case len(s.members) > 0:
		s.from = c.to // all are there
	}
	return s
}

// there is how many pods of a workload are at the destination.
func (c *migrationCheck) there(s *migrationSubject) int32 {
	var n int32
	for _, m := range s.members {
		if m.Place == c.to {
			n++
		}
	}
	return min(n, s.replicas)
}

func (c *migrationCheck) plan(s *migrationSubject) MigrationPlan {
	p := MigrationPlan{WorkloadName: s.WorkloadName, From: s.from, Replicas: s.replicas, There: c.there(s), Along: c.along(s)}
	if s.Kind != v1alpha1.WorkloadCronJob {
		for _, share := range MigrationSteps(&c.in.Spec) {
			p.Steps = append(p.Steps, max(MigrationCount(s.replicas, share), p.There))
		}
	}
	return p
}

// MigrationSteps are the steps of a Migration, as its spec says or by default.
func MigrationSteps(spec *v1alpha1.MigrationSpec) []int32 {
	if len(spec.Steps) == 0 {
		return []int32{100}
	}
	return spec.Steps
}

// MigrationCount is how many of so many pods a share, in percent, means.
func MigrationCount(replicas, share int32) int32 {
	return int32((int64(replicas)*int64(share) + 99) / 100)
}

func (c *migrationCheck) refuse(format string, args ...any) {
	c.verdict.Refusals = append(c.verdict.Refusals, fmt.Sprintf(format, args...))
}

func (c *migrationCheck) warn(format string, args ...any) {
	c.verdict.Warnings = append(c.verdict.Warnings, fmt.Sprintf(format, args...))
}
