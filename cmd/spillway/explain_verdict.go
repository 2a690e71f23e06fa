package main

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// ruling is what is to be said of a pod in one sentence, and what to do.
type ruling struct {
	text string // goes on after "pod x/y "
	ok   bool   // nothing is wrong
	next []string
}

// judge returns the ruling of the first rule that applies: what comes first explains what comes after it.
func judge(f podFacts) ruling {
	for _, rule := range []func(podFacts) *ruling{
		judgeEnded, judgeUnbound, judgeNodeGone, judgeHere, judgeNotAllowed, judgeLost, judgeDeleting, judgeIdle,
		judgeRefused, judgeNeeds, judgeContainers, judgeNoTwin,
	} {
		if v := rule(f); v != nil {
			return *v
		}
	}
	return judgeRunning(f)
}

// judgeEnded: the pod's containers have ended for good.
func judgeEnded(f podFacts) *ruling {
	where := "on node " + f.pod.Spec.NodeName
	if name := f.peerName(); name != "" {
		where = "in the peer " + name
	}
	switch f.pod.Status.Phase {
	case corev1.PodSucceeded:
		return &ruling{text: "has ended well " + where, ok: true}
	case corev1.PodFailed:
		text := "has failed " + where
		if c := podCondition(f.pod, corev1.DisruptionTarget); c != nil && c.Status == corev1.ConditionTrue {
			return &ruling{text: fmt.Sprintf("%s (%s): %s", text, c.Reason, c.Message),
				next: []string{"What owns it makes another. A pod that nothing owns is made anew by whoever wants it."}}
		}
		if f.pod.Status.Reason != "" || f.pod.Status.Message != "" {
			text += fmt.Sprintf(" (%s): %s", orDash(f.pod.Status.Reason), f.pod.Status.Message)
		}
		return &ruling{text: text, next: []string{f.kubectl("logs", f.pod.Name)}}
	}
	return nil
}

// judgeUnbound: the scheduler has not placed the pod.
func judgeUnbound(f podFacts) *ruling {
	if f.pod.Spec.NodeName != "" {
		return nil
	}
	if gate := (corev1.PodSchedulingGate{Name: v1alpha1.GatePlacement}); slices.Contains(f.pod.Spec.SchedulingGates, gate) {
		v := &ruling{text: "waits for Spillway to say where it goes", next: []string{
			"That takes moments while a spillwayd controller works here and the destination has room; its Events say what it waits for."}}
		if f.idle != "" {
			v.text += ", but no spillwayd controller works here: " + f.idle
			v.next = []string{f.startController()}
		}
		return v
	}
	if n := len(f.pod.Spec.SchedulingGates); n > 0 {
		return &ruling{text: "waits for its scheduling gates: " + gateNames(f.pod),
			next: []string{"Whoever set the gates removes them; until then the scheduler does not look at the pod."}}
	}
	v := &ruling{text: "has no node yet", next: f.steer()}
	if c := podCondition(f.pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		v.text += ": the scheduler finds none that fits"
		v.next = append(v.next, "The scheduler's words below say why each node was passed over; what the peers offer shows: spillway status --context "+f.context)
	} else {
		v.text += ": the scheduler has not looked at it"
		v.next = append(v.next, "Wait a moment; if it stays, check that the pod's scheduler runs: "+schedulerOf(f.pod))
	}
	return v
}

func gateNames(pod *corev1.Pod) string {
	var names []string
	for _, gate := range pod.Spec.SchedulingGates {
		names = append(names, gate.Name)
	}
	return strings.Join(names, ", ")
}

func schedulerOf(pod *corev1.Pod) string {
	if pod.Spec.SchedulerName == "" {
		return corev1.DefaultSchedulerName
	}
	return pod.Spec.SchedulerName
}

// steer says what keeps the pod from every virtual node, each with what would change that.
func (f podFacts) steer() []string {
	if f.peeringsRead && len(f.borrowing) == 0 {
		return []string{"This cluster borrows from no other. " + howToPeer(f.context)}
	}
	var next []string
	if why := f.keptHome(); why != "" {
		what := "offloadpolicies"
		if _, moved := f.course(); moved {
			what = "migrations"
		}
		next = append(next, sentence(why)+" Look at it: "+f.kubectl("get", what))
	}
	if allowed, known := f.mayLeave(); known && !allowed {
		next = append(next, "To let the pods of the namespace leave the cluster: "+f.labelNamespace())
	}
	if why := f.overflows(); why != "" {
		next = append(next, sentence(why)+" Its Events say what it waits for.")
	} else if !f.tolerates() {
		next = append(next, fmt.Sprintf("To let this pod be bound to a virtual node, give it (in its Deployment, Job, …) the toleration "+
			"{key: %s, operator: Exists, effect: NoSchedule}", v1alpha1.TaintVirtualNode))
	}
	for i := range f.borrowing {
		if p := &f.borrowing[i]; !holds(p, v1alpha1.ConditionNodeReady) {
			what, do := whyNot(p, []string{v1alpha1.ConditionAuthenticated, v1alpha1.ConditionNodeReady})
			next = append(next, fmt.Sprintf("The peer %s takes no pods: %s %s", p.Name, sentence(what), do))
		}
	}
	return next
}

func (f podFacts) labelNamespace() string {
	return fmt.Sprintf("kubectl --context %s label --overwrite namespace %s %s=%s", f.context, f.pod.Namespace, v1alpha1.LabelOffload, v1alpha1.OffloadEnabled)
}

// kubectl is a command for the pod's namespace.
func (f podFacts) kubectl(verb, rest string) string {
	return fmt.Sprintf("kubectl --context %s -n %s %s %s", f.context, f.pod.Namespace, verb, rest)
}

// judgeNodeGone: the pod is bound to a node that does not exist.
func judgeNodeGone(f podFacts) *ruling {
	if !f.nodeGone {
		return nil
	}
	return &ruling{text: fmt.Sprintf("is bound to node %s, which does not exist any more", f.pod.Spec.NodeName),
		next: []string{"The cluster's pod garbage collector removes it within some minutes; its owner then makes another. At once: " +
			f.kubectl("delete pod", f.pod.Name)}}
}

// judgeHere: the pod is on a real node.
func judgeHere(f podFacts) *ruling {
	if f.peerName() != "" {
		return nil
	}
	if f.node == nil {
		return &ruling{text: fmt.Sprintf("is bound to node %s, of which you may read nothing", f.pod.Spec.NodeName),
			next: []string{"Ask an administrator for the right to get nodes and peerings.spillway.dev."}}
	}
	where := "in this cluster, on the real node " + f.node.Name
	if podReady(f.pod) {
		return &ruling{text: "runs " + where + ": " + f.whyHere(), ok: true}
	}
	v := &ruling{text: "is to run " + where + ", but is not Ready", next: []string{f.kubectl("describe pod", f.pod.Name)}}
	if words := waitingWords(f.pod); words != "" {
		v.text += ": " + words
	}
	return v
}

// whyHere says why a pod is on a real node.
func (f podFacts) whyHere() string {
	switch {
	case f.peeringsRead && len(f.borrowing) == 0:
		return "this cluster borrows from no other"
	case f.keptHome() != "":
		return f.keptHome()
	case f.overflows() != "":
		return f.overflows()
	case !f.tolerates():
		return "it does not tolerate the taint of virtual nodes"
	}
	return "the scheduler preferred that node"
}
