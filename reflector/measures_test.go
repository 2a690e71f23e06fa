package reflector

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// TestMeasures_OfOnePod follows a pod from its binding to Ready: each change is answered by one write, and both directions are timed.
func TestMeasures_OfOnePod(t *testing.T) {
	PeerGone("west") // what other tests counted
	runLoop(t, objects(localPod()), nil, nil, func(l *loop) {
		twin := l.twin()
		twin.Spec.NodeName, twin.Status = "remote-1", readyStatus()
		l.put(l.peer, "pods", twin)
		l.settle()
		m := l.pair.measures
		for step, want := range map[stepKind]float64{stepCreate: 1, stepDeleteTwin: 0, stepDeleteLocal: 0} {
			if got := counted(t, m.steps[step].done); got != want {
				t.Errorf("%s was counted %v times, want %v", step, got, want)
			}
		}
		if counted(t, m.steps[stepSetStatus].done) < 1 {
			t.Error("no set status was counted")
		}
		for name, o := range map[string]prometheus.Observer{"to the peer": m.toPeer[kindPod], "to home": m.toHome, "until Ready": m.ready} {
			if n := timed(t, o); n < 1 {
				t.Errorf("nothing was timed %s", name)
			}
		}
		if len(l.pair.changes.seen) > 0 || len(l.pair.ways.open) > 0 {
			t.Errorf("%d changes and %d ways are kept though nothing is to be done", len(l.pair.changes.seen), len(l.pair.ways.open))
		}
	})
}

// TestTrace_FromBoundToReady: the steps of the way, in one trace.
func TestTrace_FromBoundToReady(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	runLoop(t, objects(localPod()), nil, nil, func(l *loop) {
		twin := l.twin()
		twin.Spec.NodeName = "remote-1"
		l.put(l.peer, "pods", twin)
		l.settle()
		twin = l.twin()
		twin.Status = readyStatus()
		l.put(l.peer, "pods", twin)
		l.settle()
	})
	var names []string
	ids := map[string]bool{}
	for _, s := range spans.GetSpans() {
		names = append(names, s.Name)
		ids[s.SpanContext.TraceID().String()] = true
		if s.Name == "offload pod" {
			for _, key := range []string{"k8s.pod.uid", "spillway.peer", "k8s.namespace.name", "k8s.node.name"} {
				if !slices.ContainsFunc(s.Attributes, func(a attribute.KeyValue) bool { return string(a.Key) == key && a.Value.AsString() != "" }) {
					t.Errorf("the way says nothing of %s", key)
				}
			}
		}
	}
	want := []string{"create twin", "schedule at peer", "start containers", "report", "offload pod"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if len(ids) != 1 {
		t.Errorf("%d traces, want one", len(ids))
	}
}

// BenchmarkMeasures is what the measures add to one change of a pod that leads to one write.
func BenchmarkMeasures(b *testing.B) {
	p := &Pair{measures: newMeasures("bench"), changes: newChanges()}
	b.Cleanup(func() { PeerGone("bench") })
	k := key{"far", kindPod, "shop", "web"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.changes.noted(k, atPeer)
			p.stepped(k, step{kind: stepSetStatus}, nil)
			p.changes.settled(k)
		}
	})
}

// BenchmarkPlan is the step itself, to compare.
func BenchmarkPlan(b *testing.B) {
	local := localPod()
	env := planEnv{Env: translate.Env{Origin: "consumer-1", NodeName: "far", RemoteNamespace: "shop-1f2e"}, now: at()}
	twin := twinOf(local)
	twin.Spec.NodeName, twin.Status = "remote-1", readyStatus()
	b.ReportAllocs()
	for b.Loop() {
		if s := plan(local, twin, env); s.kind != stepSetStatus {
			b.Fatal(s.kind)
		}
	}
}

func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Counter.GetValue()
}

func timed(t *testing.T, o prometheus.Observer) uint64 {
	t.Helper()
	var m dto.Metric
	if err := o.(prometheus.Metric).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Histogram.GetSampleCount()
}

func readyStatus() corev1.PodStatus {
	now := metav1.Now()
	return corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.1.2.3", PodIPs: []corev1.PodIP{{IP: "10.1.2.3"}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now},
		},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "app", Ready: true, ContainerID: "containerd://1", State: corev1.ContainerState{
			Running: &corev1.ContainerStateRunning{StartedAt: now},
		}}},
	}
}
