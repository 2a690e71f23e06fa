package translate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// apply returns pod after a strategic merge patch, as the API server computes it.
func apply(t testing.TB, pod *corev1.Pod, patch []byte) *corev1.Pod {
	t.Helper()
	before, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, &corev1.Pod{})
	if err != nil {
		t.Fatalf("patch %s: %v", patch, err)
	}
	patched := &corev1.Pod{}
	if err := json.Unmarshal(after, patched); err != nil {
		t.Fatal(err)
	}
	return patched
}

// sameStatus says whether two statuses are equal but for the order of conditions.
func sameStatus(a, b corev1.PodStatus) bool {
	for _, s := range []*corev1.PodStatus{&a, &b} {
		s.Conditions = slices.Clone(s.Conditions)
		slices.SortFunc(s.Conditions, func(x, y corev1.PodCondition) int { return cmp.Compare(x.Type, y.Type) })
	}
	return equality.Semantic.DeepEqual(a, b)
}

// overTheWire returns a status as a client reads it: without the empty things that JSON does not write.
func overTheWire(t testing.TB, s corev1.PodStatus) (read corev1.PodStatus) {
	t.Helper()
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &read)
	}
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// keepGenerations does what the API server does with an observedGeneration that is taken away.
func keepGenerations(have, want corev1.PodStatus) corev1.PodStatus {
	want = *want.DeepCopy()
	if want.ObservedGeneration == 0 {
		want.ObservedGeneration = have.ObservedGeneration
	}
	for i := range want.Conditions {
		if old := condition(have.Conditions, want.Conditions[i].Type); old != nil && want.Conditions[i].ObservedGeneration == 0 {
			want.Conditions[i].ObservedGeneration = old.ObservedGeneration
		}
	}
	return want
}

// TestStatusPatch_RandomStatuses: applying the patch gives what was wanted, twice gives nothing, and bytes are stable.
func TestStatusPatch_RandomStatuses(t *testing.T) {
	fill := filler(2)
	for range randomPods / 4 { // four patches each; slow under -race
		local := &corev1.Pod{}
		var want corev1.PodStatus
		fill.Fill(&local.Status)
		fill.Fill(&want)
		local.Status, want = overTheWire(t, local.Status), overTheWire(t, want)
		checkStatusPatch(t, local, want)
		checkStatusPatch(t, local, corev1.PodStatus{})
		checkStatusPatch(t, &corev1.Pod{}, want)

		near := *local.Status.DeepCopy()
		near.Phase = corev1.PodRunning
		near.Conditions = near.Conditions[:len(near.Conditions)/2]
		checkStatusPatch(t, local, near)
	}
}

func checkStatusPatch(t *testing.T, local *corev1.Pod, want corev1.PodStatus) {
	t.Helper()
	patch, err := StatusPatch(local, want)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := StatusPatch(local, *want.DeepCopy())
	if !bytes.Equal(patch, again) {
		t.Fatalf("two patches for the same: %s and %s", patch, again)
	}
	want = keepGenerations(local.Status, want)
	if patch == nil {
		if !sameStatus(local.Status, want) {
			t.Fatalf("no patch, but they differ (-have +want):\n%s", gocmp.Diff(local.Status, want))
		}
		return
	}
	patched := apply(t, local, patch)
	if !sameStatus(patched.Status, want) {
		t.Fatalf("patch %s gives (-got +want):\n%s", patch, gocmp.Diff(patched.Status, want))
	}
	if rest, _ := StatusPatch(patched, want); rest != nil {
		t.Fatalf("after %s there is still %s", patch, rest)
	}
}

func TestStatusPatch(t *testing.T) {
	at := metav1.Unix(1.7e9, 0)
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: at}
	unready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: at, Reason: "ContainersNotReady"}
	scheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: at}

	for name, row := range map[string]struct {
		have, want corev1.PodStatus
		patch      string
	}{
		"equal": {
			have: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{ready, scheduled}},
			want: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{scheduled, ready}},
		},
		"only what differs in a condition": {
			have:  corev1.PodStatus{Conditions: []corev1.PodCondition{scheduled, unready}},
			want:  corev1.PodStatus{Conditions: []corev1.PodCondition{scheduled, ready}},
			patch: `{"status":{"conditions":[{"reason":null,"status":"True","type":"Ready"}]}}`,
		},
		"a condition goes": {
			have:  corev1.PodStatus{Conditions: []corev1.PodCondition{scheduled, unready}},
			want:  corev1.PodStatus{Conditions: []corev1.PodCondition{scheduled}},
			patch: `{"status":{"conditions":[{"$patch":"delete","type":"Ready"}]}}`,
		},
		"another address replaces the old one": {
			have:  corev1.PodStatus{PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}},
			want:  corev1.PodStatus{PodIP: "10.0.0.2", PodIPs: []corev1.PodIP{{IP: "10.0.0.2"}}},
			patch: `{"status":{"podIP":"10.0.0.2","podIPs":[{"$patch":"replace"},{"ip":"10.0.0.2"}]}}`,
		},
		"the address goes": {
			have:  corev1.PodStatus{PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}},
			patch: `{"status":{"podIP":null,"podIPs":null}}`,
		},
		"the API server keeps an observed generation": {
			have: corev1.PodStatus{ObservedGeneration: 3},
			want: corev1.PodStatus{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := StatusPatch(&corev1.Pod{Status: row.have}, row.want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(row.patch, string(got)); diff != "" {
				t.Errorf("patch (-want +got):\n%s", diff)
			}
		})
	}
}
