package scenario

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// TestUnpeerDeadProvider: un-peering from a provider that is dead takes less than 30 s and leaves the consumer clean.
// When the provider lives again, peering again takes over or cleans what is there.
func TestUnpeerDeadProvider(t *testing.T) {
	s := begin(t)
	s.create(s.remotePod("bare"))
	s.deployment("web", 5)
	s.running("bare")
	s.eventually(soon, "the Deployment runs", func(ctx context.Context) error { return s.scaled(ctx, "web", 5) })
	left, err := s.twins(s.ctx)
	s.check(err)

	s.Cleanup(func() { s.revive() })
	s.check(s.provider.Link().Cut(lab.Refuse))
	s.check(s.provider.Kill(s.ctx, lab.APIServer))
	r := s.spillway(s.ctx, "unpeer", "--context", east, west, "-o", "json")
	t.Logf("unpeer took %s", r.took.Round(time.Millisecond))
	o, err := r.parse()
	s.check(err)
	if r.code != 0 || !o.OK || r.took >= 30*time.Second {
		t.Errorf("unpeer: %s", r)
	}
	if len(o.Remains) == 0 {
		t.Errorf("unpeer does not say what remains at the provider: %s", r)
	}
	s.check(s.consumer.unclean(s.ctx))
	s.check(s.gone(s.ctx, "bare"))

	s.revive()
	again := s.spillway(s.ctx, peerArgs()...)
	t.Logf("peering again took %s", again.took.Round(time.Millisecond))
	if again.code != 0 {
		t.Fatalf("peer again: %s", again)
	}
	s.eventually(time.Minute, "the twins of then are gone, those of now run", func(ctx context.Context) error {
		for i := range left {
			if err := s.twinGone(ctx, &left[i]); err != nil {
				return err
			}
		}
		return s.scaled(ctx, "web", 5)
	})
	s.create(s.remotePod("anew"))
	s.running("anew")
	pods, err := s.localPods(s.ctx)
	s.check(err)
	s.eventually(soon, "each pod has one twin", func(ctx context.Context) error { return s.oneTwinEach(ctx, pods) })
	s.noneFailed()
}

// revive brings the provider back.
func (s *scenario) revive() {
	s.Helper()
	s.check(s.provider.Link().Restore())
	if !s.provider.Component(lab.APIServer).Running() {
		s.check(s.provider.Restart(s.ctx, lab.APIServer))
	}
	s.keepSpillwaydRunning(s.provider)
}

func (s *scenario) noneFailed() {
	s.Helper()
	pods, err := s.localPods(s.ctx)
	s.check(err)
	var failed []string
	for i := range pods {
		if pods[i].Status.Phase == corev1.PodFailed {
			failed = append(failed, fmt.Sprintf("%s: %s", pods[i].Name, words(&pods[i])))
		}
	}
	if len(failed) > 0 {
		s.Errorf("pods are Failed:\n%s", strings.Join(failed, "\n"))
	}
}
