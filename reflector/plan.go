package reflector

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// stepKind is what to do next about one local pod and its twin. At most one API write belongs to each.
type stepKind string

const (
	stepNone        stepKind = "none"         // nothing differs, or something else must happen first
	stepCreate      stepKind = "create"       // make the twin
	stepPatch       stepKind = "patch"        // carry a mutable field to the twin
	stepDeleteTwin  stepKind = "delete twin"  // ask the provider to end the twin
	stepSetStatus   stepKind = "set status"   // write the local pod's status
	stepDeleteLocal stepKind = "delete local" // remove the local object, its containers have ended
	stepHold        stepKind = "hold"         // keep the taint manager off the local pod while the peer is lost
)

// step is the one next step of a pod.
type step struct {
	kind stepKind

	twin        *corev1.Pod   // create: the object to make
	patch       []byte        // patch, set status, hold: what to send
	subresource string        // patch: where to send it; empty for the pod itself
	grace       time.Duration // delete twin: how long its containers may take to end
	reason      string        // set status, delete local: of the Event that goes with it; empty for none
	message     string        // set status, delete local: of that Event
	err         error         // none: why nothing can be done; a fault of ours, worth a log line
	again       time.Duration // none: when to look again; 0: not by time

	// proveTwinGone (with create, set status, delete local): the cache lacks a twin that may have run. A live read must
	// confirm that before the step is done, because a cache can be behind.
	proveTwinGone bool
	// proveLocalGone (with delete twin): a live read must confirm that the local pod with this UID is gone.
	proveLocalGone types.UID
}

// planEnv is what a plan depends on beside the two pods. Plain values.
type planEnv struct {
	translate.Env

	now time.Time
	// refusal says why this pod may not leave the cluster; empty when it may.
	refusal string
	// waitFor names a ConfigMap, Secret or claim that must reach the provider before the twin is made; empty when none.
	waitFor string
	// taken says why a ConfigMap, Secret or claim of the pod cannot follow it; empty when all can.
	taken string
	// twinSeenGone: the twin of this very local pod was seen to be deleted.
	twinSeenGone bool
	// recreateIn: after this time without the peer the pod is removed, so that another is made elsewhere; below zero: now.
	// Zero: never.
	recreateIn time.Duration
	// peerLost: the peer has not answered for longer than the node's hysteresis.
	peerLost bool
}

// forcedGrace is how long the containers of a twin may take to end once its local pod no longer exists: what a kubelet
// grants a pod that was removed by force.
const forcedGrace = time.Second

// removalTakes is how long a home API server may take to remove an object that nothing keeps any more.
const removalTakes = 5 * time.Second

// Reasons of the condition on a local pod that has no twin.
const (
	reasonNotAllowed = "OffloadNotAllowed"   // it may not leave the cluster
	reasonRefused    = "RefusedByProvider"   // the provider does not take the twin
	reasonNameTaken  = "NameTakenAtProvider" // an object of that name is there already and is not ours
	reasonRecreated  = "PeerLost"            // its peer is silent for longer than its policy bears; of an Event only
)

// plan decides the one next step for a local pod and its twin. Either may be nil. The twin, when not nil, carries our
// origin label: objects of others are invisible here. It never changes its arguments.
func plan(local, twin *corev1.Pod, env planEnv) step {
	switch {
	case local == nil && twin == nil:
		return step{kind: stepNone}
	case local == nil:
		return endOrphan(twin)
	case twin != nil && originUID(twin) != local.UID:
		// The twin of an earlier pod of the same name, or of a later one that the cache does not show yet.
		return endOrphan(twin)
	case env.recreateIn < 0 && !terminal(local):
		return recreate(local, env.now)
	case local.DeletionTimestamp != nil:
		return planDeleting(local, twin, env)
	case terminal(local):
		return planTerminal(local, twin, env)
	case twin == nil:
		return planAbsent(local, env)
	default:
		return planPresent(local, twin, env)
	}
}

// endOrphan ends a twin whose local pod is not in the cache.
func endOrphan(twin *corev1.Pod) step {
	s := endTwin(twin, forcedGrace)
	if s.kind == stepDeleteTwin {
		s.proveLocalGone = originUID(twin)
	}
	return s
}

// endTwin deletes the twin unless its deletion with this grace, or less, is already under way.
func endTwin(twin *corev1.Pod, grace time.Duration) step {
	if twin.DeletionTimestamp != nil && twin.DeletionGracePeriodSeconds != nil &&
		*twin.DeletionGracePeriodSeconds <= int64(grace.Seconds()) {
		return step{kind: stepNone}
	}
	return step{kind: stepDeleteTwin, grace: grace}
}

// planDeleting: the local pod is to end. Its object goes only when the containers have.
func planDeleting(local, twin *corev1.Pod, env planEnv) step {
	if twin == nil {
		return deleteLocal(local, !env.twinSeenGone, env.now)
	}
	if twin.DeletionTimestamp != nil && terminal(twin) {
		return deleteLocal(local, false, env.now)
	}
	grace := remainingGrace(local, env.now)
	if twin.DeletionTimestamp == nil || shortened(local, twin) {
		return step{kind: stepDeleteTwin, grace: grace}
	}
	return step{kind: stepNone}
}

