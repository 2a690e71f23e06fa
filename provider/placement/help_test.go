package placement

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// noon is when all tests begin.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func amounts(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

// ownNode is a Ready node of this cluster.
func ownNode(name, cpu string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{
			Allocatable: amounts("cpu", cpu, "memory", "64Gi", "pods", "110"),
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

// virtualNode is the Ready node of a peer.
func virtualNode(peer, cpu string) *corev1.Node {
	n := ownNode("spillway-"+peer, cpu)
	n.Labels[v1alpha1.LabelPeer] = peer
	n.Spec.Taints = []corev1.Taint{{Key: v1alpha1.TaintVirtualNode, Value: peer, Effect: corev1.TaintEffectNoSchedule}}
	return n
}

// podOption changes a pod of a test.
type podOption func(*Pod)

// newPod is a pod of policy 0 and of a ReplicaSet with the pod's name up to its last dash, that wants 1 cpu and is not bound.
func newPod(name string, options ...podOption) Pod {
	owner, controller := name[:max(0, strings.LastIndex(name, "-"))], true
	p := Pod{
		Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: types.UID("uid-" + name), CreationTimestamp: metav1.NewTime(noon().Add(-time.Hour)),
			Annotations: map[string]string{}, Labels: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: owner, UID: types.UID("uid-" + owner), Controller: &controller}},
		}},
		Requests: amounts("cpu", "1"), Movable: true, Settled: true,
	}
	for _, o := range options {
		o(&p)
	}
	return p
}

// on binds a pod to a node, where it is Ready.
func on(nodeName string) podOption {
	return func(p *Pod) {
		p.Spec.NodeName = nodeName
		p.Status.Conditions = []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
}

// stuck makes a pod unschedulable for some time.
func stuck(for_ time.Duration) podOption {
	return func(p *Pod) {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			LastTransitionTime: metav1.NewTime(noon().Add(-for_)),
			Message:            "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found.",
		}}
	}
}

// sentTo says that a pod was sent to a peer some time ago.
func sentTo(peer string, ago time.Duration) podOption {
	return func(p *Pod) {
		p.Annotations[v1alpha1.AnnotationBurst] = AppendBurst(p.Annotations[v1alpha1.AnnotationBurst], peer, noon().Add(-ago))
	}
}

func withGate(p *Pod) {
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.GatePlacement}}
}

func withHostPort(p *Pod) {
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{HostPort: 80}}}}
}

// alone is a pod that stands none like itself on its node.
func alone(p *Pod) {
	p.Labels["app"] = "web"
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: p.Labels},
		}},
	}}
}

func withPriority(n int32) podOption { return func(p *Pod) { p.Spec.Priority = &n } }

func requesting(pairs ...string) podOption { return func(p *Pod) { p.Requests = amounts(pairs...) } }

func created(ago time.Duration) podOption {
	return func(p *Pod) { p.CreationTimestamp = metav1.NewTime(noon().Add(-ago)) }
}

func ended(p *Pod) { p.DeletionTimestamp = &metav1.Time{Time: noon()} }

// letGo is a pod that its ReplicaSet was made to let go of some time ago.
func letGo(ago time.Duration) podOption {
	return func(p *Pod) {
		p.Labels[v1alpha1.LabelMoving] = string(p.OwnerReferences[0].UID)
		p.Annotations[v1alpha1.AnnotationMoving] = fmt.Sprintf(`{"at":%q}`, noon().Add(-ago).Format(time.RFC3339))
		p.OwnerReferences = nil
	}
}

func selecting(key, value string) podOption {
	return func(p *Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
}

// policyOf is a policy with these peers.
func policyOf(burst v1alpha1.Burst, peers ...string) Policy {
	p := Policy{Namespace: "shop", Name: "burst", Burst: burst}
	for _, name := range peers {
		p.Peers = append(p.Peers, Peer{Name: name, Weight: 1})
	}
	return p
}

// words writes what was decided, a line each.
func words(decisions []Decision) string {
	var out strings.Builder
	for _, d := range decisions {
		fmt.Fprintf(&out, "%s %s", d.Action, d.Pod.Name)
		if d.Peer != "" {
			fmt.Fprintf(&out, " %s", d.Peer)
		}
		fmt.Fprintf(&out, ": %s: %s\n", d.Reason, d.Message)
	}
	return out.String()
}

func pointer[T any](v T) *T { return &v }

func lasting(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
