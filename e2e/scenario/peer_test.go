package scenario

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// TestPeer: a first peering takes less than 5 s, a second one changes and writes nothing, and un-peering leaves both
// clusters as they were, although pods ran.
func TestPeer(t *testing.T) {
	s := bare(t, theWorld(t))
	s.ensurePeered()
	s.eventually(time.Minute, "what former tests have left is gone", s.noneTerminating)
	s.unpeer()
	s.ns = s.namespace(true)
	before := map[*side]inventory{}
	for _, side := range []*side{s.consumer, s.provider} {
		s.eventually(soon, "cluster "+side.Name()+" is at rest", func(ctx context.Context) (err error) {
			earlier := before[side]
			if before[side], err = side.takeInventory(ctx); err != nil {
				return err
			}
			if d := difference(earlier, before[side]); len(d) > 0 {
				return fmt.Errorf("still changing: %v", d)
			}
			return nil
		})
	}

	first := s.spillway(s.ctx, peerArgs("-o", "json")...)
	o, err := first.parse()
	s.check(err)
	t.Logf("the first peering took %s", first.took.Round(time.Millisecond))
	if first.code != 0 || !o.OK || !o.Changed || len(o.Nodes) != 1 || o.Nodes[0] != nodeName {
		t.Fatalf("first peering: %s", first)
	}
	if first.took >= 5*time.Second {
		t.Errorf("the first peering took %s, want less than 5 s\n%s", first.took, first)
	}
	s.check(s.nodeIs(s.ctx, "True"))

	s.peerAgain()
	s.create(s.remotePod("lost"))
	s.running("lost")
	s.deployment("web", 3)
	s.eventually(soon, "a Deployment runs", func(ctx context.Context) error { return s.scaled(ctx, "web", 3) })
	s.check(s.consumer.kube.AppsV1().Deployments(s.ns).Delete(s.ctx, "web", background()))

	last := s.spillway(s.ctx, "unpeer", "--context", east, west, "-o", "yaml")
	if last.code != 0 {
		t.Fatalf("unpeer: %s", last)
	}
	t.Logf("un-peering took %s", last.took.Round(time.Millisecond))
	var parsed outcome
	if err := yaml.Unmarshal([]byte(last.stdout), &parsed); err != nil || !parsed.OK || len(parsed.Remains) > 0 {
		t.Errorf("unpeer -o yaml: %v\n%s", err, last)
	}
	for _, side := range []*side{s.consumer, s.provider} {
		s.check(side.unclean(s.ctx)) // at once: the command ends when all is gone
		s.eventually(soon, "cluster "+side.Name()+" is as before the peering", func(ctx context.Context) error {
			return side.unlike(ctx, before[side])
		})
	}
}

// peerAgain: the same command says that nothing was to do, and does nothing.
func (s *scenario) peerAgain() {
	s.Helper()
	atProvider, atConsumer := s.countWrites(s.provider, "spillway"), s.countWrites(s.consumer, "spillway")
	r := s.spillway(s.ctx, peerArgs("-o", "json")...)
	o, err := r.parse()
	s.check(err)
	if r.code != 0 || !o.OK || o.Changed {
		s.Errorf("second peering: %s", r)
	}
	for _, w := range []*writes{atProvider, atConsumer} {
		got, err := w.read(s.ctx)
		s.check(err)
		if len(got) > 0 {
			s.Errorf("the second peering wrote to cluster %s: %v", w.side.Name(), got)
		}
	}
}

// unpeer makes sure that the clusters are not peered.
func (s *scenario) unpeer() {
	s.Helper()
	list, err := s.consumer.peerings.List(s.ctx, listOptions())
	s.check(err)
	if len(list.Items) > 0 {
		if r := s.spillway(s.ctx, "unpeer", "--context", east, west); r.code != 0 {
			s.Fatalf("unpeer: %s", r)
		}
	}
	for _, side := range []*side{s.consumer, s.provider} {
		s.eventually(soon, "cluster "+side.Name()+" is clean", side.unclean)
	}
}
