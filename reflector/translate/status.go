package translate

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PodStatus returns the status that local should have while twin runs it. The result shares memory with both: read it,
// do not change it. Times are the twin's.
//
// A local pod that has ended keeps its status for ever, but for containers that had not ended then. A twin without a node changes nothing on a fresh local pod,
// unless the provider's scheduler says that it fits nowhere (ConditionOffloaded). A twin that is deleted in the provider
// does not end a pod that is always restarted, since it will be made again; it fails others with DisruptionTarget.
//
// The caller has checked that the twin is local's (AnnotationOriginUID).
func PodStatus(local, twin *corev1.Pod, env Env) corev1.PodStatus {
	if ended(local) {
		return lastWords(local, twin)
	}
	from := &twin.Status
	s := local.Status // what is not written below is home's own; see fields.md
	s.ObservedGeneration = observedGeneration(local, twin, env)
	s.Phase = phase(local, twin)
	s.Message, s.Reason = AtHome(from.Message, twin.Namespace, local.Namespace), from.Reason
	s.StartTime = from.StartTime
	s.PodIP, s.PodIPs = podIPs(from, env)
	s.HostIP, s.HostIPs = hostIPs(from, env)
	takeContainers(&s, local, twin)
	s.Resize = from.Resize
	s.AllocatedResources = from.AllocatedResources
	s.Resources = from.Resources
	s.Conditions = conditions(local, twin, s.Phase, s.ObservedGeneration)
	return s
}

// lastWords returns the status of a local pod that has ended: as it is, with the ends of containers that came after that of
// the pod.
func lastWords(local, twin *corev1.Pod) corev1.PodStatus {
	s := local.Status
	if twin.Status.Phase != s.Phase || twin.DeletionTimestamp != nil || local.DeletionTimestamp != nil || !pending(&s) {
		return s
	}
	takeContainers(&s, local, twin)
	s.Conditions = conditions(local, twin, s.Phase, s.ObservedGeneration)
	return s
}

// pending says whether a container has not ended.
func pending(s *corev1.PodStatus) bool {
	for _, list := range [...][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].State.Terminated == nil {
				return true
			}
		}
	}
	return false
}

// phase returns the phase of local while twin runs it.
func phase(local, twin *corev1.Pod) corev1.PodPhase {
	switch twin.Status.Phase {
	case corev1.PodPending, corev1.PodRunning:
		return twin.Status.Phase
	case corev1.PodSucceeded, corev1.PodFailed:
		if takenAway(local, twin) && local.Spec.RestartPolicy == corev1.RestartPolicyAlways {
			return local.Status.Phase
		}
		return twin.Status.Phase
	}
	return local.Status.Phase
}

// takenAway says whether the provider deletes the twin of a pod that home wants to keep.
func takenAway(local, twin *corev1.Pod) bool {
	return twin.DeletionTimestamp != nil && local.DeletionTimestamp == nil
}

// observedGeneration returns local's generation once the twin has everything that local asks for and its kubelet has seen it;
// until then what local shows. The deletion of local bumps its generation too: this alone is not worth a write.
func observedGeneration(local, twin *corev1.Pod, env Env) int64 {
	shown := local.Status.ObservedGeneration
	switch seen := twin.Status.ObservedGeneration; {
	case shown == local.Generation, local.DeletionTimestamp != nil, seen == 0, seen < twin.Generation:
		return shown
	}
	if behind, _ := drift(local, twin, env); behind != nil {
		return shown
	}
	return local.Generation
}

// podIPs returns the addresses of the twin as home reaches them.
func podIPs(from *corev1.PodStatus, env Env) (string, []corev1.PodIP) {
	if env.MapIP == nil {
		return from.PodIP, from.PodIPs
	}
	var list []corev1.PodIP
	for _, remote := range from.PodIPs {
		if ip := mapIP(remote.IP, env); ip != "" {
			list = append(list, corev1.PodIP{IP: ip})
		}
	}
	if len(list) == 0 {
		return mapIP(from.PodIP, env), nil
	}
	return list[0].IP, list
}

func mapIP(ip string, env Env) string {
	remote, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	if local := env.MapIP(remote); local.IsValid() {
		return local.String()
	}
	return ""
}

// hostIPs returns the addresses of the virtual node once the twin has a node: one of each family, as the API demands.
func hostIPs(from *corev1.PodStatus, env Env) (string, []corev1.HostIP) {
	if from.HostIP == "" || len(env.NodeIPs) == 0 {
		return "", nil
	}
	first := env.NodeIPs[0]
	list := []corev1.HostIP{{IP: first.String()}}
	for _, other := range env.NodeIPs[1:] {
		if other.Is4() != first.Is4() {
			list = append(list, corev1.HostIP{IP: other.String()})
			break
		}
	}
	return list[0].IP, list
}

