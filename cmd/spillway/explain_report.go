package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// mostSayings is how many of the latest things that were said are shown.
const mostSayings = 10

// podStory is what explain prints.
type podStory struct {
	Command   string       `json:"command"`
	OK        bool         `json:"ok"`
	Context   string       `json:"context"`
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	Verdict   string       `json:"verdict"`
	Next      []string     `json:"next,omitempty"` // what to do
	Where     whereabouts  `json:"where"`
	Twin      *twinStory   `json:"twin,omitempty"`     // of a pod on a virtual node
	Needs     []need       `json:"needs,omitempty"`    // what the pod names, and where it is
	Follows   []need       `json:"follows,omitempty"`  // of a pod on a virtual node: Services that lead to it, and its tokens
	Peerings  []peerHealth `json:"peerings,omitempty"` // of the pod's node, or, while it has none, all that borrow
	Said      []saying     `json:"said,omitempty"`     // latest first
}

// whereabouts says where a pod is and where it could be.
type whereabouts struct {
	Node         string   `json:"node,omitempty"`
	NodeKind     string   `json:"nodeKind,omitempty"` // real, virtual, gone or unknown
	NodeReady    string   `json:"nodeReady,omitempty"`
	Peering      string   `json:"peering,omitempty"`
	Phase        string   `json:"phase"`
	Ready        bool     `json:"ready"`
	Deleting     bool     `json:"deleting,omitempty"`
	Scheduler    string   `json:"scheduler,omitempty"`        // its words, while the pod has no node
	MayLeave     *bool    `json:"namespaceAllows,omitempty"`  // absent: the namespace may not be read
	Closed       string   `json:"namespaceRefusal,omitempty"` // why the namespace does not
	Policy       string   `json:"policy,omitempty"`           // the OffloadPolicy that governs the pod
	PolicyWhen   string   `json:"policyWhen,omitempty"`
	Migration    string   `json:"migration,omitempty"` // the one that says where new pods of its workload go
	MigrationAt  string   `json:"migrationPhase,omitempty"`
	Share        int32    `json:"migrationShare,omitempty"` // of its pods, in percent, that belongs at the destination
	Placed       string   `json:"placed,omitempty"`         // why Spillway has placed it where it is, in its own words
	Misfit       string   `json:"misfit,omitempty"`         // why it may no longer be where it is
	Tolerates    bool     `json:"toleratesVirtualNodes"`    // the pod does
	VirtualNodes []string `json:"virtualNodes,omitempty"`   // of the cluster
	Placement    *placed  `json:"placement,omitempty"`      // what Spillway has done about where it is
}

// twinStory is what is known of the pod that really runs.
type twinStory struct {
	Context   string `json:"context,omitempty"`   // of the kubeconfig; empty: the user named none
	Namespace string `json:"namespace,omitempty"` // empty: not known here
	Name      string `json:"name"`
	State     string `json:"state"` // there, missing, foreign, or unknown: nobody could look
	Why       string `json:"why,omitempty"`
	Node      string `json:"node,omitempty"`
	Phase     string `json:"phase,omitempty"`
	Ready     bool   `json:"ready,omitempty"`
	PodIP     string `json:"podIP,omitempty"`
	SeenAs    string `json:"podIPAtHome,omitempty"` // the address at home

	Warning *saying `json:"warning,omitempty"` // the provider's last
}

// peerHealth is a Peering's conditions.
type peerHealth struct {
	Name       string        `json:"name"`
	Conditions []peerVerdict `json:"conditions"`
}

// peerVerdict is one condition of a Peering.
type peerVerdict struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// saying is something that was said of a pod.
type saying struct {
	At      *time.Time `json:"at,omitempty"` // absent: not known
	Source  string     `json:"source"`       // condition X, container X, event, or event at the provider
	Reason  string     `json:"reason"`
	Message string     `json:"message,omitempty"`
	Count   int32      `json:"count,omitempty"`

	age string
}

