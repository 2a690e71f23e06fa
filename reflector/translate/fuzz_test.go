package translate

import (
	"encoding/json"
	"fmt"
	"runtime/debug"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"
)

// nonsensePods is how many pods TestNonsense tries.
const nonsensePods = 10_000

// TestNonsense gives every function pods that no API server would keep: unions with many members or none, references to
// nothing, names twice. They must answer, whatever they say, with something that can be encoded.
func TestNonsense(t *testing.T) {
	const seed = 4
	fill := nonsense(seed)
	for i := range nonsensePods {
		var local, twin corev1.Pod
		fill.Fill(&local)
		switch i % 3 {
		case 0: // of something else altogether
			fill.Fill(&twin)
		case 1: // as it was made
			twin = *Twin(&local, testEnv())
		case 2: // as it was made, with a status of its own and without what somebody took away
			twin = *Twin(&local, testEnv())
			fill.Fill(&twin.Status)
			twin.Spec.Containers = twin.Spec.Containers[:len(twin.Spec.Containers)/2]
			twin.Labels, twin.Annotations = nil, nil
		}
		if err := answers(&local, &twin); err != "" {
			t.Fatalf("pod %d of seed %d: %s", i, seed, err)
		}
	}
}

// answers calls every function that takes pods. It returns what went wrong, with the stack of a panic; empty if nothing did.
func answers(local, twin *corev1.Pod) (wrong string) {
	defer func() {
		if r := recover(); r != nil {
			wrong = fmt.Sprintf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	env, now := testEnv(), metav1.Unix(1.7e9, 0)
	made := Twin(local, env)
	if made.ResourceVersion != "" || made.UID != "" || len(made.Spec.EphemeralContainers) > 0 {
		return "the twin cannot be created"
	}
	References(&local.Spec)
	References(&twin.Spec)
	patches := [][]byte{}
	patch, _, err := Drift(local, twin, env)
	if err != nil {
		return "drift: " + err.Error()
	}
	patches = append(patches, patch)
	for _, want := range []corev1.PodStatus{
		PodStatus(local, twin, env), Gone(local, now), Refused(local, "Reason", "words", now),
	} {
		if patch, err = StatusPatch(local, want); err != nil {
			return "status patch: " + err.Error()
		}
		patches = append(patches, patch)
	}
	for _, patch := range patches {
		if patch != nil && !json.Valid(patch) {
			return "not JSON: " + string(patch)
		}
	}
	return ""
}

// nonsense returns a source of pods of which only the types are right. Most pointers are nil and lists are short, so that
// ten thousand of them take a second.
func nonsense(seed int64) *randfill.Filler {
	words := []string{ // few, so that names meet
		"", "a", "b", "kube-api-access-x", corev1.LabelHostname, "metadata.uid", "spec.serviceAccountName", "10.0.0.1", "::1", "-", "\x00\xff",
		LabelOrigin, AnnotationImages, TaintVirtualNode,
	}
	return randfill.NewWithSeed(seed).NilChance(0.7).NumElements(0, 2).MaxDepth(11).Funcs(
		func(s *string, c randfill.Continue) { *s = pick(c, words) },
		func(p *corev1.PodPhase, c randfill.Continue) {
			*p = pick(c, []corev1.PodPhase{"", "else", corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed})
		},
		func(k *corev1.PodConditionType, c randfill.Continue) {
			*k = pick(c, []corev1.PodConditionType{"", "else", corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled, corev1.DisruptionTarget, ConditionOffloaded})
		},
		func(o *corev1.TolerationOperator, c randfill.Continue) {
			*o = pick(c, []corev1.TolerationOperator{"", "else", corev1.TolerationOpExists, corev1.TolerationOpEqual})
		},
		func(n *corev1.ResourceName, c randfill.Continue) {
			*n = pick(c, []corev1.ResourceName{"", "else", corev1.ResourceCPU, corev1.ResourceMemory})
		},
		func(at *metav1.Time, c randfill.Continue) { *at = metav1.Unix(1.7e9+c.Int63n(1e6), 0) },
	)
}

func pick[T any](c randfill.Continue, list []T) T { return list[c.Intn(len(list))] }
