package placer

import (
	appsv1 "k8s.io/api/apps/v1"
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
)

var _ Workloads = (*Caches)(nil)

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

// Find returns a Deployment or StatefulSet by its name, with its members; false when it is not there, or of another kind.
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
	}
	return placement.Workload{}, false
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
