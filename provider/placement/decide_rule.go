package placement

import (
	"cmp"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// What a Burst says when it says nothing.
const (
	defaultAfter           = 10 * time.Second
	defaultAutoscalerWait  = 2 * time.Minute
	defaultStabilization   = 5 * time.Minute
	defaultMaxConcurrent   = 5
	defaultHeadroomPercent = 10
)

// rule is a policy with its defaults, and what its pods have.
type rule struct {
	Policy
	after, autoscalerWait, stabilization time.Duration
	maxConcurrent                        int
	failed                               int // how often in a row home had no room for who came
	headroom                             int64
	threshold                            vector // nil: none
	limits                               []vector
	prices                               []price // by peer
	state                                State
	home                                 vector            // what its pods at home have, and those that wait for a place there
	away                                 map[string]vector // what its pods have in peers; a pod that was sent to two and is in none counts in both
	pods                                 []*claim
	open                                 map[*shape]*prospects
	refused                              map[*shape]string // shapes that no peer takes any more, and why
	waits                                int               // pods that no peer takes
	waiting                              string            // why the first of them waits
}

func newRules(p *pass) []*rule {
	out := make([]*rule, 0, len(p.in.Policies))
	for _, policy := range p.in.Policies {
		b := policy.Burst
		r := &rule{
			Policy: policy, after: duration(b.After, defaultAfter), autoscalerWait: duration(b.AutoscalerWait, defaultAutoscalerWait),
			stabilization: duration(b.ComeHome.Stabilization, defaultStabilization), maxConcurrent: defaultMaxConcurrent,
			headroom: defaultHeadroomPercent, state: State{Peers: map[string]int{}},
			home: p.board.units.have(nil), away: map[string]vector{}, open: map[*shape]*prospects{}, refused: map[*shape]string{},
		}
		if b.ComeHome.MaxConcurrent != nil {
			r.maxConcurrent = int(*b.ComeHome.MaxConcurrent)
		}
		if b.ComeHome.HeadroomPercent != nil {
			r.headroom = int64(*b.ComeHome.HeadroomPercent)
		}
		if b.Threshold != nil {
			r.threshold = p.board.units.limits(b.Threshold.Pods, b.Threshold.Requests)
		}
		r.Burst.Choose = cmp.Or(b.Choose, v1alpha1.BurstInOrder)
		for _, peer := range policy.Peers {
			r.limits = append(r.limits, p.board.units.limits(peer.MaxPods, peer.MaxRequests))
			r.prices = append(r.prices, p.board.price(peer.Name))
			r.away[peer.Name] = p.board.units.have(nil)
		}
		out = append(out, r)
	}
	return out
}

func duration(d *metav1.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.Duration
}

func (r *rule) key() string { return r.Namespace + "/" + r.Name }

func (r *rule) onRequest() bool { return r.Burst.ComeHome.When == v1alpha1.ComeHomeOnRequest }

// count counts a pod where it is.
func (r *rule) count(c *claim) {
	r.pods = append(r.pods, c)
	switch c.spot {
	case atHome:
		r.state.Home++
	case atPeer, toPeer:
		r.state.Peers[c.peer]++
	case waiting, gated:
		r.state.Pending++
	}
	switch {
	case c.spot == atPeer:
		r.takes(c.peer, c.shape.needs)
	case c.spot == toPeer:
		for peer := range c.goes() {
			r.takes(peer, c.shape.needs)
		}
	case (c.spot == atHome || c.spot == waiting) && !c.ending():
		r.home.add(c.shape.needs, 1)
	}
}

// goes are the peers that a pod which is not bound yet may end up in, and how often it was sent there.
func (c *claim) goes() map[string]int {
	times := map[string]int{}
	if c.spot != toPeer {
		return times
	}
	for _, s := range c.sent {
		times[s.Peer]++
	}
	if len(times) == 0 {
		times[c.peer] = 1
	}
	return times
}

// said is the state, with the reasons in words.
func (r *rule) said() State {
	if r.waits == 1 {
		r.state.Waiting = r.waiting
	} else if r.waits > 1 {
		r.state.Waiting = fmt.Sprintf("%d pods wait. %s", r.waits, r.waiting)
	}
	return r.state
}

// takes counts against the limits of a peer. Peers that the policy does not name any more have none.
func (r *rule) takes(peer string, needs vector) {
	if sum, limited := r.away[peer]; limited {
		sum.add(needs, 1)
	}
}
