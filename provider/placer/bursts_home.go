package placer

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/provider/placement"
)

// defaultAtOnce is how many pods of a policy are on their way home at once when it does not say.
const defaultAtOnce = 5

// homecoming is which pods of one workload come home.
type homecoming struct {
	workload  placement.Workload
	decisions map[types.UID]placement.Decision
	wish      placement.Wish
}

// comeHome takes pods home, each as its controller allows: Next says which of them can go now. The rest is decided again.
func (b *bursts) comeHome(ctx context.Context, g *gathered, decisions []placement.Decision, w *wakeup) {
	for _, h := range b.homecomings(g, decisions) {
		moves, _ := b.next(h.workload, h.wish, w.now)
		for _, m := range moves {
			if d, ok := h.decisions[m.Pod.UID]; ok {
				b.move(ctx, m, d, w)
			}
		}
		w.in(refusedRetry) // those that wait for others of their workload
	}
}

// homecomings groups decisions by workload, in their order.
func (b *bursts) homecomings(g *gathered, decisions []placement.Decision) []*homecoming {
	var out []*homecoming
	byName, atOnce := map[string]*homecoming{}, g.atOnce(decisions)
	for _, d := range decisions {
		workload, ok := b.caches.Of(d.Pod)
		if !ok {
			continue // its controller is gone by now
		}
		key := workload.Namespace + "/" + workload.Kind + "/" + workload.Name
		h := byName[key]
		if h == nil {
			h = &homecoming{workload: workload, decisions: map[types.UID]placement.Decision{}, wish: placement.Wish{
				To: placement.Home, Count: int(workload.Replicas), AtOnce: atOnce[d.Pod.UID], Why: d.Message,
			}}
			byName[key] = h
			out = append(out, h)
		}
		h.decisions[d.Pod.UID] = d
		h.wish.Only = append(h.wish.Only, d.Pod.UID)
	}
	return out
}

// atOnce is how many pods may be on their way home at once, by the policies of those that come home.
func (g *gathered) atOnce(decisions []placement.Decision) map[types.UID]int {
	most := make(map[types.UID]int, len(decisions))
	for _, d := range decisions {
		most[d.Pod.UID] = defaultAtOnce
	}
	for _, p := range g.input.Pods {
		if _, comes := most[p.UID]; !comes || p.Policy < 0 {
			continue
		}
		if n := g.input.Policies[p.Policy].Burst.ComeHome.MaxConcurrent; n != nil {
			most[p.UID] = max(1, int(*n))
		}
	}
	return most
}

// noting is the Mover of a sweep: what it has ended is not looked at again before the caches show it.
type noting struct{ *bursts }

func (n noting) Move(ctx context.Context, m placement.Move) (refused bool, err error) {
	refused, err = n.mover.Move(ctx, m)
	moved(m.Kind, becauseLeft, refused, err)
	if !refused && err == nil {
		n.wrote[m.Pod.UID] = write{m.Pod.ResourceVersion, n.cfg.Clock.Now()}
	}
	return refused, err
}

// move has a pod moved; the Mover tells why.
func (b *bursts) move(ctx context.Context, m placement.Move, d placement.Decision, w *wakeup) {
	m.Why = d.Message
	if m.Moving != nil {
		moving := *m.Moving
		moving.Why, m.Moving = d.Message, &moving
	}
	refused, err := b.mover.Move(ctx, m)
	moved(m.Kind, becauseHome, refused, err)
	if refused && err == nil {
		b.later[m.Pod.UID] = w.now.Add(refusedRetry)
		w.in(refusedRetry)
		return
	}
	b.done(ctx, m.Pod, "pod not taken home", err)
}
