package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// The rules for a pod that is bound to a virtual node, in the order of judge.

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
		v.text += ": " + f.whyClosed()
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
	if f.peering == nil && f.peeringsRead {
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
	} else if f.peering != nil && holds(f.peering, v1alpha1.ConditionNodeReady) {
		return nil
	}
	v := &ruling{text: what + "that is not reachable" + since + "; the pod keeps the state that was last known and may well run on"}
	if f.idle != "" {
		v.text = what + "no spillwayd controller works here" + since + ": " + f.idle
		v.next = []string{f.startController()}
		return v
	}
	if after := f.verdict().RecreateAfter; after > 0 {
		v.text += fmt.Sprintf("; OffloadPolicy %s has another made elsewhere once the peer has been silent for %s", f.verdict().Policy, after)
	}
	why, do := whyNot(f.peering, []string{v1alpha1.ConditionAuthenticated, v1alpha1.ConditionNodeReady})
	v.next = []string{sentence(why) + " " + do}
	if f.pod.DeletionTimestamp != nil {
		v.next = append(v.next, "The pod is being deleted; it goes once the peer is back and its twin has ended.")
	}
	return v
}

func (f podFacts) startController() string {
	return fmt.Sprintf("Pods of peers run on without it, but nothing follows. Look at it: kubectl --context %s -n %s logs deploy/spillway-controller",
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
	peer, words := f.peerName(), strings.TrimPrefix(c.Message, f.pod.Spec.NodeName+": ")
	switch c.Reason {
	case offloadNoRoom:
		return &ruling{text: fmt.Sprintf("has a twin in the peer %s for which the scheduler there finds no node: %s", peer, words),
			next: []string{"Ask the provider which of its nodes have room and which taints they carry; spillway status shows what it offers in all. The twin starts by itself when there is room."}}
	case offloadNameTaken:
		return &ruling{text: fmt.Sprintf("cannot follow to the peer %s: %s", peer, words),
			next: []string{"Somebody made an object of that name in the tenant namespace; let the provider remove it, or rename yours. " + again}}
	}
	return &ruling{text: fmt.Sprintf("was refused by the peer %s: %s", peer, words), next: []string{adviseRefusal(peer, words) + " " + again}}
}

// adviseRefusal says what to do about the words with which an API server refused a pod. They are all that is known of the
// cause, and this is for people.
func adviseRefusal(peer, words string) string {
	switch {
	case strings.Contains(words, "exceeded quota"):
		return fmt.Sprintf("More is asked for than %s lends: end pods there, let them request less, or let the provider share more (spillway peer --share, --share-resources).", peer)
	case strings.Contains(words, "violates PodSecurity"):
		return fmt.Sprintf("Let the pod ask for less (securityContext, host namespaces, volumes), or let %s allow more (spillway peer --pod-security).", peer)
	case strings.Contains(words, "admission webhook"):
		return fmt.Sprintf("A rule of %s forbids such pods: change the pod, or ask the administrators there.", peer)
	}
	return fmt.Sprintf("Change what the words name, or ask the administrators of %s.", peer)
}

// judgeNeeds: a ConfigMap, Secret or claim that the pod cannot start without is missing.
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
		case n.Home == presenceThere && n.Provider == presenceMissing && f.twin.pod == nil && n.Kind == kindClaim:
			return &ruling{text: fmt.Sprintf("waits for %s to reach the peer %s", what, f.peerName()),
				next: []string{"Only claims of a class of Spillway's follow, to the peer where their first pod landed; see what its Events say: " +
					f.kubectl("describe pvc", n.Name)}}
		case n.Home == presenceThere && n.Provider == presenceMissing && f.twin.pod == nil:
			return &ruling{text: fmt.Sprintf("waits for %s to reach the peer %s", what, f.peerName()),
				next: []string{"Wait some seconds. Tokens of ServiceAccounts (type kubernetes.io/service-account-token) never leave the cluster: do not mount them."}}
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
		next: []string{fmt.Sprintf("Wait some seconds; if it stays: kubectl --context %s -n %s logs deploy/spillway-controller", f.context, v1alpha1.SystemNamespace)}}
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
		return f.starting()
	case c != nil && c.Message != "":
		return ruling{text: text + ", but is not Ready: " + c.Message, next: []string{f.kubectl("logs", f.pod.Name+" --all-containers")}}
	}
	return ruling{text: text + ", but is not Ready", next: []string{f.kubectl("logs", f.pod.Name+" --all-containers")}}
}

// startPatience is how long a pod may be on its way before that is worth a word: large images take about as long.
const startPatience = 2 * time.Minute

// starting is the ruling on a pod that the peer has taken and that has not started.
func (f podFacts) starting() ruling {
	v := ruling{text: fmt.Sprintf("is on its way to the peer %s and has not started yet", f.peerName()), ok: true}
	began := f.pod.CreationTimestamp
	if c := podCondition(f.pod, corev1.PodScheduled); c != nil && !c.LastTransitionTime.IsZero() {
		began = c.LastTransitionTime
	}
	if age := f.now.Sub(began.Time); !began.IsZero() && age > startPatience {
		v.ok = false
		v.text += fmt.Sprintf(", %s after it was bound", duration.HumanDuration(age))
		v.next = []string{"What was said last, below, may tell what its start waits for."}
		if !f.twin.looked {
			v.next = append(v.next, "The provider's own words show with --remote-context.")
		}
	}
	return v
}
