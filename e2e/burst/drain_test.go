package burst

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const drainPods = 4

// TestDrain: `spillway drain` and `kubectl drain` of the virtual node send its pods home, one by one as their budget allows. Alone: it
// closes both clusters for others.
func TestDrain(t *testing.T) {
	s := begin(t)
	spec := server(time.Second)
	spec.Tolerations = []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}}
	s.open()
	s.deployment("web", 0, spec)
	s.budget("web", drainPods-1)

	for i, drain := range []struct {
		name     string
		out, off func()
	}{
		{"spillway", func() { s.spillway("drain", duo.West) }, func() { s.spillway("uncordon", duo.West) }},
		{"kubectl", func() { s.kubectl("drain", duo.VirtualNode, "--ignore-daemonsets", "--timeout", "60s") },
			func() { s.kubectl("uncordon", duo.VirtualNode) }},
	} {
		s.away("web", drainPods)
		s.trail.Mark("web")
		drain.out()
		s.are(time.Minute, "web", drainPods, 0)
		s.ever("web", (i+1)*drainPods, (i+1)*drainPods)
		if least := s.trail.Least("web"); least < drainPods-1 {
			s.Errorf("%s drain: at one moment %d pods were Ready, want %d at least", drain.name, least, drainPods-1)
		}
		drain.off()
		s.scale("web", 0)
		s.are(duo.Soon, "web", 0, 0)
	}
}

// away starts so many pods of a Deployment in the peer: home takes none meanwhile.
func (s *scenario) away(name string, replicas int) {
	s.Helper()
	s.cordon(s.Node, true)
	defer s.cordon(s.Node, false)
	s.scale(name, replicas)
	s.are(time.Minute, name, 0, replicas)
}

// home scales a Deployment with pods in the peer up to so many, of which the new ones start at home.
func (s *scenario) home(name string, replicas int) {
	s.Helper()
	_, away, _ := s.trail.Now(name)
	s.cordon(duo.VirtualNode, true)
	defer s.cordon(duo.VirtualNode, false)
	s.scale(name, replicas)
	s.are(time.Minute, name, replicas-away, away)
}