// deleteLocal removes the local object. With a grace period of 0 the API server has been asked to already: it is about to, or
// somebody's finalizer keeps the object. It does so in two writes, and who asked may have gone between them, killed for example:
// then nobody removes the object, and asking again does (BeforeDelete in k8s.io/apiserver/pkg/registry/rest).
func deleteLocal(local *corev1.Pod, proveTwinGone bool, now time.Time) step {
	if ptrOr(local.DeletionGracePeriodSeconds, 1) == 0 {
		if len(local.Finalizers) > 0 {
			return step{kind: stepNone}
		}
		if wait := local.DeletionTimestamp.Add(removalTakes).Sub(now); wait > 0 {
			return step{kind: stepNone, again: wait}
		}
	}
	return step{kind: stepDeleteLocal, proveTwinGone: proveTwinGone}
}

// remainingGrace is what is left of the local pod's grace period, in whole seconds and at least one: zero would remove
// the twin from the provider's API before its containers have ended. It is rounded up, since the API cuts the fraction of a
// second off the deletionTimestamp: the twin of a pod that was just deleted gets all of its grace.
func remainingGrace(local *corev1.Pod, now time.Time) time.Duration {
	left := (local.DeletionTimestamp.Sub(now) + time.Second - 1).Truncate(time.Second)
	return max(left, forcedGrace)
}

// shortened says that the user asked again, with less patience than the twin was given.
func shortened(local, twin *corev1.Pod) bool {
	l, t := local.DeletionGracePeriodSeconds, twin.DeletionGracePeriodSeconds
	return l != nil && t != nil && max(*l, 1) < *t &&
		local.DeletionTimestamp.Add(time.Second).Before(twin.DeletionTimestamp.Time)
}

// planTerminal: the local pod has ended for good. A finished twin stays for its logs until the local object goes. Its kubelet
// may say that a pod has failed, past its deadline for example, before the containers have ended: how they did follows.
func planTerminal(local, twin *corev1.Pod, env planEnv) step {
	if twin == nil {
		return step{kind: stepNone}
	}
	if terminal(twin) {
		return setStatus(local, translate.PodStatus(local, twin, env.Env))
	}
	return endTwin(twin, time.Duration(ptrOr(twin.Spec.TerminationGracePeriodSeconds, 30))*time.Second)
}

// planAbsent: the local pod should run and there is no twin.
func planAbsent(local *corev1.Pod, env planEnv) step {
	if started(local) && local.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		s := setStatus(local, translate.Gone(local, metav1.NewTime(env.now)))
		s.proveTwinGone = !env.twinSeenGone
		return s
	}
	if env.refusal != "" {
		return refuse(local, reasonNotAllowed, env.refusal, env.now)
	}
	if env.peerLost {
		return planLost(local)
	}
	if env.taken != "" {
		return refuse(local, reasonNameTaken, env.taken, env.now)
	}
	if env.waitFor != "" {
		return step{kind: stepNone}
	}
	return step{kind: stepCreate, twin: translate.Twin(local, env.Env)}
}

// planPresent: both exist and both should.
func planPresent(local, twin *corev1.Pod, env planEnv) step {
	if env.peerLost {
		return planLost(local)
	}
	if twin.DeletionTimestamp != nil {
		// Somebody at the provider ends the twin. How its containers end says nothing of the local pod, unless they
		// had come to their own end before.
		if twin.Status.Phase != corev1.PodSucceeded || local.Spec.RestartPolicy == corev1.RestartPolicyAlways {
			return step{kind: stepNone}
		}
	} else if patch, subresource, err := translate.Drift(local, twin, env.Env); err != nil {
		return step{kind: stepNone, err: err}
	} else if patch != nil {
		return step{kind: stepPatch, patch: patch, subresource: subresource}
	}
	return setStatus(local, translate.PodStatus(local, twin, env.Env))
}

// planLost: the peer does not answer. Everything stays as it is; only the pod's patience with its node is made
// endless, once, or the taint manager would delete it after five minutes.
func planLost(local *corev1.Pod) step {
	patch, err := holdPatch(local)
	if patch == nil {
		return step{kind: stepNone, err: err}
	}
	return step{kind: stepHold, patch: patch}
}

// recreate removes the object of a pod whose peer does not answer, so that its controller makes another. Its twin, if it still
// runs, is an orphan, and ends when the peer answers again.
func recreate(local *corev1.Pod, now time.Time) step {
	s := deleteLocal(local, false, now)
	s.reason, s.message = reasonRecreated, "the peer does not answer; another pod is made elsewhere, as the OffloadPolicy says"
	return s
}

// refuse shows the user why the pod does not run.
func refuse(local *corev1.Pod, reason, message string, now time.Time) step {
	s := setStatus(local, translate.Refused(local, reason, message, metav1.NewTime(now)))
	s.reason, s.message = reason, message
	return s
}

func setStatus(local *corev1.Pod, status corev1.PodStatus) step {
	patch, err := translate.StatusPatch(local, status)
	if patch == nil {
		return step{kind: stepNone, err: err}
	}
	return step{kind: stepSetStatus, patch: patch}
}

// started says that a twin of this pod has run: only then can its absence mean that it vanished.
func started(local *corev1.Pod) bool {
	if local.Status.Phase == corev1.PodRunning {
		return true
	}
	for _, list := range [][]corev1.ContainerStatus{local.Status.InitContainerStatuses, local.Status.ContainerStatuses} {
		for _, c := range list {
			if c.ContainerID != "" {
				return true
			}
		}
	}
	return false
}

// terminal says that the pod has ended for good.
func terminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// settled says that a twin's status is worth writing at once; others are held a moment, since the next change usually
// follows within milliseconds.
func settled(twin *corev1.Pod) bool {
	if terminal(twin) || twin.DeletionTimestamp != nil {
		return true
	}
	for _, c := range twin.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func originUID(twin metav1.Object) types.UID {
	return types.UID(twin.GetAnnotations()[translate.AnnotationOriginUID])
}

func ptrOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
