package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

const (
	// burstAfter is how long a pod is unschedulable before it overflows when its policy does not say.
	burstAfter = 10 * time.Second

	// spillwayComponent is who tells in Events why a pod was placed.
	spillwayComponent = "spillway"
)

// placed says what Spillway has done about where a pod is.
type placed struct {
	Sent     []sentTo `json:"sent,omitempty"`     // the peers that it overflowed to, the last one last
	Waits    string   `json:"waits,omitempty"`    // what has to happen before it overflows
	Moving   string   `json:"moving,omitempty"`   // that it was let go of, and what for
	Decision *saying  `json:"decision,omitempty"` // the last Event about its place
}

// sentTo is a peer that a pod was let onto, and when.
type sentTo struct {
	Peer string    `json:"peer"`
	At   time.Time `json:"at"`

	age string
}

// placedBy says what Spillway has done about where the pod is; nil: nothing.
func placedBy(f podFacts) *placed {
	p := placed{Sent: sentOf(f.pod, f.now), Moving: movingOf(f.pod)}
	p.Waits = f.waits(p.Sent)
	var said []corev1.Event
	for _, e := range f.events {
		if (e.Source.Component == spillwayComponent || e.ReportingController == spillwayComponent) && !f.fromProvider(&e) {
			said = append(said, e)
		}
	}
	for _, s := range eventSayings(said, "event") {
		if p.Decision == nil || s.At != nil && p.Decision.At != nil && s.At.After(*p.Decision.At) {
			if s.At != nil {
				s.age = duration.HumanDuration(f.now.Sub(*s.At))
			}
			p.Decision = &s
		}
	}
	if len(p.Sent) == 0 && p.Waits == "" && p.Moving == "" && p.Decision == nil {
		return nil
	}
	return &p
}

// sentOf reads the peers that a pod overflowed to; what cannot be read is left out.
func sentOf(pod *corev1.Pod, now time.Time) []sentTo {
	var list []sentTo
	for _, part := range strings.Split(pod.Annotations[v1alpha1.AnnotationBurst], ",") {
		peer, text, _ := strings.Cut(strings.TrimSpace(part), "=")
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			list = append(list, sentTo{peer, at, duration.HumanDuration(now.Sub(at))})
		}
	}
	return list
}

// movingOf says that a pod was let go of, and what for; empty: it was not.
func movingOf(pod *corev1.Pod) string {
	if pod.Labels[v1alpha1.LabelMoving] == "" {
		return ""
	}
	var m placement.Moving
	if json.Unmarshal([]byte(pod.Annotations[v1alpha1.AnnotationMoving]), &m) != nil {
		return "its controller was made to let go of it; it goes when there is another"
	}
	to := m.To
	if to == placement.Home {
		to = placeHome
	}
	return fmt.Sprintf("ReplicaSet %s makes another at %s; this one serves until that is Ready (%s)", m.Controller, to, m.Why)
}

// waits says what has to happen before the pod overflows, or tries the next peer; empty: it has a node, or its policy does not burst.
func (f podFacts) waits(sent []sentTo) string {
	policy := f.policies.For(f.pod.Labels)
	if f.pod.Spec.NodeName != "" || policy == nil || policy.Spec.When != v1alpha1.OffloadBurst || len(f.pod.Spec.SchedulingGates) > 0 {
		return ""
	}
	after := burstAfter
	burst := policy.Spec.Burst
	if burst != nil && burst.After != nil {
		after = burst.After.Duration
	}
	c := podCondition(f.pod, corev1.PodScheduled)
	switch {
	case c == nil || c.Status != corev1.ConditionFalse || c.Reason != corev1.PodReasonUnschedulable:
		return ""
	case len(sent) > 0:
		last := sent[len(sent)-1]
		return fmt.Sprintf("%s has not taken it for %s; after %s the next peer is tried", last.Peer, last.age, seconded(after))
	}
	text := fmt.Sprintf("it waits %s at home before it overflows; it has been unschedulable for %s", seconded(after),
		duration.HumanDuration(f.now.Sub(c.LastTransitionTime.Time)))
	if burst != nil && burst.ClusterAutoscaler == v1alpha1.AutoscalerFirst {
		text += ", and the cluster autoscaler goes first"
	}
	return text
}

// seconded is a duration as users write it: 10s, 2m.
func seconded(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	return text
}

func (p *placed) print(text *strings.Builder) {
	if p == nil {
		return
	}
	if p.Waits != "" {
		line(text, "overflow", "%s", p.Waits)
	}
	for _, s := range p.Sent {
		line(text, "sent", "to %s, %s ago, since it found no room at home", s.Peer, s.age)
	}
	if p.Moving != "" {
		line(text, "moving", "%s", p.Moving)
	}
	if d := p.Decision; d != nil {
		line(text, "spillway said", "%s: %s (%s)", d.Reason, orDash(d.Message), d.when())
	}
}
