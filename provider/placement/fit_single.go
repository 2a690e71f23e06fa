package placement

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// single is something of which each node has one: a host port, or the place for one pod of several that do not stand each other. They
// are counted as resources are. Without them figures would see room at home where the scheduler sees none, and pods would come home
// only to leave again.
type single struct {
	name  corev1.ResourceName // for people, with a space, which no resource has
	taken func(*corev1.Pod) bool
}

// newSingles are what the pods of policies want to have alone, in the order of their names.
func newSingles(pods []Pod) []single {
	found := map[corev1.ResourceName]single{}
	for i := range pods {
		pod := pods[i].Pod
		if pod == nil || pods[i].Policy < 0 {
			continue
		}
		for port := range hostPorts(pod) {
			found[port] = single{port, func(o *corev1.Pod) bool { return hostPorts(o)[port] }}
		}
		for _, term := range loners(pod) {
			name := corev1.ResourceName(fmt.Sprintf("another pod of %s/%s", pod.Namespace, metav1.FormatLabelSelector(term.LabelSelector)))
			selector, err := metav1.LabelSelectorAsSelector(term.LabelSelector)
			if _, known := found[name]; known || err != nil {
				continue
			}
			namespace := pod.Namespace
			found[name] = single{name, func(o *corev1.Pod) bool {
				return o.Namespace == namespace && selector.Matches(labels.Set(o.Labels))
			}}
		}
	}
	out := make([]single, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[name])
	}
	return out
}

// hostPorts are the ports of nodes that a pod takes.
func hostPorts(pod *corev1.Pod) map[corev1.ResourceName]bool {
	var out map[corev1.ResourceName]bool
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			if out == nil {
				out = map[corev1.ResourceName]bool{}
			}
			protocol := p.Protocol
			if protocol == "" {
				protocol = corev1.ProtocolTCP
			}
			out[corev1.ResourceName(fmt.Sprintf("host port %s/%d", protocol, p.HostPort))] = true
		}
	}
	return out
}

// loners are the terms by which a pod stands none like itself on its node. Other anti-affinity is left to the scheduler.
func loners(pod *corev1.Pod) (out []corev1.PodAffinityTerm) {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	for _, term := range pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		selector, err := metav1.LabelSelectorAsSelector(term.LabelSelector)
		own := len(term.Namespaces) == 0 || slices.Contains(term.Namespaces, pod.Namespace)
		if term.TopologyKey == corev1.LabelHostname && err == nil && own && selector.Matches(labels.Set(pod.Labels)) {
			out = append(out, term)
		}
	}
	return out
}
