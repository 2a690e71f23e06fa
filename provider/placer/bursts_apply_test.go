package placer

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/provider/placement"
)

func TestPatches(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	seconds := func(s int64) *int64 { return &s }
	tolerates := func(list ...corev1.Toleration) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Tolerations = list }
	}
	const west = `{"key":"spillway.dev/virtual-node","operator":"Equal","value":"west","effect":"NoSchedule"}`
	for name, row := range map[string]struct {
		pod               *corev1.Pod
		annotations       map[string]string
		tolerations       string // of a pod that overflows to west
		selector, gates   string
		gatesWhenAdmitted string
	}{
		"a pod that finds no node": {
			pod:         webPod("p"),
			annotations: map[string]string{"spillway.dev/burst": "west=2026-01-02T15:04:05Z", "controller.kubernetes.io/pod-deletion-cost": "-100"},
			tolerations: `[` + west + `]`, gatesWhenAdmitted: "null",
		},
		"default tolerations are held, the author's are not": {
			pod: webPod("p", tolerates(
				corev1.Toleration{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: seconds(300)},
				corev1.Toleration{Key: "node.kubernetes.io/unreachable", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: seconds(20)},
			)),
			annotations: map[string]string{"spillway.dev/burst": "west=2026-01-02T15:04:05Z", "controller.kubernetes.io/pod-deletion-cost": "-100"},
			tolerations: `[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":3153600000},` +
				`{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":20},` + west + `]`,
			gatesWhenAdmitted: "null",
		},
		"a pod that another peer has not taken": {
			pod: webPod("p", sentTo("east"), tolerates(corev1.Toleration{
				Key: "spillway.dev/virtual-node", Operator: "Equal", Value: "east", Effect: "NoSchedule"})),
			annotations: map[string]string{
				"spillway.dev/burst":                         "east=2026-01-02T15:00:00Z,west=2026-01-02T15:04:05Z",
				"controller.kubernetes.io/pod-deletion-cost": "-100",
			},
			tolerations:       `[{"key":"spillway.dev/virtual-node","operator":"Equal","value":"east","effect":"NoSchedule"},` + west + `]`,
			gatesWhenAdmitted: "null",
		},
		"a gated pod is kept from home": {
			pod: webPod("p", behindGate), selector: `{"spillway.dev/peer":"west"}`, gates: "null", gatesWhenAdmitted: "null",
			annotations: map[string]string{"spillway.dev/burst": "west=2026-01-02T15:04:05Z", "controller.kubernetes.io/pod-deletion-cost": "-100"},
			tolerations: `[` + west + `]`,
		},
		"somebody else's gate and cost stay": {
			pod: webPod("p", behindGate, func(p *corev1.Pod) {
				p.Annotations = map[string]string{deletionCost: "5"}
				p.Spec.SchedulingGates = append(p.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: "quota"})
			}),
			selector: `{"spillway.dev/peer":"west"}`, gates: `[{"name":"quota"}]`, gatesWhenAdmitted: `[{"name":"quota"}]`,
			annotations: map[string]string{"spillway.dev/burst": "west=2026-01-02T15:04:05Z"},
			tolerations: `[` + west + `]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := row.pod.DeepCopy()
			patch := overflowPatch(placement.Decision{Pod: row.pod, Peer: "west", Message: "no room"}, now)
			row.annotations["spillway.dev/placement"] = "no room"
			if diff := cmp.Diff(row.annotations, patch.Metadata.Annotations); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
			for field, want := range map[string]string{"tolerations": row.tolerations, "nodeSelector": row.selector, "schedulingGates": row.gates} {
				if got := sent(t, patch, field); got != want {
					t.Errorf("%s:\n%s, want\n%s", field, got, want)
				}
			}
			if got := sent(t, admitPatch(row.pod, "there is room"), "schedulingGates"); got != row.gatesWhenAdmitted {
				t.Errorf("admitted, its gates are %s, want %s", got, row.gatesWhenAdmitted)
			}
			if diff := cmp.Diff(before, row.pod); diff != "" {
				t.Errorf("the pod of the caches has changed:\n%s", diff)
			}
		})
	}
}

// sent is a field of the patch's spec as it is sent; empty when it is not.
func sent(t *testing.T, p podPatch, name string) string {
	t.Helper()
	value, there := p.Spec[name]
	if !there {
		return ""
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
