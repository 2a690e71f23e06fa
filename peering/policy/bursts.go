package policy

import (
	"cmp"
	"slices"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Bursts returns the policies of the set with when: Burst, in the order in which they are read. Shared: do not change them.
func (s Set) Bursts() []*v1alpha1.OffloadPolicy {
	var out []*v1alpha1.OffloadPolicy
	for _, r := range s.rules {
		if r.policy.Spec.When == v1alpha1.OffloadBurst {
			out = append(out, r.policy)
		}
	}
	return out
}

// Others returns the policies of the set that Bursts does not. Shared: do not change them.
func (s Set) Others() []*v1alpha1.OffloadPolicy {
	var out []*v1alpha1.OffloadPolicy
	for _, r := range s.rules {
		if r.policy.Spec.When != v1alpha1.OffloadBurst {
			out = append(out, r.policy)
		}
	}
	return out
}

// Chosen is a peer that a policy lets its pods run in, and the entry of spec.peers that means it; nil when the policy names none.
type Chosen struct {
	Peer   string
	Choice *v1alpha1.PeerChoice
}

// Chosen returns which of the virtual nodes a policy of the set means, in the order of spec.peers and, where an entry means several,
// of their names. Each peer is there once.
func (s Set) Chosen(name string, places []Place) []Chosen {
	i := slices.IndexFunc(s.rules, func(r rule) bool { return r.policy.Name == name })
	if i < 0 {
		return nil
	}
	r := &s.rules[i]
	var out []Chosen
	for _, at := range places {
		if c, ok := r.choice(at); ok && !slices.ContainsFunc(out, func(o Chosen) bool { return o.Peer == at.Peer }) {
			out = append(out, Chosen{Peer: at.Peer, Choice: c})
		}
	}
	rank := func(c Chosen) int {
		for i := range r.policy.Spec.Peers {
			if &r.policy.Spec.Peers[i] == c.Choice {
				return i
			}
		}
		return -1
	}
	slices.SortFunc(out, func(a, b Chosen) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Peer, b.Peer)) })
	return out
}
