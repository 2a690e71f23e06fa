package placement

import (
	"strconv"
	"strings"
)

// oneByOne moves the pods of a StatefulSet: the one with the highest ordinal first, the next one when all are Ready again. There cannot
// be one pod more, since each has a name of its own; and a pod that does not serve is made anew without waiting for the others.
func (v *moveView) oneByOne() ([]Move, bool) {
	owned, ready := v.owned()
	settled := owned == int(v.Replicas) && ready == owned && !v.anyEnding
	if v.need() <= 0 || len(v.leaving) == 0 {
		return nil, settled
	}
	first := v.leaving[0]
	if !settled && (v.anyEnding || Ready(first.Pod)) {
		return nil, false
	}
	return []Move{{Kind: Evict, Pod: first.Pod, Why: v.wish.Why}}, false
}

// ordinal is the number at the end of the name of a StatefulSet's pod; -1: it has none.
func ordinal(name string) int {
	n, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:])
	if err != nil {
		return -1
	}
	return n
}
