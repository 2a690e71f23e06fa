package policy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestSteer_Burst: a pod that may overflow is at home's nodes only, until it is let onto a peer's.
func TestSteer_Burst(t *testing.T) {
	limit := int32(10)
	own := corev1.PodSchedulingGate{Name: "example.com/quota"}
	placement := corev1.PodSchedulingGate{Name: v1alpha1.GatePlacement}
	threshold := &v1alpha1.Burst{Threshold: &v1alpha1.BurstThreshold{Pods: &limit}}
	last := func(wait *metav1.Duration) *v1alpha1.Burst {
		return &v1alpha1.Burst{ClusterAutoscaler: v1alpha1.AutoscalerLast, AutoscalerWait: wait}
	}
	all := corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}}}
	for name, row := range map[string]struct {
		burst       *v1alpha1.Burst
		annotations map[string]string
		pod         corev1.PodSpec
		places      []string
		gates       []corev1.PodSchedulingGate
		added       map[string]string
	}{
		"a plain pod":                 {places: []string{"worker"}},
		"with nothing said":           {burst: &v1alpha1.Burst{}, places: []string{"worker"}},
		"the autoscaler goes first":   {burst: &v1alpha1.Burst{ClusterAutoscaler: v1alpha1.AutoscalerFirst}, places: []string{"worker"}},
		"a threshold":                 {burst: threshold, places: []string{"worker"}, gates: []corev1.PodSchedulingGate{placement}},
		"a threshold beside a gate":   {burst: threshold, pod: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{own}}, places: []string{"worker"}, gates: []corev1.PodSchedulingGate{own, placement}},
		"a threshold, gated before":   {burst: threshold, pod: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{placement}}, places: []string{"worker"}, gates: []corev1.PodSchedulingGate{placement}},
		"the autoscaler goes last":    {burst: last(nil), places: []string{"worker"}, added: map[string]string{autoscalerDelay: "2m0s"}},
		"it goes last, after a while": {burst: last(&metav1.Duration{Duration: 30 * time.Second}), places: []string{"worker"}, added: map[string]string{autoscalerDelay: "30s"}},
		"it was told already":         {burst: last(nil), annotations: map[string]string{autoscalerDelay: "1m"}, places: []string{"worker"}},
		"a pod that leaves by itself": {burst: threshold, pod: all, places: []string{"worker", "west"}},
	} {
		t.Run(name, func(t *testing.T) {
			set := NewSet([]*v1alpha1.OffloadPolicy{policyOf("p", v1alpha1.OffloadPolicySpec{
				When: v1alpha1.OffloadBurst, Burst: row.burst, Peers: []v1alpha1.PeerChoice{{Name: "west"}}})}, nil)
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: row.annotations}, Spec: row.pod}
			s, ok := set.Steer(pod)
			if !ok || s.Policy != "p" {
				t.Fatalf("steered: %v by %q", ok, s.Policy)
			}
			if diff := cmp.Diff(row.gates, s.Gates); diff != "" {
				t.Errorf("gates: %s", diff)
			}
			if diff := cmp.Diff(row.added, s.Annotations); diff != "" {
				t.Errorf("annotations: %s", diff)
			}
			if narrowed := len(row.places) > 1; !narrowed {
				if diff := cmp.Diff(pod.Spec.Tolerations, s.Tolerations, cmpopts.EquateEmpty()); diff != "" || s.Affinity != nil {
					t.Errorf("not left alone: %s %v", diff, s.Affinity)
				}
			}
			pod.Spec.Tolerations, pod.Spec.Affinity = s.Tolerations, s.Affinity
			if diff := cmp.Diff(row.places, schedulable(pod), cmp.Transformer("sort", sorted)); diff != "" {
				t.Errorf("by the scheduler: %s", diff)
			}
		})
	}
}

// TestSteer_ATolerationOfOnePeer: a pod that names one peer is given the others that its policy means.
func TestSteer_ATolerationOfOnePeer(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{
		{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpEqual, Value: "west", Effect: corev1.TaintEffectNoSchedule}}}}
	set := NewSet([]*v1alpha1.OffloadPolicy{policyOf("p", v1alpha1.OffloadPolicySpec{Peers: []v1alpha1.PeerChoice{{Name: "east"}}})}, nil)
	s, _ := set.Steer(pod)
	pod.Spec.Tolerations, pod.Spec.Affinity = s.Tolerations, s.Affinity
	if diff := cmp.Diff([]string{"east"}, schedulable(pod)); diff != "" {
		t.Error(diff)
	}
}
