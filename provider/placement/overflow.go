package placement

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Reasons of decisions, as Events have them.
const (
	ReasonNoThreshold     = "NoThreshold"     // Admit: no policy with a threshold governs the pod
	ReasonWithinThreshold = "WithinThreshold" // Admit: the threshold leaves room for it
	ReasonOverThreshold   = "OverThreshold"   // Overflow: the threshold leaves no room for it
	ReasonNoRoomAtHome    = "NoRoomAtHome"    // Overflow: it found no node at home for long enough
	ReasonNoPeerHasRoom   = "NoPeerHasRoom"   // Wait: no peer takes it now
	ReasonRoomAtHome      = "RoomAtHome"      // ComeHome: there has been room for long enough
	ReasonRepatriated     = "Repatriated"     // ComeHome: somebody asked for it
)

// maxDoubled is how often the time between two peers doubles, once all were tried.
const maxDoubled = 6

// maxTold is how much of the scheduler's words is repeated.
const maxTold = 300

// place decides about a pod that has no place.
func (p *pass) place(c *claim) {
	if c.ending() || c.Migrating {
		return
	}
	switch {
	case c.spot == gated:
		p.gate(c)
	case (c.spot == waiting || c.spot == toPeer) && c.rule != nil && c.usual() && len(c.Spec.SchedulingGates) == 0:
		p.overflow(c)
	}
}

// usual says that the default scheduler places it: another one has words of its own, and toleration of what it likes.
func (c *claim) usual() bool {
	return c.Spec.SchedulerName == "" || c.Spec.SchedulerName == corev1.DefaultSchedulerName
}

// gate opens the gate of a pod, to home or to a peer, or leaves it closed.
func (p *pass) gate(c *claim) {
	r := c.rule
	if r == nil || r.threshold == nil {
		p.admit(c, ReasonNoThreshold, "no policy with a threshold governs it: stays at home")
		return
	}
	unit := over(r.home, c.shape.needs, r.threshold, false)
	if unit < 0 {
		p.admit(c, ReasonWithinThreshold, fmt.Sprintf("stays at home, within the threshold of policy %s", r.key()))
		return
	}
	why := fmt.Sprintf("policy %s has %s at home, and its threshold is %s",
		r.key(), p.board.units.say(unit, r.home[unit]), p.board.units.say(unit, r.threshold[unit]))
	p.send(c, ReasonOverThreshold, why)
}

func (p *pass) admit(c *claim, reason, message string) {
	c.spot, c.peer = waiting, ""
	if c.rule != nil {
		c.rule.home.add(c.shape.needs, 1)
	}
	p.decide(c, Admit, "", reason, message)
}

// overflow sends a pod to a peer that has found no node for long enough.
func (p *pass) overflow(c *claim) {
	cond := c.unschedulable()
	if cond == nil {
		return
	}
	since := cond.LastTransitionTime.Time
	due := since.Add(c.rule.after)
	if n := len(c.sent); n > 0 {
		if last := c.sent[n-1].At; last.After(since) {
			since = last
		}
		// Who was refused everywhere is not sent round and round.
		due = since.Add(c.rule.after << min(n/max(1, len(c.rule.Peers)), maxDoubled))
	} else if c.rule.Burst.ClusterAutoscaler == v1alpha1.AutoscalerFirst && !c.ScaleUpRefused {
		due = later(due, since.Add(c.rule.autoscalerWait))
	}
	if p.in.Now.Before(due) {
		p.again(due)
		return
	}
	p.send(c, ReasonNoRoomAtHome, fmt.Sprintf("no room at home for %s: %s", p.in.Now.Sub(cond.LastTransitionTime.Time).Round(time.Second), told(cond.Message)))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// told is the part of the scheduler's words that says what is missing.
func told(message string) string {
	message, _, _ = strings.Cut(message, " preemption:")
	message = strings.TrimRight(message, ". ,")
	if len(message) > maxTold {
		message = strings.ToValidUTF8(message[:maxTold], "") + "…"
	}
	if message == "" {
		return "the scheduler found no node"
	}
	return message
}

// send sends a pod to the peer that its policy chooses, or has it wait.
func (p *pass) send(c *claim, reason, why string) {
	r := c.rule
	at, chosen, message := p.choose(c)
	if at < 0 {
		r.waits++
		if r.waits == 1 {
			r.waiting = message
		}
		p.decide(c, Wait, "", ReasonNoPeerHasRoom, why+". "+message)
		return
	}
	p.room.take(at, c.shape.needs)
	if c.goes()[chosen] == 0 {
		r.takes(chosen, c.shape.needs)
	}
	switch c.spot {
	case toPeer:
		r.state.Peers[c.peer]--
		if r.state.Peers[c.peer] == 0 {
			delete(r.state.Peers, c.peer)
		}
	case waiting:
		r.home.add(c.shape.needs, -1)
		r.state.Pending--
	case gated:
		r.state.Pending--
	}
	r.state.Peers[chosen]++
	c.spot, c.peer = toPeer, chosen
	p.decide(c, Overflow, chosen, reason, why+". "+message)
}
