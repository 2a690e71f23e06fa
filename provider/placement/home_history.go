package placement

import (
	"fmt"
	"time"
)

// remember notes how many pods of a policy could come home now, and says how many could for the whole of the stabilization time.
func (p *pass) remember(r *rule, now int) (stable int) {
	samples := note(p.in.History.Room[r.key()], Sample{p.in.Now, now})
	long := p.in.Now.Add(-r.stabilization)
	for len(samples) > 1 && !samples[1].At.After(long) {
		samples = samples[1:]
	}
	p.out.History.Room[r.key()] = samples
	for _, s := range samples {
		if s.At.After(long) && s.Count > stable {
			p.again(s.At.Add(r.stabilization))
			break
		}
		stable = s.Count
	}
	return stable
}

// judge learns from how the last homecoming of a policy went. When home turned a pod away soon after, the figures have promised too
// much, or the load is back: there has to be room for twice as long the next time, so that nobody moves to and fro.
func (p *pass) judge(r *rule, refused *claim) {
	last, known := p.in.History.Returned[r.key()]
	if !known {
		return
	}
	switch long := r.stabilization << last.Failed; {
	case last.Last.IsZero():
	case refused != nil && !refused.CreationTimestamp.Time.Before(last.Last.Truncate(time.Second)):
		last = Return{Failed: min(last.Failed+1, maxDoubled)}
	case p.in.Now.Sub(last.Last) > long:
		last = Return{}
	}
	if last != (Return{}) {
		p.out.History.Returned[r.key()] = last
	}
	r.failed, r.stabilization = last.Failed, r.stabilization<<last.Failed
}

// note returns the samples with one more. Those of as many pods or more become that one: at any time since the first of them there was
// room for so many. The given samples are not changed.
func note(samples []Sample, now Sample) []Sample {
	k := len(samples)
	for k > 0 && samples[k-1].Count >= now.Count {
		k--
		now.At = samples[k].At
	}
	out := make([]Sample, 0, k+1)
	return append(append(out, samples[:k]...), now)
}

// homecoming is one policy's pods coming home, in one pass.
type homecoming struct {
	*pass
	rule      *rule
	slots     int // how many more may be on their way
	stable    int // how many more have had room for long enough
	sent      int
	used      vector // what the policy's pods have at home, and those on their way will
	unsettled *claim // one that would come but for its controller
	unready   int
}

// consider lets a pod come home if it may.
func (h *homecoming) consider(c *claim) {
	asked := h.rule.asked(c)
	if !asked && (h.stable <= 0 || h.rule.onRequest()) {
		return
	}
	if !Ready(c.Pod.Pod) {
		h.unready++
		return
	}
	if !c.Settled {
		h.unsettled = c
		return
	}
	headroom := h.rule.headroom
	if asked {
		headroom = 0
	}
	at, _ := h.fits(h.room, h.used, c, headroom)
	if at < 0 {
		return
	}
	needs := c.shape.needs
	h.room.take(at, needs)
	h.used.add(needs, 1)
	h.slots--
	h.sent++
	if asked {
		h.decide(c, ComeHome, c.peer, ReasonRepatriated, fmt.Sprintf("comes home from %s, as it was asked for", c.peer))
		return
	}
	h.stable--
	h.decide(c, ComeHome, c.peer, ReasonRoomAtHome, fmt.Sprintf("comes home from %s: there has been room for %s of policy %s for %s",
		c.peer, count(h.rule.state.Returnable), h.rule.key(), h.rule.stabilization))
}

// held says why no pod comes home. It stays the same until something changes.
func (p *pass) held(r *rule, h *homecoming, now int, why string) string {
	samples := p.out.History.Room[r.key()]
	switch {
	case h.slots <= 0:
		return "other pods of the policy are on their way, or not Ready at home yet"
	case h.unsettled != nil:
		return fmt.Sprintf("the controller of %s has not all its pods Ready", h.unsettled.Name)
	case h.unready > 0:
		return fmt.Sprintf("%s in peers not Ready", count(h.unready))
	case now == 0:
		return "there is no room at home: " + why
	case r.onRequest():
		return "comeHome.when is OnRequest: spillway repatriate has them come home"
	case r.state.Returnable == 0:
		since := samples[len(samples)-1]
		for _, s := range samples {
			if s.Count > 0 {
				since = s
				break
			}
		}
		held := fmt.Sprintf("there is room at home for %s since %s: they come home at %s if it stays", count(since.Count),
			clock(since.At), clock(since.At.Add(r.stabilization)))
		if r.failed > 0 {
			held += fmt.Sprintf(" (there has to be room for %s, since home soon had no room again %d times in a row)", r.stabilization, r.failed)
		}
		return held
	}
	return "there is no room at home beside pods that are on their way"
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func count(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}
