package translate

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fromTwin says whether a condition tells what a kubelet sees, so that local's is the twin's. PodScheduled is home's own, and
// what others put on local stays.
func fromTwin(kind corev1.PodConditionType) bool {
	switch kind {
	case corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady,
		corev1.PodResizePending, corev1.PodResizeInProgress, corev1.AllContainersRestarting:
		return true
	}
	return false
}

func condition(list []corev1.PodCondition, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == kind {
			return &list[i]
		}
	}
	return nil
}

// setCondition puts c in place of the condition of its type, or at the end. list is changed in place.
func setCondition(list []corev1.PodCondition, c corev1.PodCondition) []corev1.PodCondition {
	if old := condition(list, c.Type); old != nil {
		*old = c
		return list
	}
	return append(list, c)
}

// conditions returns the conditions of local, in their order; new ones come last.
func conditions(local, twin *corev1.Pod, phase corev1.PodPhase, observed int64) []corev1.PodCondition {
	have := local.Status.Conditions
	list := make([]corev1.PodCondition, 0, len(have)+len(twin.Status.Conditions)+1)
	for i := range have {
		if !fromTwin(have[i].Type) && have[i].Type != ConditionOffloaded {
			list = append(list, homes(local, twin, i, observed))
		} else if c := wanted(local, twin, have[i].Type, observed); c != nil {
			list = append(list, *c)
		}
	}
	for i := range twin.Status.Conditions {
		kind := twin.Status.Conditions[i].Type
		if !fromTwin(kind) || condition(list, kind) != nil {
			continue
		}
		if c := wanted(local, twin, kind, observed); c != nil {
			list = append(list, *c)
		}
	}
	if c := unschedulable(local, twin); c != nil {
		list = setCondition(list, *c)
	}
	if c := disruption(local, twin, phase, observed); c != nil {
		list = setCondition(list, *c)
	}
	return list
}

// homes returns the i-th condition of local, one that is home's own: a kubelet would only write the generation that it has seen
// into PodScheduled.
func homes(local, twin *corev1.Pod, i int, observed int64) corev1.PodCondition {
	c := local.Status.Conditions[i]
	remote := condition(twin.Status.Conditions, c.Type)
	if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue && remote != nil && remote.Status == corev1.ConditionTrue {
		c.ObservedGeneration = homeGeneration(local, c.Type, remote.ObservedGeneration, observed)
	}
	return c
}

// wanted returns the condition that local should have of a kind that is not home's own, nil for none.
func wanted(local, twin *corev1.Pod, kind corev1.PodConditionType, observed int64) *corev1.PodCondition {
	if kind == ConditionOffloaded {
		return unschedulable(local, twin)
	}
	remote := condition(twin.Status.Conditions, kind)
	if remote == nil {
		return nil
	}
	c := *remote
	c.Message = AtHome(c.Message, twin.Namespace, local.Namespace)
	if kind == corev1.PodReady && len(local.Spec.ReadinessGates) > 0 {
		c = gatedReady(local, twin, c)
	}
	c.ObservedGeneration = homeGeneration(local, kind, remote.ObservedGeneration, observed)
	return &c
}

// homeGeneration returns the observedGeneration of a condition that remote knows for the twin's generations.
func homeGeneration(local *corev1.Pod, kind corev1.PodConditionType, remote, observed int64) int64 {
	if remote != 0 {
		return observed
	}
	if old := condition(local.Status.Conditions, kind); old != nil {
		return old.ObservedGeneration // the API does not let it be taken away
	}
	return 0
}

// gatedReady returns local's Ready condition when it has readiness gates: their conditions are at home, so the twin has
// no gates and its Ready is only half of the answer. The words are the kubelet's.
func gatedReady(local, twin *corev1.Pod, ready corev1.PodCondition) corev1.PodCondition {
	if ready.Status != corev1.ConditionTrue {
		return ready
	}
	var missing []string
	since := ready.LastTransitionTime
	for _, gate := range local.Spec.ReadinessGates {
		c := condition(local.Status.Conditions, gate.ConditionType)
		if c != nil && since.Before(&c.LastTransitionTime) {
			since = c.LastTransitionTime
		}
		if c == nil {
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		} else if c.Status != corev1.ConditionTrue {
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, c.Status))
		}
	}
	if len(missing) > 0 {
		ready.Status = corev1.ConditionFalse
		ready.Reason = "ReadinessGatesNotReady"
		ready.Message = strings.Join(missing, ", ")
	}
	ready.LastTransitionTime = since
	if old := condition(local.Status.Conditions, corev1.PodReady); old != nil && old.Status == ready.Status {
		ready.LastTransitionTime = old.LastTransitionTime
	}
	return ready
}

// unschedulable returns ConditionOffloaded while the provider's scheduler finds no node for the twin, nil otherwise.
func unschedulable(local, twin *corev1.Pod) *corev1.PodCondition {
	remote := condition(twin.Status.Conditions, corev1.PodScheduled)
	if remote == nil || remote.Status != corev1.ConditionFalse || remote.Reason != corev1.PodReasonUnschedulable {
		return nil
	}
	return &corev1.PodCondition{
		Type: ConditionOffloaded, Status: corev1.ConditionFalse,
		Reason: ReasonUnschedulable, Message: AtHome(remote.Message, twin.Namespace, local.Namespace),
		LastTransitionTime: remote.LastTransitionTime,
		ObservedGeneration: homeGeneration(local, ConditionOffloaded, 0, 0),
	}
}

// disruption returns the DisruptionTarget condition of a pod that fails now because of the peer, not of its program: the
// twin's own, or one that says that the twin was deleted. Nil otherwise: as long as a pod lives the condition is home's.
func disruption(local, twin *corev1.Pod, phase corev1.PodPhase, observed int64) *corev1.PodCondition {
	if phase != corev1.PodFailed || local.DeletionTimestamp != nil {
		return nil
	}
	if remote := condition(twin.Status.Conditions, corev1.DisruptionTarget); remote != nil && remote.Status == corev1.ConditionTrue {
		c := *remote
		c.Message = AtHome(c.Message, twin.Namespace, local.Namespace)
		c.ObservedGeneration = homeGeneration(local, c.Type, remote.ObservedGeneration, observed)
		return &c
	}
	if !takenAway(local, twin) {
		return nil
	}
	return &corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: ReasonDeletionByProvider,
		Message:            "the pod was deleted in the cluster that ran it",
		LastTransitionTime: deletedSince(twin),
		ObservedGeneration: homeGeneration(local, corev1.DisruptionTarget, 0, 0),
	}
}

// deletedSince returns when the deletion of a pod began: its deletionTimestamp is when the grace period ends.
func deletedSince(pod *corev1.Pod) metav1.Time {
	at := *pod.DeletionTimestamp
	if grace := pod.DeletionGracePeriodSeconds; grace != nil {
		at = metav1.NewTime(at.Add(-time.Duration(*grace) * time.Second))
	}
	return at
}
