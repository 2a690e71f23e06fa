package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func TestChosen(t *testing.T) {
	eu := &metav1.LabelSelector{MatchLabels: map[string]string{"region": "eu"}}
	places := []Place{
		{Peer: "west", Labels: map[string]string{"region": "us"}},
		{Peer: "south", Labels: map[string]string{"region": "eu"}},
		{Peer: "north", Labels: map[string]string{"region": "eu"}},
	}
	for name, row := range map[string]struct {
		peers []v1alpha1.PeerChoice
		want  []string
	}{
		"none named: all by name":                      {nil, []string{"north", "south", "west"}},
		"one by name":                                  {[]v1alpha1.PeerChoice{{Name: "south"}}, []string{"south"}},
		"one that is not there":                        {[]v1alpha1.PeerChoice{{Name: "moon"}}, nil},
		"in the order of the entries":                  {[]v1alpha1.PeerChoice{{Name: "west"}, {Name: "north"}}, []string{"west", "north"}},
		"those of a selector by name, after the first": {[]v1alpha1.PeerChoice{{Name: "west"}, {Selector: eu}}, []string{"west", "north", "south"}},
		"a peer of two entries counts in the first":    {[]v1alpha1.PeerChoice{{Name: "south"}, {Selector: eu}}, []string{"south", "north"}},
		"name and selector both hold":                  {[]v1alpha1.PeerChoice{{Name: "west", Selector: eu}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := &v1alpha1.OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"},
				Spec: v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadBurst, Peers: row.peers}}
			set := NewSet([]*v1alpha1.OffloadPolicy{p}, nil)
			var got []string
			for _, c := range set.Chosen("p", places) {
				got = append(got, c.Peer)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("peers (-want +got):\n%s", diff)
			}
			if len(set.Bursts()) != 1 || len(set.Others()) != 0 || set.Chosen("q", places) != nil {
				t.Error("the policy is not the only one of its kind")
			}
		})
	}
}
