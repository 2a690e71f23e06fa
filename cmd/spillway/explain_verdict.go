package main

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// ruling is what is to be said of a pod in one sentence, and what to do.
type ruling struct {
	text string // goes on after "pod x/y "
	ok   bool   // nothing is wrong
	next []string
}

// judge returns the verdict of the first rule that applies: what comes first explains what comes after it.
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
			text += fmt.Sprintf(" (%s): %s", c.Reason, c.Message)
		} else if f.pod.Status.Reason != "" || f.pod.Status.Message != "" {
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
	if n := len(f.pod.Spec.SchedulingGates); n > 0 {
		return &ruling{text: "waits for its scheduling gates: " + gateNames(f.pod),
			next: []string{"Whoever set the gates removes them; until then the scheduler does not look at the pod."}}
	}
	v := &ruling{text: "has no node yet", next: f.steer()}
	if c := podCondition(f.pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		v.text += ": the scheduler finds none that fits"
		v.next = append(v.next, "The scheduler's words above say why each node was passed over; what the peers offer shows: spillway status --context "+f.context)
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
	if len(f.borrowing) == 0 {
		return []string{"This cluster borrows from no other. " + howToPeer(f.context)}
	}
	var next []string
	if allowed, known := f.mayLeave(); known && !allowed {
		next = append(next, "To let the pods of the namespace leave the cluster: "+f.labelNamespace())
	}
	if !f.tolerates() {
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
	return fmt.Sprintf("kubectl --context %s label namespace %s %s=%s", f.context, f.pod.Namespace, v1alpha1.LabelOffload, v1alpha1.OffloadEnabled)
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
		return &ruling{text: "runs " + where + "; Spillway has nothing to do with it", ok: true}
	}
	v := &ruling{text: "is to run " + where + ", but is not Ready", next: []string{f.kubectl("describe pod", f.pod.Name)}}
	if words := waitingWords(f.pod); words != "" {
		v.text += ": " + words
	}
	return v
}

// judgeNotAllowed: the pod is on a virtual node and may not leave the cluster.
func judgeNotAllowed(f podFacts) *ruling {
	c := podCondition(f.pod, conditionOffloaded)
	said := c != nil && c.Status == corev1.ConditionFalse && c.Reason == offloadNotAllowed
	allowed, known := f.mayLeave()
	if !said && (!known || allowed || hasRun(f.pod)) {
		return nil
	}
	v := &ruling{text: fmt.Sprintf("is bound to the virtual node %s but may not leave the cluster", f.pod.Spec.NodeName)}
	if said && (allowed || !known) {
		v.text += ": " + c.Message
	}
	if known && !allowed {
		v.text += ": namespace " + f.pod.Namespace + " does not allow it"
		v.next = append(v.next, "To allow it: "+f.labelNamespace())
	}
	if owner := metav1.GetControllerOf(f.pod); owner != nil && owner.Kind == "DaemonSet" {
		return v // its message says what to change
	}
	v.next = append(v.next, fmt.Sprintf("To keep it here: take the toleration of %s from the pod's template, then %s", v1alpha1.TaintVirtualNode, f.kubectl("delete pod", f.pod.Name)))
	return v
}

// judgeLost: the peer does not answer, so all that is known is old.
func judgeLost(f podFacts) *ruling {
	what := fmt.Sprintf("belongs to the peer %s, but ", f.peerName())
	if f.peering == nil {
		return &ruling{text: what + "there is no Peering of that name that borrows",
			next: []string{"The virtual node is a remnant; look at the Peerings: spillway status --context " + f.context}}
	}
	var since string
	if f.node != nil {
		ready := nodeReadiness(f.node)
		if ready != nil && ready.Status == corev1.ConditionTrue {
			return nil
		}
		if ready != nil && !ready.LastTransitionTime.IsZero() {
			since = fmt.Sprintf(" (node %s has not been Ready for %s)", f.node.Name, duration.HumanDuration(f.now.Sub(ready.LastTransitionTime.Time)))
		}
	} else if holds(f.peering, v1alpha1.ConditionNodeReady) {
		return nil
	}
	v := &ruling{text: what + "that is not reachable" + since + "; the pod keeps the state that was last known and may well run on"}
	if f.idle != "" {
		v.text = what + "no spillwayd controller works here" + since + ": " + f.idle
		v.next = []string{f.startController()}
		return v
	}
	why, do := whyNot(f.peering, []string{v1alpha1.ConditionAuthenticated, v1alpha1.ConditionNodeReady})
	v.next = []string{sentence(why) + " " + do}
	if f.pod.DeletionTimestamp != nil {
		v.next = append(v.next, "The pod is being deleted; it goes once the peer is back and its twin has ended.")
	}
	return v
}

func (f podFacts) startController() string {
	return fmt.Sprintf("Pods of peers run on without it, but nothing follows. Look at it: kubectl --context %s -n %s logs deploy/spillwayd",
		f.context, v1alpha1.SystemNamespace)
}

// judgeDeleting: the pod is to end.
func judgeDeleting(f podFacts) *ruling {
	if f.pod.DeletionTimestamp == nil {
		return nil
	}
	v := &ruling{text: "is being deleted; it goes when its twin in the peer " + f.peerName() + " has ended", ok: f.now.Before(f.pod.DeletionTimestamp.Time)}
	if !v.ok {
		v.text += fmt.Sprintf(", which should have been %s ago", duration.HumanDuration(f.now.Sub(f.pod.DeletionTimestamp.Time)))
		v.next = []string{"Look for finalizers here and at the provider, and at the twin's node there."}
	}
	if f.idle != "" {
		v.ok, v.next = false, append(v.next, f.startController())
	}
	return v
}

// judgeIdle: nobody keeps the twin equal.
func judgeIdle(f podFacts) *ruling {
	if f.idle == "" {
		return nil
	}
	return &ruling{text: fmt.Sprintf("belongs to the peer %s, but no spillwayd controller works here: %s", f.peerName(), f.idle),
		next: []string{f.startController()}}
}

// judgeRefused: the provider does not take the twin, or finds no node for it.
func judgeRefused(f podFacts) *ruling {
	c := podCondition(f.pod, conditionOffloaded)
	if c == nil || c.Status != corev1.ConditionFalse {
		return nil
	}
	const again = "Spillway tries again every 30 s."
	peer := f.peerName()
	switch c.Reason {
	case offloadNoRoom:
		return &ruling{text: fmt.Sprintf("has a twin in the peer %s for which the scheduler there finds no node: %s", peer, c.Message),
			next: []string{"Ask the provider which of its nodes have room and which taints they carry; spillway status shows what it offers in all. The twin starts by itself when there is room."}}
	case offloadNameTaken:
		return &ruling{text: fmt.Sprintf("cannot follow to the peer %s: %s", peer, c.Message),
			next: []string{"Somebody made an object of that name in the tenant namespace; let the provider remove it, or rename yours. " + again}}
	}
	return &ruling{text: fmt.Sprintf("was refused by the peer %s: %s", peer, c.Message), next: []string{adviseRefusal(peer, c.Message) + " " + again}}
}

// adviseRefusal says what to do about the words with which an API server refused a pod. They are all that is known of the
// cause, and this is for people.
func adviseRefusal(peer, words string) string {
	switch {
	case strings.Contains(words, "exceeded quota"):
		return fmt.Sprintf("More is asked for than %s lends: end pods there, let them request less, or let the provider share more (spillway peer --share, --share-resources).", peer)
	case strings.Contains(words, "violates PodSecurity"):
		return fmt.Sprintf("Let the pod ask for less (securityContext, host namespaces, volumes), or let the provider allow more: spillway peer --pod-security, now enforced by %s.", peer)
	case strings.Contains(words, "admission webhook"):
		return fmt.Sprintf("A rule of %s forbids such pods: change the pod, or ask the administrators there.", peer)
	}
	return fmt.Sprintf("Change what the words name, or ask the administrators of %s.", peer)
}

// judgeNeeds: a ConfigMap or Secret that the pod cannot start without is missing.
func judgeNeeds(f podFacts) *ruling {
	if podReady(f.pod) {
		return nil
	}
	for _, n := range f.needs {
		what := n.Kind + " " + n.Name
		switch {
		case n.Optional:
		case n.Home == presenceMissing:
			return &ruling{text: "waits for " + what + ", which does not exist in namespace " + f.pod.Namespace,
				next: []string{"Make " + what + ": it follows the pod, which then starts by itself."}}
		case n.Provider == presenceForeign:
			return &ruling{text: fmt.Sprintf("needs %s, but the namespace %s of the provider has another one of that name", what, f.twin.namespace),
				next: []string{"Let the provider remove it, or rename yours."}}
		}
	}
	return nil
}

// judgeContainers: a container waits for a reason.
func judgeContainers(f podFacts) *ruling {
	words := waitingWords(f.pod)
	if words == "" {
		return nil
	}
	next := f.kubectl("logs", f.pod.Name+" --all-containers")
	switch {
	case strings.Contains(words, "ImagePull"), strings.Contains(words, "ErrImage"):
		next = fmt.Sprintf("Check the image's name and that the nodes of %s can pull it; pull Secrets named in the pod follow it.", f.peerName())
	case strings.Contains(words, "CreateContainerConfigError"):
		next = "Mend what the words name: a ConfigMap, a Secret or a key in one."
	}
	return &ruling{text: fmt.Sprintf("is in the peer %s, but not running well: %s", f.peerName(), words), next: []string{next}}
}

// waitingWords says what containers wait for. Empty: for nothing unusual.
func waitingWords(pod *corev1.Pod) string {
	var words []string
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		w := c.State.Waiting
		if w == nil || w.Reason == "" || w.Reason == "ContainerCreating" || w.Reason == "PodInitializing" {
			continue
		}
		text := fmt.Sprintf("container %s waits (%s)", c.Name, w.Reason)
		if w.Message != "" {
			text += ": " + w.Message
		}
		words = append(words, text)
	}
	return strings.Join(words, "; ")
}

