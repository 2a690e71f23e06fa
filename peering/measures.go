package peering

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/internal/metrics"
	"github.com/spillway-dev/spillway/internal/tracing"
)

var (
	scrape = metrics.NewScraped()

	peeringCondition = scrape.Gauge(metrics.Spec{
		Name: "spillway_peering_condition",
		Help: "1 for the status (true, false or unknown) that a condition of a Peering has, 0 for the others. Conditions that do not apply to " +
			"the Peering are left out.",
		In: metrics.Controller, Labels: []string{"peer", "condition", "status"},
	})
	peeringNamespaces = scrape.Gauge(metrics.Spec{
		Name: "spillway_tenant_namespaces", Help: "Namespaces that this cluster, as provider, keeps for the peer.",
		In: metrics.Controller, Labels: []string{"peer"},
	})
	peeringOffer = scrape.Gauge(metrics.Spec{
		Name: "spillway_capacity_shared",
		Help: "What this cluster, as provider, lets the peer use in all, what it already uses included: unit core, byte or count.",
		In:   metrics.Controller, Labels: []string{"peer", "resource", "unit"},
	})

	scraped = scrape.Registered() // after all of the above are declared
)

// measure counts and traces what a client asks of a peer's API server. Streams are counted where they are served.
func measure(config *rest.Config, peer string) {
	config.Wrap(metrics.Transport(metrics.Peer, peer))
	config.Wrap(tracing.Transport(metrics.Peer, peer))
}

// tell says what the Peerings say.
func (c *Controller) tell(s *metrics.Sink) {
	for _, p := range c.peerings.List() {
		for _, condition := range p.Status.Conditions {
			for _, status := range []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown} {
				s.Set(peeringCondition, metrics.Is(condition.Status == status), p.Name, condition.Type, strings.ToLower(string(status)))
			}
		}
		if p.Spec.Share == nil {
			continue
		}
		if p.Status.Tenant != nil {
			s.Set(peeringNamespaces, float64(len(p.Status.Tenant.Namespaces)), p.Name)
		}
		for name, q := range p.Status.Offer {
			s.Set(peeringOffer, q.AsApproximateFloat64(), p.Name, string(name), unitOf(name))
		}
	}
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
