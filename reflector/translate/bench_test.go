package translate

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func BenchmarkTwin(b *testing.B) {
	local := web()
	b.ReportAllocs()
	for b.Loop() {
		Twin(local, testEnv())
	}
}

func BenchmarkDrift_None(b *testing.B) {
	local := web()
	twin := admitted(local)
	b.ReportAllocs()
	for b.Loop() {
		if patch, _, err := Drift(local, twin, testEnv()); patch != nil || err != nil {
			b.Fatal(string(patch), err)
		}
	}
}

func BenchmarkStatus_Equal(b *testing.B) {
	local := bound()
	twin := running(local)
	local.Status = overTheWire(b, PodStatus(local, twin, testEnv()))
	benchmarkStatus(b, local, twin, false)
}

func BenchmarkStatus_PendingToRunning(b *testing.B) {
	local := bound()
	benchmarkStatus(b, local, running(local), true)
}

func BenchmarkStatus_PendingToPending(b *testing.B) {
	local := bound()
	twin := admitted(local)
	twin.Status.Phase = corev1.PodPending
	benchmarkStatus(b, local, twin, false)
}

func benchmarkStatus(b *testing.B, local, twin *corev1.Pod, differs bool) {
	env := testEnv()
	b.ReportAllocs()
	for b.Loop() {
		patch, err := StatusPatch(local, PodStatus(local, twin, env))
		if err != nil || (patch != nil) != differs {
			b.Fatal(string(patch), err)
		}
	}
}