// judgeNoTwin: the provider has no twin of the pod.
func judgeNoTwin(f podFacts) *ruling {
	switch {
	case !f.twin.looked || f.twin.why != "" || f.twin.pod != nil:
		return nil
	case f.twin.namespace == "":
		return &ruling{text: fmt.Sprintf("waits for the peer %s to open a namespace for %s", f.peerName(), f.pod.Namespace),
			next: []string{fmt.Sprintf("Wait some seconds; if it stays, look at the Peering there: spillway status --context %s", f.twin.context)}}
	case f.twin.foreign:
		return &ruling{text: fmt.Sprintf("has no twin yet: the pod %s/%s of the provider belongs to another", f.twin.namespace, f.pod.Name),
			next: []string{"The twin of an earlier pod of this name ends first. If the pod there is not Spillway's, let the provider remove it."}}
	}
	return &ruling{text: fmt.Sprintf("has no twin in the peer %s yet", f.peerName()),
		next: []string{fmt.Sprintf("Wait some seconds; if it stays: kubectl --context %s -n %s logs deploy/spillwayd", f.context, v1alpha1.SystemNamespace)}}
}

// judgeRunning: nothing known is in the way.
func judgeRunning(f podFacts) ruling {
	text := "runs in the peer " + f.peerName()
	if f.twin.pod != nil && f.twin.pod.Spec.NodeName != "" {
		text += ", on node " + f.twin.pod.Spec.NodeName + " there"
	}
	switch c := podCondition(f.pod, corev1.PodReady); {
	case podReady(f.pod):
		return ruling{text: text, ok: true}
	case f.pod.Status.Phase != corev1.PodRunning:
		return ruling{text: fmt.Sprintf("is on its way to the peer %s and has not started yet", f.peerName()), ok: true}
	case c != nil && c.Message != "":
		return ruling{text: text + ", but is not Ready: " + c.Message, next: []string{f.kubectl("logs", f.pod.Name+" --all-containers")}}
	}
	return ruling{text: text + ", but is not Ready", next: []string{f.kubectl("logs", f.pod.Name+" --all-containers")}}
}
