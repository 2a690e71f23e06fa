package placement

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// comeHome decides which pods leave their peers, once all that want a place have theirs.
func (p *pass) comeHome() {
	for _, c := range p.claims {
		if (c.spot == waiting || c.spot == toPeer) && !c.ending() {
			if i := p.room.home(c.shape); i >= 0 {
				p.room.take(i, c.shape.needs)
			}
		}
	}
	seen := p.room.clone() // what there is to see of home; p.room also keeps what pods on their way will need
	rules := slices.SortedFunc(slices.Values(p.rules), func(a, b *rule) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	back := make([]*returning, 0, len(rules))
	for _, r := range rules {
		back = append(back, p.onTheWay(r))
	}
	p.out.History = History{Room: map[string][]Sample{}, Returned: map[string]Return{}}
	for i, r := range rules {
		p.bringHome(r, back[i], seen)
	}
}

// returning are the pods of a policy that leave a peer, or take the place of one that did.
type returning struct {
	leaving  int
	inFlight int
	until    time.Time // when the first of those that are not Ready at home is not waited for any more; zero: there is none
	coming   vector    // what replacements that are not there yet will have at home
}

// traffic is the same of one controller.
type traffic struct {
	leaving, arriving, replaced int
	gone                        []*claim
	since, until                time.Time
}

// onTheWay counts the pods that are on their way, and keeps home's room for those of their replacements that are not there yet.
func (p *pass) onTheWay(r *rule) *returning {
	out := &returning{coming: p.board.units.have(nil)}
	owners := p.traffic(r)
	for _, uid := range slices.Sorted(maps.Keys(owners)) {
		t := owners[uid]
		out.leaving += t.leaving
		out.inFlight += max(t.leaving, t.arriving)
		if out.until.IsZero() || !t.until.IsZero() && t.until.Before(out.until) {
			out.until = t.until
		}
		for _, c := range t.gone[:max(0, len(t.gone)-t.replaced)] {
			s := p.atHome(c)
			if i := p.room.home(s); i >= 0 {
				p.room.take(i, s.needs)
			}
			out.coming.add(s.needs, 1)
		}
	}
	return out
}

// arriving is how long a new pod at home that is not Ready counts as one that is on its way. Who never gets Ready would keep the others
// away for ever.
const arriving = 5 * time.Minute

// traffic counts by controller. Who leaves and who comes for it is one move.
func (p *pass) traffic(r *rule) map[types.UID]*traffic {
	owners := map[types.UID]*traffic{}
	of := func(c *claim) *traffic {
		if owners[c.owner()] == nil {
			owners[c.owner()] = &traffic{}
		}
		return owners[c.owner()]
	}
	for _, c := range r.pods {
		if c.spot != atPeer || !c.ending() && !c.released() {
			continue
		}
		t := of(c)
		t.leaving++
		if c.ending() && c.released() {
			continue // the one that was made for it is Ready
		}
		t.gone = append(t.gone, c)
		if left := c.left(); t.since.IsZero() || left.Before(t.since) {
			t.since = left
		}
	}
	for _, c := range r.pods {
		if c.ending() || c.released() || c.spot == nowhere {
			continue
		}
		t := owners[c.owner()]
		if t != nil && !c.CreationTimestamp.Time.Before(t.since.Truncate(time.Second)) {
			t.replaced++
		}
		until := c.CreationTimestamp.Add(arriving)
		if (c.spot == atHome || c.spot == waiting) && !Ready(c.Pod.Pod) && p.in.Now.Before(until) {
			t := of(c)
			t.arriving++
			if t.until.IsZero() || until.Before(t.until) {
				t.until = until
			}
		}
	}
	return owners
}

// left is when a pod was let go of, or told to end.
func (c *claim) left() time.Time {
	var moving Moving
	if c.released() && json.Unmarshal([]byte(c.Annotations[v1alpha1.AnnotationMoving]), &moving) == nil {
		return moving.At
	}
	if c.DeletionTimestamp == nil {
		return c.CreationTimestamp.Time
	}
	var grace time.Duration
	if c.DeletionGracePeriodSeconds != nil {
		grace = time.Duration(*c.DeletionGracePeriodSeconds) * time.Second
	}
	return c.DeletionTimestamp.Add(-grace)
}

// atHome is the shape of the pod that a pod's controller makes at home instead.
func (p *pass) atHome(c *claim) *shape {
	return p.board.shape(c.Pod.Pod, c.shape.needs, c.rule.threshold != nil && len(c.sent) > 0)
}

// bringHome decides about the pods of one policy.
func (p *pass) bringHome(r *rule, back *returning, seen *room) {
	r.state.Returning = back.leaving
	away := r.candidates()
	refused, until := p.turnedAway(r)
	p.judge(r, refused)
	if len(away) == 0 {
		return
	}
	now, why := 0, ""
	if refused != nil {
		p.again(until)
		why = refused.Name + " found no room at home a short while ago"
	} else {
		now, why = p.fitting(r, away, seen)
	}
	stable := p.remember(r, now)
	r.state.Returnable = min(stable, now)
	h := &homecoming{
		pass: p, rule: r, slots: r.maxConcurrent - back.inFlight, stable: r.state.Returnable, used: slices.Clone(r.home),
	}
	if h.slots <= 0 {
		p.again(back.until)
	}
	h.used.add(back.coming, 1)
	for _, c := range away {
		if h.slots <= 0 {
			break
		}
		h.consider(c)
	}
	if h.sent > 0 {
		last := p.out.History.Returned[r.key()]
		last.Last = p.in.Now
		p.out.History.Returned[r.key()] = last
	}
	r.state.Returning += h.sent
	if r.state.Returning == 0 {
		r.state.Held = p.held(r, h, now, why)
	}
}

// candidates are the pods that could come home, in the order in which they do: those that were asked for, then from the last peer, or
// the dearest, the newest first. They need not be Ready: what is counted must not change with every pod that is not for a moment.
func (r *rule) candidates() []*claim {
	var out []*claim
	for _, c := range r.pods {
		if c.spot == atPeer && c.Movable && !c.Migrating && c.usual() && !c.ending() && !c.released() {
			out = append(out, c)
		}
	}
	place := r.order()
	slices.SortFunc(out, func(a, b *claim) int {
		asked := 0
		if r.asked(a) != r.asked(b) {
			asked = 1
			if r.asked(a) {
				asked = -1
			}
		}
		return cmp.Or(asked, cmp.Compare(place(b.peer), place(a.peer)), b.CreationTimestamp.Compare(a.CreationTimestamp.Time),
			strings.Compare(b.Namespace, a.Namespace), strings.Compare(b.Name, a.Name), cmp.Compare(b.UID, a.UID))
	})
	return out
}

// asked says that somebody wants this pod to come home at once.
func (r *rule) asked(c *claim) bool {
	return !r.Repatriate.IsZero() && !c.CreationTimestamp.After(r.Repatriate)
}

// order ranks peers: who has the highest rank is left first. A peer that the policy does not name any more is left before all others.
func (r *rule) order() func(peer string) float64 {
	ranks := map[string]float64{}
	indexes := make([]int, len(r.Peers))
	for i := range indexes {
		indexes[i] = i
	}
	if r.Burst.Choose == v1alpha1.BurstCheapest {
		slices.SortStableFunc(indexes, func(a, b int) int { return cmp.Compare(r.prices[a].value, r.prices[b].value) })
	}
	for rank, i := range indexes {
		ranks[r.Peers[i].Name] = float64(rank)
	}
	return func(peer string) float64 {
		if rank, named := ranks[peer]; named {
			return rank
		}
		return math.Inf(1)
	}
}

// fitting is how many of the pods find room at home, one after the other, and why not more.
func (p *pass) fitting(r *rule, away []*claim, seen *room) (n int, why string) {
	sim, used := seen.clone(), slices.Clone(r.home)
	for _, c := range away {
		at, no := p.fits(sim, used, c, r.headroom)
		if at < 0 {
			why = cmp.Or(why, no)
			continue
		}
		s := p.atHome(c)
		sim.take(at, s.needs)
		used.add(s.needs, 1)
		n++
	}
	return n, why
}

// turnedAway is a pod of the policy that found no room at home within the time that there has to be room: whatever the figures say,
// the scheduler sees none, for reasons that only it knows.
func (p *pass) turnedAway(r *rule) (c *claim, until time.Time) {
	for _, c := range r.pods {
		cond := c.unschedulable()
		if cond == nil || c.Spec.NodeName != "" || c.ending() || len(c.shape.class.home) == 0 {
			continue
		}
		if until = cond.LastTransitionTime.Add(r.stabilization); p.in.Now.Before(until) {
			return c, until
		}
	}
	return nil, time.Time{}
}

// fits is the node at home that has room for the pod that is made instead of this one; -1: none, and why.
func (p *pass) fits(in *room, used vector, c *claim, headroom int64) (at int, why string) {
	r, s := c.rule, p.atHome(c)
	if r.threshold != nil {
		if unit := over(used, s.needs, r.threshold, false); unit >= 0 {
			return -1, "the threshold of " + p.board.units.say(unit, r.threshold[unit]) + " is reached"
		}
	}
	if at = in.home(s); at < 0 {
		return -1, "no node has room for " + p.board.units.all(s.needs)
	}
	if unit := in.slack(s, headroom); unit >= 0 && headroom > 0 {
		return -1, fmt.Sprintf("%d%% of home's %s has to stay free", headroom, p.board.units.name(unit))
	}
	return at, ""
}
