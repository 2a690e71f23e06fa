package placer

import (
	"cmp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

const (
	kindReplicaSet  = "ReplicaSet"
	kindDeployment  = string(v1alpha1.WorkloadDeployment)
	kindStatefulSet = string(v1alpha1.WorkloadStatefulSet)
	kindCronJob     = string(v1alpha1.WorkloadCronJob)
)

var _ Workloads = (*Caches)(nil)

// Listed is a workload that a Migration can move, and its labels.
type Listed struct {
	v1alpha1.WorkloadName
	Labels map[string]string
}

// Of returns the workload that made a pod, with all its members: those that it was made to let go of too. False: the pod is of none, of a
// Job or a DaemonSet, which are not moved, or its controller is not there (any more).
func (c *Caches) Of(pod *corev1.Pod) (placement.Workload, bool) {
	if had := pod.Labels[v1alpha1.LabelMoving]; had != "" {
		return c.ofReplicaSet(types.UID(had))
	}
	owner := metav1.GetControllerOfNoCopy(pod)
	switch {
	case owner == nil:
		return placement.Workload{}, false
	case isApps(owner, kindReplicaSet):
		return c.ofReplicaSet(owner.UID)
	case isApps(owner, kindStatefulSet):
		if set, ok := c.statefulSets.Get(pod.Namespace, owner.Name); ok && set.UID == owner.UID {
			return c.statefulSet(set), true
		}
	}
	return placement.Workload{}, false
}

// Find returns a workload by its name, with its members; those of a CronJob are the pods of its runs, and its replicas none.
func (c *Caches) Find(namespace string, kind v1alpha1.WorkloadKind, name string) (placement.Workload, bool) {
	switch kind {
	case v1alpha1.WorkloadDeployment:
		if d, ok := c.deployments.Get(namespace, name); ok {
			return c.deployment(d), true
		}
	case v1alpha1.WorkloadStatefulSet:
		if set, ok := c.statefulSets.Get(namespace, name); ok {
			return c.statefulSet(set), true
		}
	case v1alpha1.WorkloadCronJob:
		if job, ok := c.cronJobs.Get(namespace, name); ok {
			return c.cronJob(job), true
		}
	}
	return placement.Workload{}, false
}

// List returns the workloads of a namespace that a Migration can move, by kind and name.
func (c *Caches) List(namespace string) []Listed {
	var out []Listed
	add := func(kind v1alpha1.WorkloadKind, o metav1.Object) {
		out = append(out, Listed{WorkloadName: v1alpha1.WorkloadName{Kind: kind, Name: o.GetName()}, Labels: o.GetLabels()})
	}
	for _, d := range c.deployments.Index(indexSpace, namespace) {
		add(v1alpha1.WorkloadDeployment, d)
	}
	for _, set := range c.statefulSets.Index(indexSpace, namespace) {
		add(v1alpha1.WorkloadStatefulSet, set)
	}
	for _, job := range c.cronJobs.Index(indexSpace, namespace) {
		add(v1alpha1.WorkloadCronJob, job)
	}
	slices.SortFunc(out, func(a, b Listed) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return out
}

func isApps(owner *metav1.OwnerReference, kind string) bool {
	return owner.Kind == kind && owner.APIVersion == appsv1.SchemeGroupVersion.String()
}

// ofReplicaSet is the Deployment of a ReplicaSet; the ReplicaSet itself when it stands alone, or is one of something that Spillway does not know.
func (c *Caches) ofReplicaSet(uid types.UID) (placement.Workload, bool) {
	rs, ok := c.replicaSetByUID(uid)
	if !ok {
		return placement.Workload{}, false
	}
	owner := metav1.GetControllerOfNoCopy(rs)
	if owner == nil || !isApps(owner, kindDeployment) {
		return placement.Workload{
			Namespace: rs.Namespace, Kind: kindReplicaSet, Name: rs.Name, Replicas: replicasOf(rs.Spec.Replicas),
			NoSurge: !letsGo(rs), Members: c.membersOf(rs),
		}, true
	}
	d, ok := c.deployments.Get(rs.Namespace, owner.Name)
	if !ok || d.UID != owner.UID {
		return placement.Workload{}, false
	}
	return c.deployment(d), true
}

func (c *Caches) deployment(d *appsv1.Deployment) placement.Workload {
	w := placement.Workload{
		Namespace: d.Namespace, Kind: kindDeployment, Name: d.Name, Replicas: replicasOf(d.Spec.Replicas),
		NoSurge: d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType,
	}
	for _, rs := range c.replicaSets.Index(indexOwner, string(d.UID)) {
		w.Members = append(w.Members, c.membersOf(rs)...)
		w.NoSurge = w.NoSurge || !letsGo(rs)
	}
	return w
}

// letsGo says that a ReplicaSet lets go of a pod whose label pod-template-hash has changed.
func letsGo(rs *appsv1.ReplicaSet) bool {
	return rs.Spec.Selector != nil && rs.Spec.Selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] != ""
}

// membersOf are the pods that a ReplicaSet has or was made to let go of, and those that it is about to take back.
func (c *Caches) membersOf(rs *appsv1.ReplicaSet) []placement.Member {
	members := c.members(rs.UID)
	if !letsGo(rs) {
		return members
	}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return members // an API server does not take such a ReplicaSet
	}
	hash := rs.Spec.Selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey]
	for _, pod := range c.pods.Index(indexOrphan, rs.Namespace+"/"+hash) {
		if selector.Matches(labels.Set(pod.Labels)) {
			members = c.appendMember(members, pod)
		}
	}
	return members
}

func (c *Caches) statefulSet(set *appsv1.StatefulSet) placement.Workload {
	return placement.Workload{
		Namespace: set.Namespace, Kind: kindStatefulSet, Name: set.Name, Replicas: replicasOf(set.Spec.Replicas),
		Members: c.members(set.UID),
	}
}

func (c *Caches) cronJob(job *batchv1.CronJob) placement.Workload {
	w := placement.Workload{Namespace: job.Namespace, Kind: kindCronJob, Name: job.Name}
	for _, pod := range c.pods.Index(indexSpace, job.Namespace) {
		if isRun(pod, job.Name) {
			w.Members = c.appendMember(w.Members, pod)
		}
	}
	return w
}

// isRun says that a pod is of a Job that a CronJob made: its name and the minutes since 1970.
func isRun(pod *corev1.Pod, cronJob string) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil || owner.Kind != "Job" || owner.APIVersion != batchv1.SchemeGroupVersion.String() {
		return false
	}
	minutes, ok := strings.CutPrefix(owner.Name, cronJob+"-")
	return ok && minutes != "" && strings.Trim(minutes, "0123456789") == ""
}

func (c *Caches) members(controller types.UID) []placement.Member {
	var members []placement.Member
	for _, pod := range c.pods.Index(indexOwner, string(controller)) {
		members = c.appendMember(members, pod)
	}
	return members
}

func (c *Caches) appendMember(members []placement.Member, pod *corev1.Pod) []placement.Member {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return members
	}
	return append(members, placement.Member{Pod: pod, Place: placement.PlaceOf(pod, c.PeerOf)})
}

func replicasOf(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}
