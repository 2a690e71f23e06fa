package fuzz

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// notSettable are the fields that a user cannot set when a pod is created, with the reason. What is inside them is not
// looked for.
func notSettable() map[string]string {
	const byServer = "the API server writes it"
	return map[string]string{
		"ObjectMeta.selfLink":                   "nobody writes it any more",
		"ObjectMeta.uid":                        byServer,
		"ObjectMeta.resourceVersion":            "the API server refuses it",
		"ObjectMeta.generation":                 byServer,
		"ObjectMeta.creationTimestamp":          byServer,
		"ObjectMeta.deletionTimestamp":          byServer,
		"ObjectMeta.deletionGracePeriodSeconds": byServer,
		"ObjectMeta.managedFields":              byServer,
		"OwnerReference.controller":             "a controller of that kind would have to be there",
		"PodSpec.ephemeralContainers":           "the API server takes them by subresource only",
	}
}

// TestCoverage fails when the API has a field that a user can set and no pod of ours has.
func TestCoverage(t *testing.T) {
	const pods = 4000
	except := notSettable()
	set := map[string]bool{}
	for i := range uint64(pods) {
		pod := newPod(1, i)
		note := func(key string, _ reflect.Value) bool {
			set[key] = true
			return true
		}
		walkValue(reflect.ValueOf(pod.ObjectMeta), note)
		walkValue(reflect.ValueOf(pod.Spec), note)
	}
	seen := map[reflect.Type]bool{}
	missing := func(key string, _ reflect.Value) bool {
		_, excused := except[key]
		switch {
		case excused && set[key]:
			t.Errorf("%s is set, although %s", key, except[key])
		case !excused && !set[key]:
			t.Errorf("none of %d pods sets %s: let newPod set it, or say in notSettable why not", pods, key)
		}
		return !excused
	}
	walkType(reflect.TypeFor[corev1.Pod]().Field(1).Type, seen, missing) // metadata
	walkType(reflect.TypeFor[corev1.PodSpec](), seen, missing)
}

func TestNewPod_SameSeedSamePod(t *testing.T) {
	for i := range uint64(200) {
		if a, b := newPod(7, i), newPod(7, i); !reflect.DeepEqual(a, b) {
			t.Fatalf("pod %d is another one the second time", i)
		}
	}
}
