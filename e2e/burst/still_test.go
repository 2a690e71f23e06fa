package burst

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestNothingMoves: pods at home and in the peer answer through one Service, and no request fails while nothing moves. What the other
// tests say of requests stands on this.
func TestNothingMoves(t *testing.T) {
	s := begin(t)
	spec := server(draining)
	spec.Tolerations = []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}}
	s.open()
	address := s.service("web")
	s.cordon(s.Node, true)
	s.deployment("web", 2, spec)
	s.are(time.Minute, "web", 0, 2)
	s.cordon(s.Node, false)
	s.home("web", 4)
	began := time.Now()
	asked := s.ask("http://" + address + "/")
	s.noneFailed("while nothing moves", asked, began)
	sum := asked.Since(began)
	if len(sum.Pods) != 4 || len(sum.Nodes) != 2 {
		s.Errorf("%d pods on %d nodes have answered, want 4 on 2: %v", len(sum.Pods), len(sum.Nodes), sum)
	}
}