// tell makes the story of a pod from what is known of it.
func tell(f podFacts) podStory {
	v := judge(f)
	s := podStory{Command: "explain", OK: v.ok, Context: f.context, Namespace: f.pod.Namespace, Name: f.pod.Name,
		Verdict: sentence(fmt.Sprintf("Pod %s/%s %s", f.pod.Namespace, f.pod.Name, v.text)), Where: whereIs(f), Needs: f.needs, Follows: f.follows}
	for _, next := range v.next {
		s.Next = append(s.Next, strings.TrimSpace(next))
	}
	switch {
	case f.peerName() != "":
		s.Twin = twinOf(f)
		if f.peering != nil {
			s.Peerings = []peerHealth{healthOf(f.peering)}
		}
	case f.pod.Spec.NodeName == "":
		for i := range f.borrowing {
			s.Peerings = append(s.Peerings, healthOf(&f.borrowing[i]))
		}
	}
	s.Said = sayings(f)
	return s
}

func whereIs(f podFacts) whereabouts {
	w := whereabouts{Node: f.pod.Spec.NodeName, Peering: f.peerName(), Phase: string(f.pod.Status.Phase), Ready: podReady(f.pod),
		Deleting: f.pod.DeletionTimestamp != nil, Tolerates: f.tolerates(), Misfit: f.verdict().Refusal}
	w.Placement = placedBy(f)
	for i := range f.virtual {
		w.VirtualNodes = append(w.VirtualNodes, f.virtual[i].Name)
	}
	if p := f.policies.For(f.pod.Labels); p != nil {
		w.Policy, w.PolicyWhen = p.Name, string(p.Spec.When)
	}
	if c, ok := f.course(); ok {
		w.Migration, w.MigrationAt, w.Share = c.Migration.Name, string(c.Migration.Status.Phase), c.Migration.Status.Share
	}
	w.Placed = f.pod.Annotations[v1alpha1.AnnotationPlacement]
	if f.namespace != nil {
		w.Closed = f.whyClosed()
	}
	if allowed, known := f.mayLeave(); known {
		w.MayLeave = &allowed
	}
	switch {
	case w.Node == "":
		if c := podCondition(f.pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
			w.Scheduler = fmt.Sprintf("%s: %s", c.Reason, orDash(c.Message))
		}
	case f.nodeGone:
		w.NodeKind = "gone"
	case w.Peering != "":
		w.NodeKind = "virtual"
	case f.node == nil:
		w.NodeKind = "unknown"
	default:
		w.NodeKind = "real"
	}
	if f.node != nil {
		if c := nodeReadiness(f.node); c != nil {
			w.NodeReady = string(c.Status)
		}
	}
	return w
}

func twinOf(f podFacts) *twinStory {
	t := &twinStory{Context: f.twin.context, Namespace: f.twin.namespace, Name: f.pod.Name, State: string(presenceUnknown), Why: f.twin.why}
	switch {
	case !f.twin.looked:
		t.Why = "name the provider to see it: --remote-context " + cmp.Or(f.twin.hint, "CONTEXT")
	case t.Why != "":
	case f.twin.foreign:
		t.State = string(presenceForeign)
	case f.twin.pod == nil:
		t.State = string(presenceMissing)
	default:
		t.State = string(presenceThere)
		t.Node, t.Phase, t.Ready, t.PodIP = f.twin.pod.Spec.NodeName, string(f.twin.pod.Status.Phase), podReady(f.twin.pod), f.twin.pod.Status.PodIP
	}
	if f.pod.Status.PodIP != t.PodIP {
		t.SeenAs = f.pod.Status.PodIP
	}
	if t.Warning = f.lastWarning(); t.Warning != nil && t.Warning.At != nil {
		t.Warning.age = duration.HumanDuration(f.now.Sub(*t.Warning.At))
	}
	return t
}

func healthOf(p *v1alpha1.Peering) peerHealth {
	h := peerHealth{Name: p.Name, Conditions: []peerVerdict{}}
	for _, kind := range []string{v1alpha1.ConditionAuthenticated, v1alpha1.ConditionTunnelUp, v1alpha1.ConditionNodeReady, v1alpha1.ConditionReady} {
		c := condition(p, kind)
		switch {
		case c != nil && c.Status == metav1.ConditionTrue:
			h.Conditions = append(h.Conditions, peerVerdict{Type: kind, Status: string(c.Status)})
		case c != nil:
			h.Conditions = append(h.Conditions, peerVerdict{kind, string(c.Status), c.Reason, c.Message})
		case kind != v1alpha1.ConditionTunnelUp: // absent where no tunnel is wanted
			h.Conditions = append(h.Conditions, peerVerdict{kind, string(metav1.ConditionUnknown), "NotSeen", "not judged yet"})
		}
	}
	return h
}

