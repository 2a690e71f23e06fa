package translate

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StatusPatch returns the smallest strategic merge patch for pods/status, without resourceVersion, that turns the
// status of local into want; nil when they are equal. The order of conditions is no difference, and neither is an
// observedGeneration of 0 in want, here and in conditions: the API server keeps the old one.
func StatusPatch(local *corev1.Pod, want corev1.PodStatus) ([]byte, error) {
	status, err := statusDrift(&local.Status, &want)
	if err == nil && status == nil {
		return nil, nil
	}
	var patch []byte
	if err == nil {
		patch, err = json.Marshal(object{"status": status})
	}
	if err != nil {
		return nil, fmt.Errorf("encode status patch of pod %s/%s: %w", local.Namespace, local.Name, err)
	}
	return patch, nil
}

// statusDrift returns the fields of a status that differ, nil if none. What is a list without a patch strategy in the API is
// replaced whole; the others say so with a directive, or they would be merged.
func statusDrift(have, want *corev1.PodStatus) (object, error) {
	var p object
	if want.ObservedGeneration != 0 && want.ObservedGeneration != have.ObservedGeneration {
		p = set(p, "observedGeneration", want.ObservedGeneration)
	}
	p = textDrift(p, "phase", have.Phase, want.Phase)
	p = textDrift(p, "message", have.Message, want.Message)
	p = textDrift(p, "reason", have.Reason, want.Reason)
	p = textDrift(p, "nominatedNodeName", have.NominatedNodeName, want.NominatedNodeName)
	p = textDrift(p, "hostIP", have.HostIP, want.HostIP)
	p = textDrift(p, "podIP", have.PodIP, want.PodIP)
	p = textDrift(p, "qosClass", have.QOSClass, want.QOSClass)
	p = textDrift(p, "resize", have.Resize, want.Resize)
	if !have.StartTime.Equal(want.StartTime) {
		p = set(p, "startTime", want.StartTime)
	}
	if conditions := conditionsDrift(have.Conditions, want.Conditions); conditions != nil {
		p = set(p, "conditions", conditions)
	}
	p = mergedListDrift(p, "hostIPs", have.HostIPs, want.HostIPs)
	p = mergedListDrift(p, "podIPs", have.PodIPs, want.PodIPs)
	p = mergedListDrift(p, "resourceClaimStatuses", have.ResourceClaimStatuses, want.ResourceClaimStatuses)
	p = listDrift(p, "initContainerStatuses", have.InitContainerStatuses, want.InitContainerStatuses)
	p = listDrift(p, "containerStatuses", have.ContainerStatuses, want.ContainerStatuses)
	p = listDrift(p, "ephemeralContainerStatuses", have.EphemeralContainerStatuses, want.EphemeralContainerStatuses)
	p = listDrift(p, "nodeAllocatableResourceClaimStatuses",
		have.NodeAllocatableResourceClaimStatuses, want.NodeAllocatableResourceClaimStatuses)
	p, err := structDrift(p, "extendedResourceClaimStatus", have.ExtendedResourceClaimStatus, want.ExtendedResourceClaimStatus)
	if err == nil {
		p, err = structDrift(p, "resources", have.Resources, want.Resources)
	}
	if err == nil && !equality.Semantic.DeepEqual(have.AllocatedResources, want.AllocatedResources) {
		p, err = structDrift(p, "allocatedResources", &have.AllocatedResources, &want.AllocatedResources)
	}
	return p, err
}

func textDrift[S ~string](p object, key string, have, want S) object {
	switch want {
	case have:
		return p
	case "":
		return set(p, key, nil)
	}
	return set(p, key, want)
}

// listDrift is for lists that a patch replaces.
func listDrift[T any](p object, key string, have, want []T) object {
	switch {
	case len(have) == 0 && len(want) == 0 || equality.Semantic.DeepEqual(have, want):
		return p
	case len(want) == 0:
		return set(p, key, nil)
	}
	return set(p, key, want)
}

// mergedListDrift is for lists that a patch merges unless it is told not to.
func mergedListDrift[T any](p object, key string, have, want []T) object {
	switch {
	case len(have) == 0 && len(want) == 0 || equality.Semantic.DeepEqual(have, want):
		return p
	case len(want) == 0:
		return set(p, key, nil)
	case len(have) == 0:
		return set(p, key, want)
	}
	list := make([]any, 0, len(want)+1)
	list = append(list, object{"$patch": "replace"})
	for i := range want {
		list = append(list, want[i])
	}
	return set(p, key, list)
}

// structDrift is for objects and maps, which a patch merges unless it is told not to.
func structDrift[T any](p object, key string, have, want *T) (object, error) {
	if equality.Semantic.DeepEqual(have, want) {
		return p, nil
	}
	old, err := fieldsOf(have)
	if err != nil {
		return nil, err
	}
	fields, err := fieldsOf(want)
	if err != nil {
		return nil, err
	}
	if fields == nil {
		return set(p, key, nil), nil
	}
	if len(old) > 0 { // the directive would be taken for a deletion where there is nothing to replace
		fields["$patch"] = "replace"
	}
	return set(p, key, fields), nil
}

// fieldsOf returns a value as JSON has it, nil for null.
func fieldsOf(value any) (fields object, err error) {
	text, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	return fields, err
}

// conditionsDrift returns the patch of conditions, which are merged by type.
func conditionsDrift(have, want []corev1.PodCondition) []object {
	var list []object
	for i := range want {
		old := condition(have, want[i].Type)
		if old == nil {
			old = &corev1.PodCondition{}
		}
		if c := conditionDrift(old, &want[i]); c != nil {
			list = append(list, set(c, "type", want[i].Type))
		}
	}
	for i := range have {
		if condition(want, have[i].Type) == nil {
			list = append(list, object{"$patch": "delete", "type": have[i].Type})
		}
	}
	return list
}

// conditionDrift returns the fields of a condition that differ, nil if none.
func conditionDrift(have, want *corev1.PodCondition) object {
	var p object
	if have.Type == "" {
		p = object{}
	}
	if want.ObservedGeneration != 0 && want.ObservedGeneration != have.ObservedGeneration {
		p = set(p, "observedGeneration", want.ObservedGeneration)
	}
	p = textDrift(p, "status", have.Status, want.Status)
	p = timeDrift(p, "lastProbeTime", &have.LastProbeTime, &want.LastProbeTime)
	p = timeDrift(p, "lastTransitionTime", &have.LastTransitionTime, &want.LastTransitionTime)
	p = textDrift(p, "reason", have.Reason, want.Reason)
	return textDrift(p, "message", have.Message, want.Message)
}

// timeDrift writes null for the zero time, as the API does.
func timeDrift(p object, key string, have, want *metav1.Time) object {
	if have.Equal(want) {
		return p
	}
	return set(p, key, *want)
}
