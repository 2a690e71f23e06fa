package main

import (
	"fmt"
	"strings"
)

// The parts of a podStory as people read them. They are written to a builder, which takes everything.

// line writes a fact below a headline.
func line(text *strings.Builder, name, format string, args ...any) {
	fmt.Fprintf(text, "  %-14s %s\n", name, fmt.Sprintf(format, args...))
}

func (s podStory) printWhere(text *strings.Builder) {
	w := s.Where
	fmt.Fprint(text, "\nWhere\n")
	switch w.NodeKind {
	case "":
		line(text, "node", "none")
	case "virtual":
		line(text, "node", "%s, a virtual node: it stands for Peering %s%s", w.Node, w.Peering, w.readiness())
	case "real":
		line(text, "node", "%s, a real node of this cluster%s", w.Node, w.readiness())
	case "gone":
		line(text, "node", "%s, which does not exist", w.Node)
	default:
		line(text, "node", "%s (it may not be read)", w.Node)
	}
	phase := orDash(w.Phase)
	if w.Ready {
		phase += ", Ready"
	}
	if w.Deleting {
		phase += ", being deleted"
	}
	line(text, "phase", "%s", phase)
	if w.Scheduler != "" {
		line(text, "scheduler", "%s", w.Scheduler)
	}
	switch {
	case w.MayLeave == nil:
		line(text, "namespace", "%s (it may not be read)", s.Namespace)
	case *w.MayLeave:
		line(text, "namespace", "%s lets pods leave the cluster", s.Namespace)
	default:
		line(text, "namespace", "%s", strings.TrimPrefix(w.Closed, "namespace "))
	}
	if w.Policy != "" {
		line(text, "policy", "OffloadPolicy %s governs the pod: %s", w.Policy, w.PolicyWhen)
	}
	if w.Migration != "" {
		line(text, "migration", "Migration %s says where new pods of its workload go: %s, with a share of %d %%", w.Migration, w.MigrationAt, w.Share)
	}
	if w.Placed != "" {
		line(text, "placed", "%s", w.Placed)
	}
	if w.Misfit != "" && w.Closed == "" {
		line(text, "", "it may no longer be there: %s", w.Misfit)
	}
	if w.Tolerates {
		line(text, "toleration", "the pod tolerates the taint spillway.dev/virtual-node")
	} else {
		line(text, "toleration", "none of the taint spillway.dev/virtual-node: it is not bound to virtual nodes")
	}
	w.Placement.print(text)
	if len(w.VirtualNodes) > 0 && w.NodeKind == "" {
		line(text, "virtual nodes", "%s", strings.Join(w.VirtualNodes, ", "))
	}
}

func (w whereabouts) readiness() string {
	if w.NodeReady == "" || w.NodeReady == "True" {
		return ""
	}
	return ", not Ready"
}

func (s podStory) printTwin(text *strings.Builder) {
	t := s.Twin
	if t == nil {
		return
	}
	fmt.Fprint(text, "\nTwin\n")
	switch {
	case t.State == string(presenceThere):
		line(text, "pod", "%s/%s (context %s)", t.Namespace, t.Name, t.Context)
		line(text, "node", "%s", orDash(t.Node))
		phase := orDash(t.Phase)
		if t.Ready {
			phase += ", Ready"
		}
		line(text, "phase", "%s", phase)
	case t.State == string(presenceMissing) && t.Namespace == "":
		line(text, "pod", "none: the provider has no namespace for %s yet", s.Namespace)
	case t.State == string(presenceMissing):
		line(text, "pod", "none: there is no %s/%s (context %s)", t.Namespace, t.Name, t.Context)
	case t.State == string(presenceForeign):
		line(text, "pod", "none: %s/%s (context %s) belongs to another", t.Namespace, t.Name, t.Context)
	default:
		line(text, "pod", "%s, in the namespace that the provider has for %s", t.Name, s.Namespace)
		line(text, "not looked at", "%s", t.Why)
	}
	address := t.PodIP
	switch {
	case t.SeenAs != "" && t.PodIP != "":
		address += ", seen here as " + t.SeenAs
	case t.SeenAs != "":
		address = t.SeenAs + ", as seen here"
	}
	if address != "" {
		line(text, "address", "%s", address)
	}
	if w := t.Warning; w != nil {
		line(text, "last warning", "%s: %s (%s)", w.Reason, orDash(w.Message), w.when())
	}
}

func (s podStory) printNeeds(text *strings.Builder) {
	if len(s.Needs) == 0 {
		return
	}
	fmt.Fprint(text, "\nNeeds\n")
	for _, n := range s.Needs {
		fmt.Fprintf(text, "  %-14s %-24s %s\n", n.Kind, n.Name, n.words(s.Twin != nil))
	}
}

func (s podStory) printFollows(text *strings.Builder) {
	if len(s.Follows) > 0 {
		fmt.Fprint(text, "\nFollows\n")
	}
	for _, n := range s.Follows {
		fmt.Fprintf(text, "  %-14s %-24s %s\n", n.Kind, n.Name, n.followWords())
	}
}

// words say where the object is; offloaded: it has to follow the pod.
func (n need) words(offloaded bool) string {
	words := map[presence]string{presenceThere: "here", presenceMissing: "missing here", presenceUnknown: "may not be read"}[n.Home]
	if n.Optional {
		words += ", optional"
	}
	if !offloaded {
		return words
	}
	switch n.Provider {
	case presenceThere:
		return words + ", at the provider too"
	case presenceMissing:
		return words + ", not at the provider"
	case presenceForeign:
		return words + ", at the provider another of that name"
	}
	return words + "; follows the pod"
}

func (p peerHealth) print(text *strings.Builder, style style) {
	fmt.Fprintf(text, "\nPeering %s\n", p.Name)
	for _, c := range p.Conditions {
		if c.Status == "True" {
			line(text, c.Type, "%s", style.good(c.Status))
			continue
		}
		line(text, c.Type, "%s (%s): %s", style.bad(c.Status), c.Reason, orDash(c.Message))
	}
}

func (s saying) print(text *strings.Builder) {
	what := s.Source + ": " + orDash(s.Reason)
	if s.Count > 1 {
		what += fmt.Sprintf(" (%d times)", s.Count)
	}
	if s.Message != "" {
		what += ": " + s.Message
	}
	fmt.Fprintf(text, "  %-14s %s\n", s.when(), what)
}

func (s saying) when() string {
	if s.age == "" {
		return "now"
	}
	return s.age + " ago"
}
