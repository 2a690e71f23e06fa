package placer

import (
	"fmt"
	"testing"

	"github.com/spillway-dev/spillway/provider/placement"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// BenchmarkPass is a pass over 10 000 pods of which a fifth is in peers, when nothing is to be done.
func BenchmarkPass(b *testing.B) {
	var pods []*corev1.Pod
	for i := range 10_000 {
		node := "home-1"
		if i%5 == 0 {
			node = "spillway-west"
		}
		pod := webPod(fmt.Sprintf("web-%d", i), ownedBy("ReplicaSet", fmt.Sprintf("web-%d", i/20)), runsOn(node), sentTo("west"))
		pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}}}}
		pods = append(pods, pod)
	}
	w := newWorld(b, nil, pods...)
	for i := range 500 {
		var members []placement.Member
		for _, pod := range pods[i*20 : i*20+20] {
			members = append(members, placement.Member{Pod: pod})
		}
		w.caches.workloads[fmt.Sprintf("web-%d", i)] = placement.Workload{Replicas: 20, Members: members}
	}
	for _, n := range w.caches.nodes {
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100000")}
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			w.pass(b.Context())
		}
	})
	w.decide = placement.Decide
	b.Run("with Decide", func(b *testing.B) {
		w.mover.refuse = nil
		for b.Loop() {
			w.pass(b.Context())
		}
	})
}
