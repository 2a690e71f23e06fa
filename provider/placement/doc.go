// Package placement decides where pods go: which overflow to a peer and which come home (Decide), and which of a workload's pods
// move next (Next). It is pure: everything it goes by is an argument, the time too, and the order of what it is given does not matter.
// Package placer gathers and applies.
package placement

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Home is the place of this cluster's own nodes. Every other place is the name of a peer.
const Home = ""

// Input is a cluster at one moment. Nothing in it is changed or kept.
type Input struct {
	Now      time.Time
	Nodes    []*corev1.Node // own ones and virtual ones (label spillway.dev/peer)
	Pods     []Pod          // all that count on any node, or want one; ended pods may be left out
	Policies []Policy       // those with when: Burst
	History  History        // as the last Decide returned it; zero after a start
}

// Pod is a pod and what was found out about it once.
type Pod struct {
	*corev1.Pod
	// Requests are what the scheduler counts for it (k8s.io/component-helpers/resource.PodRequests).
	Requests corev1.ResourceList
	// Policy is the index, in Input.Policies, of the one that governs it; -1: none with when: Burst.
	Policy int
	// ScaleUpRefused: a cluster autoscaler has said that it adds no node for the pod.
	ScaleUpRefused bool
	// Movable: a controller makes another one when it goes, wherever the scheduler likes: of a ReplicaSet or StatefulSet.
	Movable bool
	// Settled: its controller has all its pods Ready, so that one may go.
	Settled bool
	// Migrating: a Migration says where it goes. It counts, and nothing is decided about it.
	Migrating bool
}

// Policy is an OffloadPolicy with when: Burst.
type Policy struct {
	Namespace, Name string
	Burst           v1alpha1.Burst // as written; the defaults are this package's
	Peers           []Peer         // where its pods may go, in the order of spec.peers; each peer once
	// Repatriate is the time of the last wish that pods come home at once; zero: none.
	Repatriate time.Time
}

// Peer is a peer as one policy sees it.
type Peer struct {
	Name        string
	Weight      int32               // at least 1
	MaxPods     *int32              // nil: no limit
	MaxRequests corev1.ResourceList // what is not named has no limit
}

// Action is what happens to a pod.
type Action string

// What happens to a pod.
const (
	// Overflow lets a pod onto the virtual nodes of a peer, and keeps a gated one from home.
	Overflow Action = "Overflow"
	// Admit opens the gate of a pod that stays at home.
	Admit Action = "Admit"
	// ComeHome takes a pod from its peer, since there is room at home.
	ComeHome Action = "ComeHome"
	// Wait leaves a pod that would overflow unschedulable, for a reason that people should know.
	Wait Action = "Wait"
)

// Decision is about one pod.
type Decision struct {
	Pod    *corev1.Pod
	Action Action
	Peer   string // where it goes (Overflow) or comes from (ComeHome)
	// Reason is one CamelCase word, for Events; Message a sentence with the figures it was decided by.
	Reason, Message string
}

// History is what Decide has to remember. It is opaque to others; plain values, no pointers into the input. A zero History waits for
// stabilization anew.
type History struct {
	// Room has, for each policy by namespace/name that has pods away, how many of them could have come home, oldest first.
	Room map[string][]Sample
	// Returned has, by the same names, what became of those that did.
	Returned map[string]Return
}

// Return is when pods of a policy came home, and whether they stayed.
type Return struct {
	// Last is when pods were last told to come home; zero once it is known that home had no room for all of them.
	Last time.Time
	// Failed is how often in a row there was none. Each time doubles the time that there has to be room.
	Failed int
}

// Sample is how many pods could have come home at any time since At. In a History the counts rise: what had room for more pods for
// a shorter time stands after what had room for fewer for longer, and the last is what there is now.
type Sample struct {
	At    time.Time
	Count int
}

// Outcome is what to do and when to look again.
type Outcome struct {
	Decisions []Decision // in the order in which they are to be applied
	Policies  []State    // one for each of Input.Policies, in their order
	History   History
	// Next is when to decide again although nothing has changed; zero: only then.
	Next time.Time
}

// State is what a policy's status says.
type State struct {
	Home    int            // its pods at home
	Peers   map[string]int // its pods by peer, those on their way too
	Pending int            // those that have no place yet
	Waiting string         // why some of them stay pending; empty: none does
	// Returning are pods on their way home; Returnable those that could come home now; Held says why none does; empty: some do, or there is none.
	Returning, Returnable int
	Held                  string
}
