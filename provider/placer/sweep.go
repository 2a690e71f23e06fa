package placer

import (
	"context"
	"errors"

	"github.com/spillway-dev/spillway/provider/placement"
)

// Sweep ends pods that were let go of, of workloads of which nothing is wished any more: as soon as their ReplicaSet has its Ready pods
// again, or when it is gone. wished says that somebody has a wish for a workload, and takes care of its pods himself; nil: nobody has. refused
// says that a PodDisruptionBudget does not allow all of it now. It must not be called before caches are synced.
func Sweep(ctx context.Context, caches *Caches, m Mover, wished func(placement.Workload) bool) (refused bool, err error) {
	type name struct{ namespace, kind, name string }
	seen := map[name]bool{}
	var failed []error
	do := func(moves ...placement.Move) {
		for _, move := range moves {
			no, err := m.Move(ctx, move)
			refused = refused || no
			failed = append(failed, err)
		}
	}
	for _, pod := range caches.pods.Index(indexMoving, "") {
		w, ok := caches.Of(pod)
		key := name{w.Namespace, w.Kind, w.Name}
		switch {
		case pod.DeletionTimestamp != nil:
		case !ok:
			do(placement.Move{Kind: placement.Evict, Pod: pod, Why: "Its controller is gone."})
		case seen[key] || wished != nil && wished(w):
		default:
			seen[key] = true
			do(placement.Leftovers(w)...)
		}
	}
	return refused, errors.Join(failed...)
}
