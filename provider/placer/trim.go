package placer

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// trimMeta drops who wrote which field, and the copy of itself that kubectl leaves.
func trimMeta[T metav1.Object](o T) {
	o.SetManagedFields(nil)
	if a := o.GetAnnotations(); a[corev1.LastAppliedConfigAnnotation] != "" {
		a = maps.Clone(a)
		delete(a, corev1.LastAppliedConfigAnnotation)
		o.SetAnnotations(a)
	}
}

// trimPod keeps what the rules of the scheduler, placement and the checks of a Migration read. The pods of the whole cluster pass
// through here: without what their containers are told they take a fraction of the memory.
func trimPod(pod *corev1.Pod) {
	trimMeta(pod)
	for i, c := range pod.Spec.InitContainers {
		pod.Spec.InitContainers[i] = trimContainer(c)
	}
	for i, c := range pod.Spec.Containers {
		pod.Spec.Containers[i] = trimContainer(c)
	}
	pod.Spec.EphemeralContainers, pod.Spec.HostAliases, pod.Spec.DNSConfig = nil, nil, nil
	pod.Status = corev1.PodStatus{
		Phase: pod.Status.Phase, Conditions: pod.Status.Conditions, Reason: pod.Status.Reason,
		NominatedNodeName: pod.Status.NominatedNodeName, StartTime: pod.Status.StartTime,
	}
}

func trimContainer(c corev1.Container) corev1.Container {
	var ports []corev1.ContainerPort
	for _, p := range c.Ports {
		if p.HostPort != 0 {
			ports = append(ports, p)
		}
	}
	return corev1.Container{Name: c.Name, Resources: c.Resources, RestartPolicy: c.RestartPolicy, Ports: ports}
}

// trimNode keeps what the rules of the scheduler read.
func trimNode(node *corev1.Node) {
	trimMeta(node)
	node.Status = corev1.NodeStatus{
		Capacity: node.Status.Capacity, Allocatable: node.Status.Allocatable, Conditions: node.Status.Conditions,
	}
}

// trimReplicaSet drops the template: a Deployment has as many ReplicaSets as it remembers versions.
func trimReplicaSet(rs *appsv1.ReplicaSet) {
	trimMeta(rs)
	rs.Annotations = nil
	rs.Spec.Template = corev1.PodTemplateSpec{}
}

// samePod says that nothing has changed in a pod that placement reads. It looks at what changes in practice: most changes of pods are of
// containers' states, which the cache does not even have.
func samePod(a, b *corev1.Pod) bool {
	return a.Spec.NodeName == b.Spec.NodeName && a.Status.Phase == b.Status.Phase && a.Generation == b.Generation &&
		a.DeletionTimestamp.Equal(b.DeletionTimestamp) && maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) &&
		len(a.Spec.SchedulingGates) == len(b.Spec.SchedulingGates) && len(a.Spec.Tolerations) == len(b.Spec.Tolerations) &&
		maps.Equal(a.Spec.NodeSelector, b.Spec.NodeSelector) && sameOwner(a, b) && slices.EqualFunc(a.Status.Conditions, b.Status.Conditions, samePodCondition)
}

func sameOwner(a, b metav1.Object) bool {
	x, y := metav1.GetControllerOfNoCopy(a), metav1.GetControllerOfNoCopy(b)
	return x == y || x != nil && y != nil && x.UID == y.UID
}

func samePodCondition(a, b corev1.PodCondition) bool {
	return a.Type == b.Type && a.Status == b.Status && a.Reason == b.Reason && a.LastTransitionTime.Equal(&b.LastTransitionTime)
}

// sameNode leaves out the times of heartbeats.
func sameNode(a, b *corev1.Node) bool {
	return a.Spec.Unschedulable == b.Spec.Unschedulable && maps.Equal(a.Labels, b.Labels) &&
		a.DeletionTimestamp.Equal(b.DeletionTimestamp) && equality.Semantic.DeepEqual(a.Spec.Taints, b.Spec.Taints) &&
		equality.Semantic.DeepEqual(a.Status.Allocatable, b.Status.Allocatable) &&
		slices.EqualFunc(a.Status.Conditions, b.Status.Conditions, func(x, y corev1.NodeCondition) bool {
			return x.Type == y.Type && x.Status == y.Status
		})
}

func sameReplicaSet(a, b *appsv1.ReplicaSet) bool {
	return sameSpec(a, b) && sameOwner(a, b)
}

// sameSpec leaves out the status: the pods are looked at themselves. The API server counts changes of the spec.
func sameSpec[T metav1.Object](a, b T) bool {
	return a.GetGeneration() == b.GetGeneration() && maps.Equal(a.GetLabels(), b.GetLabels()) &&
		a.GetDeletionTimestamp().Equal(b.GetDeletionTimestamp())
}
