package provider

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/spillway-dev/spillway/internal/metrics"
	"github.com/spillway-dev/spillway/reflector"
)

var (
	resourceLabels = []string{"peer", "resource", "unit"}

	scrape = metrics.NewScraped()

	capacityOffered = scrape.Gauge(metrics.Spec{
		Name: "spillway_capacity_offered",
		Help: "What pods on the peer's virtual node may request together, as the peer offers it: unit core, byte or count.",
		In:   metrics.Controller, Labels: resourceLabels,
	})
	capacityRequested = scrape.Gauge(metrics.Spec{
		Name: "spillway_capacity_requested", Help: "What the pods on the peer's virtual node that have not ended request together.",
		In: metrics.Controller, Labels: resourceLabels,
	})
	pods = scrape.Gauge(metrics.Spec{
		Name: "spillway_pods", Help: "Pods on the peer's virtual node, by the phase in their status at home.",
		In: metrics.Controller, Labels: []string{"peer", "phase"},
	})
	podsReady = scrape.Gauge(metrics.Spec{
		Name: "spillway_pods_ready", Help: "Pods on the peer's virtual node whose status at home says Ready.",
		In: metrics.Controller, Labels: []string{"peer"},
	})
	twins = scrape.Gauge(metrics.Spec{
		Name: "spillway_twins", Help: "Twins in the tenant namespaces at the peer.", In: metrics.Controller, Labels: []string{"peer"},
	})
	nodeRegistered = scrape.Gauge(metrics.Spec{
		Name: "spillway_virtual_node_registered", Help: "1 while the Node object exists and is kept up to date.",
		In: metrics.Controller, Labels: []string{"peer"},
	})
	peerLost = scrape.Gauge(metrics.Spec{
		Name: "spillway_peer_lost", Help: "1 while the peer has not answered for so long that its virtual node is not Ready.",
		In: metrics.Controller, Labels: []string{"peer"},
	})

	scraped = scrape.Registered() // after all of the above are declared
)

// counted is what is known of one peer's virtual node at one moment.
type counted struct {
	peer       string
	pair       *reflector.Pair
	offer      corev1.ResourceList
	registered bool
	lost       bool
}

// tell says what there is now.
func (n *Nodes) tell(s *metrics.Sink) {
	n.mu.Lock()
	all := make([]counted, 0, len(n.peers))
	for peer, v := range n.peers {
		registered, _ := v.node.status()
		all = append(all, counted{peer, v.pair, v.offer, registered, v.lost})
	}
	n.mu.Unlock()
	for _, c := range all {
		c.tell(s)
	}
}

func (c counted) tell(s *metrics.Sink) {
	s.Set(nodeRegistered, metrics.Is(c.registered), c.peer)
	s.Set(peerLost, metrics.Is(c.lost), c.peer)
	s.Set(twins, float64(c.pair.Twins()), c.peer)
	phases := map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodRunning: 0, corev1.PodSucceeded: 0, corev1.PodFailed: 0}
	requested, ready := corev1.ResourceList{}, 0
	list, _ := c.pair.Pods()
	for _, pod := range list {
		phases[pod.Status.Phase]++
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		if isReady(pod) {
			ready++
		}
		add(requested, resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}))
		add(requested, corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(1, resource.DecimalSI)})
	}
	s.Set(podsReady, float64(ready), c.peer)
	for phase, n := range phases {
		s.Set(pods, float64(n), c.peer, string(phase))
	}
	for name, q := range c.offer {
		s.Set(capacityOffered, q.AsApproximateFloat64(), c.peer, string(name), unitOf(name))
		used := requested[name]
		s.Set(capacityRequested, used.AsApproximateFloat64(), c.peer, string(name), unitOf(name))
	}
}

func add(to, more corev1.ResourceList) {
	for name, q := range more {
		sum := to[name]
		sum.Add(q)
		to[name] = sum
	}
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// unitOf is that of a resource, as kube-state-metrics names it.
func unitOf(name corev1.ResourceName) string {
	switch name {
	case corev1.ResourceCPU:
		return "core"
	case corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourceStorage:
		return "byte"
	}
	return "count"
}