// takeContainers takes into s, a copy of local's status, the statuses of the containers that home knows.
func takeContainers(s *corev1.PodStatus, local, twin *corev1.Pod) {
	from, remote, home := &twin.Status, twin.Namespace, local.Namespace
	s.InitContainerStatuses = statusesAtHome(known(from.InitContainerStatuses, local.Spec.InitContainers), remote, home)
	s.ContainerStatuses = statusesAtHome(known(from.ContainerStatuses, local.Spec.Containers), remote, home)
	s.EphemeralContainerStatuses = statusesAtHome(
		knownEphemeral(from.EphemeralContainerStatuses, local.Spec.EphemeralContainers), remote, home)
}

// known returns the statuses of containers that home knows, without those that the provider's admission added.
func known(statuses []corev1.ContainerStatus, containers []corev1.Container) []corev1.ContainerStatus {
	return only(statuses, func(name string) bool {
		return slices.ContainsFunc(containers, func(c corev1.Container) bool { return c.Name == name })
	})
}

func knownEphemeral(statuses []corev1.ContainerStatus, containers []corev1.EphemeralContainer) []corev1.ContainerStatus {
	return only(statuses, func(name string) bool {
		return slices.ContainsFunc(containers, func(c corev1.EphemeralContainer) bool { return c.Name == name })
	})
}

// only returns the statuses whose name is known: the same slice if they all are.
func only(statuses []corev1.ContainerStatus, isKnown func(name string) bool) []corev1.ContainerStatus {
	foreign := func(s corev1.ContainerStatus) bool { return !isKnown(s.Name) }
	if !slices.ContainsFunc(statuses, foreign) {
		return statuses
	}
	return slices.DeleteFunc(slices.Clone(statuses), foreign)
}

// Gone returns the status of a local pod whose twin has vanished and is not made again: Failed, with the condition
// DisruptionTarget (ReasonDeletionByProvider), so that Jobs do not count it as the program's failure, and its unfinished
// containers terminated as a kubelet shows containers that it cannot find (ContainerStatusUnknown, exit code 137).
// A pod that has ended keeps its status. The result is a deep copy.
func Gone(local *corev1.Pod, now metav1.Time) corev1.PodStatus {
	s := *local.Status.DeepCopy()
	if ended(local) {
		return s
	}
	now = now.Rfc3339Copy()
	s.Phase = corev1.PodFailed
	s.Reason = ReasonDeletionByProvider
	s.Message = "the pod was deleted in the cluster that ran it"
	for _, list := range [...][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			lose(&list[i], now)
		}
	}
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c corev1.PodCondition) bool { return c.Type == ConditionOffloaded })
	for _, kind := range [...]corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		s.Conditions = setCondition(s.Conditions, corev1.PodCondition{
			Type: kind, Status: corev1.ConditionFalse, Reason: "PodFailed", LastTransitionTime: now,
		})
	}
	s.Conditions = setCondition(s.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: ReasonDeletionByProvider, Message: s.Message,
		LastTransitionTime: now,
	})
	return s
}

// lose marks a container as ended without anybody having seen how. One that never started stays waiting.
func lose(c *corev1.ContainerStatus, now metav1.Time) {
	never := c.State.Running == nil && c.LastTerminationState.Terminated == nil
	if c.State.Terminated != nil || never {
		return
	}
	started, no := metav1.Time{}, false
	if c.State.Running != nil {
		started = c.State.Running.StartedAt
	}
	c.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: 137, Reason: "ContainerStatusUnknown", ContainerID: c.ContainerID, StartedAt: started, FinishedAt: now,
		Message: "the container went with its pod, which was deleted in the cluster that ran it",
	}}
	c.Ready, c.Started = false, &no
}

// Refused returns the status of a local pod for which the peer does not take a twin: Pending as if there had never been
// one, with ConditionOffloaded False for the reason (CamelCase) and with the provider's words. The same words again give
// the same status, whatever now is. A pod that has ended keeps its status. The result shares memory with local.
func Refused(local *corev1.Pod, reason, message string, now metav1.Time) corev1.PodStatus {
	if ended(local) {
		return local.Status
	}
	s := PodStatus(local, &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending}}, Env{})
	refusal := corev1.PodCondition{
		Type: ConditionOffloaded, Status: corev1.ConditionFalse, Reason: reason, Message: message,
		LastTransitionTime: now.Rfc3339Copy(),
	}
	if old := condition(local.Status.Conditions, ConditionOffloaded); old != nil {
		refusal.ObservedGeneration = old.ObservedGeneration
		if old.Status == refusal.Status {
			refusal.LastTransitionTime = old.LastTransitionTime
		}
	}
	s.Conditions = setCondition(slices.Clone(s.Conditions), refusal)
	return s
}