// sayings collects what was said of the pod, latest first; what has no time comes first, since it holds now. What a condition
// says is not repeated where an Event says it too.
func sayings(f podFacts) []saying {
	all := slices.Concat(conditionSayings(f.pod, "condition "), containerSayings(f.pod), f.eventsHere(),
		eventSayings(f.twin.events, "event at the provider"))
	if f.twin.pod != nil {
		all = append(all, conditionSayings(f.twin.pod, "provider's condition ")...)
		if c := podCondition(f.twin.pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
			all = append(all, saying{At: timeOf(c.LastTransitionTime), Source: "provider's condition PodScheduled", Reason: c.Reason, Message: c.Message})
		}
	}
	var list []saying
	for _, s := range all {
		if !slices.ContainsFunc(list, func(o saying) bool { return o.Reason == s.Reason && o.Message == s.Message }) {
			if s.At != nil {
				s.age = duration.HumanDuration(f.now.Sub(*s.At))
			}
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b saying) int {
		switch {
		case a.At != nil && b.At != nil:
			return b.At.Compare(*a.At)
		case a.At != nil:
			return 1
		case b.At != nil:
			return -1
		}
		return 0
	})
	return list[:min(mostSayings, len(list))]
}

// conditionSayings are the conditions of a pod that tell of something wrong.
func conditionSayings(pod *corev1.Pod, source string) []saying {
	var list []saying
	for _, c := range pod.Status.Conditions {
		bad := corev1.ConditionFalse
		switch c.Type {
		case conditionOffloaded, corev1.PodReady:
		case corev1.DisruptionTarget:
			bad = corev1.ConditionTrue
		default: // ContainersReady and the like repeat what Ready says; PodScheduled is told apart
			continue
		}
		if c.Status == bad && (c.Reason != "" || c.Message != "") && c.Reason != "PodCompleted" {
			list = append(list, saying{At: timeOf(c.LastTransitionTime), Source: source + string(c.Type), Reason: c.Reason, Message: c.Message})
		}
	}
	return list
}

// containerSayings say what containers wait for, and how they ended before.
func containerSayings(pod *corev1.Pod) []saying {
	var list []saying
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		source := "container " + c.Name
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			list = append(list, saying{Source: source, Reason: w.Reason, Message: w.Message})
		}
		for _, ended := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
			if ended != nil && ended.ExitCode != 0 {
				list = append(list, saying{At: timeOf(ended.FinishedAt), Source: source, Reason: ended.Reason,
					Message: strings.TrimSpace(fmt.Sprintf("exit code %d %s", ended.ExitCode, ended.Message)), Count: c.RestartCount})
			}
		}
	}
	return list
}

func eventSayings(events []corev1.Event, source string) []saying {
	var list []saying
	for i := range events {
		e := &events[i]
		s := saying{Source: source, Reason: e.Reason, Message: e.Message, Count: e.Count}
		switch {
		case e.Series != nil:
			s.At, s.Count = &e.Series.LastObservedTime.Time, e.Series.Count
		case !e.LastTimestamp.IsZero():
			s.At = &e.LastTimestamp.Time
		case !e.EventTime.IsZero():
			s.At = &e.EventTime.Time
		default:
			s.At = timeOf(e.CreationTimestamp)
		}
		list = append(list, s)
	}
	return list
}

func timeOf(t metav1.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t.Time
}

// print writes s for people.
func (s podStory) print(w io.Writer) error {
	style := styleFor(w)
	var text strings.Builder
	fmt.Fprintln(&text, s.Verdict)
	for _, next := range s.Next {
		fmt.Fprintf(&text, "  → %s\n", next)
	}
	s.printWhere(&text)
	s.printTwin(&text)
	s.printNeeds(&text)
	s.printFollows(&text)
	for _, p := range s.Peerings {
		p.print(&text, style)
	}
	if len(s.Said) > 0 {
		fmt.Fprint(&text, "\nSaid last\n")
	}
	for _, said := range s.Said {
		said.print(&text)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
