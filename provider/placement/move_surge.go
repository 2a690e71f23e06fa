package placement

import (
	"encoding/json"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// surge moves the pods of ReplicaSets, which make another pod for each that goes: first another one, then this one goes.
func (v *moveView) surge() ([]Move, bool) {
	hash, one := v.template()
	if v.Replicas == 0 || !one {
		return v.finish(), v.Replicas == 0 && len(v.released) == 0
	}
	moves := slices.Concat(v.restore(hash), v.finish(), v.leave())
	owned, ready := v.owned()
	asWished := v.need() <= 0 || len(v.leaving) == 0
	return moves, len(moves) == 0 && asWished && len(v.released) == 0 && owned == int(v.Replicas) && ready == owned
}

// restore gives back pods that were let go of and are where they should be after all, each for another one. The ReplicaSet then has one too
// many and ends one, of its own accord: so there are never fewer Ready pods than without it.
func (v *moveView) restore(hash string) []Move {
	var moves []Move
	kept := v.released[:0:0]
	for _, m := range v.released {
		mine := m.Labels[appsv1.DefaultDeploymentUniqueLabelKey] == hash+MovingSuffix
		if !mine || m.Place != v.wish.To || !Ready(m.Pod) || countReady(v.arrived) >= v.want() {
			kept = append(kept, m)
			continue
		}
		instead, ok := v.giveUp()
		if !ok {
			kept = append(kept, m)
			continue
		}
		moves = append(moves, Move{Kind: Restore, Pod: m.Pod, Instead: instead, Why: "It stays where it is. " + v.wish.Why})
		v.arrived = append(v.arrived, m)
	}
	v.released = kept
	return moves
}

// giveUp takes away the pod that a ReplicaSet ends when it has one too many: what is not made yet or not placed yet goes without help, then
// what is not Ready, where it should be too, since a pod that serves there is better; then what costs least.
func (v *moveView) giveUp() (instead *corev1.Pod, ok bool) {
	owned, _ := v.owned()
	starting := slices.IndexFunc(v.arrived, func(m Member) bool { return !Ready(m.Pod) })
	switch {
	case owned < int(v.Replicas):
		return nil, true
	case len(v.unplaced) > 0:
		v.unplaced = v.unplaced[1:]
		return nil, true
	case starting >= 0 && (len(v.leaving) == 0 || Ready(v.leaving[0].Pod)):
		instead = v.arrived[starting].Pod
		v.arrived = slices.Delete(slices.Clone(v.arrived), starting, starting+1)
		return instead, true
	case len(v.leaving) > 0:
		instead = v.leaving[0].Pod
		v.leaving = v.leaving[1:]
		return instead, true
	}
	return nil, false
}

// finish ends pods that were let go of: those that serve nobody, and as many of the others as there are Ready pods too many. Counting
// them all, and not only the controller's, makes it right also while a cache does not know yet that a pod was let go of.
func (v *moveView) finish() []Move {
	_, ready := v.owned()
	tooMany := min(ready, int(v.Replicas)) + countReady(v.released) - int(v.Replicas)
	var moves []Move
	for _, m := range v.released {
		if Ready(m.Pod) {
			if tooMany <= 0 {
				continue
			}
			tooMany--
		}
		moves = append(moves, Move{Kind: Evict, Pod: m.Pod, Why: "The others do without it now. " + whyMoving(m)})
	}
	return moves
}

// leave takes pods away from where they are, as many as may be on their way. A pod that moves is one that goes until it has ended, and
// one that comes until the one instead of it is Ready: the two overlap, so the greater number is how many there are.
func (v *moveView) leave() []Move {
	_, ready := v.owned()
	need, atOnce := v.need(), max(1, v.wish.AtOnce)
	coming := int(v.Replicas) - ready
	going, ending := len(v.released)+v.ending, v.ending
	var moves []Move
	for _, m := range v.leaving {
		switch {
		case need <= 0:
			return moves
		case !Ready(m.Pod): // one that comes, to the wrong place: nobody misses it
			if ending >= atOnce {
				continue
			}
			ending++
			moves = append(moves, Move{Kind: Evict, Pod: m.Pod, Why: v.wish.Why})
		case max(going, coming) >= atOnce:
			return moves
		default:
			moves = append(moves, v.away(m))
		}
		going++
		need--
	}
	return moves
}

// away is the move of a Ready pod.
func (v *moveView) away(m Member) Move {
	hash := m.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	if v.NoSurge || hash == "" {
		return Move{Kind: Evict, Pod: m.Pod, Why: v.wish.Why}
	}
	moving := &Moving{Hash: hash, To: v.wish.To, Why: v.wish.Why, At: v.now}
	for _, owner := range m.OwnerReferences {
		if owner.Controller != nil && *owner.Controller {
			moving.Controller = owner.Name
		}
	}
	return Move{Kind: Release, Pod: m.Pod, Moving: moving, Why: v.wish.Why}
}

// whyMoving is what was written on a pod when it was let go of.
func whyMoving(m Member) string {
	var moving Moving
	if err := json.Unmarshal([]byte(m.Annotations[v1alpha1.AnnotationMoving]), &moving); err != nil {
		return ""
	}
	return moving.Why
}
