package placement

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// MovingSuffix is what a Release puts behind a pod's label pod-template-hash, so that the selector of its ReplicaSet no longer has it.
const MovingSuffix = "-moving"

// Moving is what AnnotationMoving says of a pod that its controller was made to let go of, as JSON.
type Moving struct {
	// Controller is the name of the ReplicaSet that had it, Hash its label pod-template-hash.
	Controller string `json:"controller"`
	Hash       string `json:"hash"`
	// To is where its replacement goes; Home is empty.
	To string `json:"to"`
	// Why it moves, a sentence.
	Why string `json:"why"`
	// At is when it was let go of.
	At time.Time `json:"at"`
}

// Member is a pod of a workload, or one that the workload was made to let go of.
type Member struct {
	*corev1.Pod
	// Place where it runs, or is sent to; a pending pod that was sent nowhere is at Home.
	Place string
}

// Workload is a Deployment, StatefulSet or ReplicaSet and its pods. Ended pods are left out.
type Workload struct {
	Namespace, Kind, Name string
	Replicas              int32
	// NoSurge says that there must not be one pod more while one moves (strategy Recreate), or that the selector has no
	// pod-template-hash, so that a ReplicaSet cannot be made to let go of a pod.
	NoSurge bool
	Members []Member
}

// Wish is what a workload's pods should become.
type Wish struct {
	// To is the place that pods go to, from everywhere else.
	To string
	// Count is how many pods should be at To; more than there are: all. It never makes pods leave To.
	Count int
	// Only, when not nil, are the UIDs of the pods that may leave, best first.
	Only []types.UID
	// AtOnce is how many may be on their way; at least 1.
	AtOnce int
	// Why they move, a sentence.
	Why string
}

// MoveKind is how a pod moves.
type MoveKind string

// How a pod moves.
const (
	// Release makes a ReplicaSet let go of a pod, which makes it create another one while this one still serves (surge).
	Release MoveKind = "Release"
	// Evict ends a pod through the Eviction API, if it is as it was seen: as Ready, and let go of or not. A cache may be late.
	Evict MoveKind = "Evict"
	// Restore gives a released pod back to its ReplicaSet.
	Restore MoveKind = "Restore"
)

// Move is the next step of one pod.
type Move struct {
	Kind   MoveKind
	Pod    *corev1.Pod
	Moving *Moving // with Release: what to write on it
	// Instead, with Restore, is the pod that the ReplicaSet should end, having one too many; nil: none has to go.
	Instead *corev1.Pod
	// Why is a sentence, for the Event.
	Why string
}

// Next says which moves bring a workload nearer to a wish, never taking its Ready pods below its replicas where it can be helped. No
// move: everything is as wished, or on its way. done says that it is as wished and Ready.
//
// It remembers nothing. Which pods are on their way is read from the pods, so that another process goes on where one was killed; and the
// same pods give the same moves, so that a cache which is late has a move asked for twice, not another one too.
func Next(w Workload, wish Wish, now time.Time) (moves []Move, done bool) {
	v := lookAt(w, wish, now)
	if w.Kind == kindStatefulSet {
		return v.oneByOne()
	}
	return v.surge()
}

// Leftovers are the moves that end pods which their controller was made to let go of, once it has all its pods Ready again. It is for
// workloads of which nothing is wished any more. It asks for more than Next does, so that it does no harm where somebody has a wish after
// all; but it may end a pod that Next would give back.
func Leftovers(w Workload) []Move {
	v := lookAt(w, Wish{}, time.Time{})
	if _, ready := v.owned(); ready < int(w.Replicas) {
		v.released = slices.DeleteFunc(v.released, func(m Member) bool { return Ready(m.Pod) })
	}
	return v.finish()
}

const kindStatefulSet = "StatefulSet"
