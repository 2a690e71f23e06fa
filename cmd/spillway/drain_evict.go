package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// evictAgain is the pause before a pod whose budget did not let it go is asked for again; kubectl drain waits 5 s, but nothing
	// here is in its way for so long, and the API server answers such a question from its cache.
	evictAgain = 2 * time.Second

	// lookAgainEvery is how often it is looked for pods whose pause is over.
	lookAgainEvery = 500 * time.Millisecond
)

// present are the pods that are still there, by UID.
type present map[types.UID]*corev1.Pod

// evictions are the pods that are to go, and how far each is. It knows no client and no clock.
type evictions struct {
	all    []*corev1.Pod
	asked  map[types.UID]bool      // evicted, and still there
	after  map[types.UID]time.Time // when to ask again
	held   map[types.UID]string    // what holds them
	active map[types.UID]bool      // still there
}

func newEvictions(pods []*corev1.Pod) *evictions {
	e := &evictions{all: pods, asked: map[types.UID]bool{}, after: map[types.UID]time.Time{}, held: map[types.UID]string{}, active: map[types.UID]bool{}}
	for _, pod := range pods {
		e.active[pod.UID] = true
	}
	return e
}

// see takes note of which pods are still there, and returns how many are gone.
func (e *evictions) see(here present) (gone int) {
	for _, pod := range e.all {
		now, there := here[pod.UID]
		if !there {
			delete(e.active, pod.UID)
			delete(e.asked, pod.UID)
			delete(e.held, pod.UID)
			gone++
		} else if now.DeletionTimestamp != nil {
			e.went(pod.UID)
		}
	}
	return gone
}

// went notes that a pod has been let go, and is on its way.
func (e *evictions) went(uid types.UID) {
	e.asked[uid] = true
	delete(e.held, uid)
}

// heldBy notes that a pod may not go before its budget allows it.
func (e *evictions) heldBy(uid types.UID, what string, again time.Time) {
	e.held[uid], e.after[uid] = what, again
}

// next are the pods to ask for now, so that at most this many are on their way. Those that were not asked for, or longest ago, come
// first: many that are held do not keep others waiting.
func (e *evictions) next(now time.Time, most int) []*corev1.Pod {
	var list []*corev1.Pod
	for _, pod := range e.all {
		if e.active[pod.UID] && !e.asked[pod.UID] && !now.Before(e.after[pod.UID]) {
			list = append(list, pod)
		}
	}
	slices.SortStableFunc(list, func(a, b *corev1.Pod) int { return e.after[a.UID].Compare(e.after[b.UID]) })
	return list[:min(len(list), max(0, most-len(e.asked)))]
}

// words say how far it is: 12 of 40 gone; 3 wait for budget web-pdb.
func (e *evictions) words() string {
	parts := []string{fmt.Sprintf("%d of %d gone", len(e.all)-len(e.active), len(e.all))}
	if len(e.asked) > 0 {
		parts = append(parts, fmt.Sprintf("%d on their way", len(e.asked)))
	}
	counts := map[string]int{}
	for _, what := range e.held {
		counts[what]++
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		verb := "wait"
		if counts[what] == 1 {
			verb = "waits"
		}
		parts = append(parts, fmt.Sprintf("%d %s for %s", counts[what], verb, what))
	}
	return strings.Join(parts, "; ")
}

// left names the pods that are still there.
func (e *evictions) left() []string {
	var names []string
	for _, pod := range e.all {
		if e.active[pod.UID] {
			names = append(names, pod.Namespace+"/"+pod.Name)
		}
	}
	return names
}

// evictAll evicts the pods of the plan, some at a time, until all are gone.
func (d *drainRun) evictAll(ctx context.Context) (string, error) {
	e := newEvictions(d.plan.evict)
	watching, stop := context.WithCancel(ctx)
	news, broken := make(chan present, 1), make(chan error, 1)
	var group sync.WaitGroup
	group.Go(func() { broken <- d.watchPods(watching, news) })
	defer func() {
		stop()
		d.left = e.left()
		group.Wait()
	}()
	again := time.NewTicker(lookAgainEvery)
	defer again.Stop()
	var here present
	for {
		select {
		case <-ctx.Done():
			return "", d.late(ctx, e.words())
		case err := <-broken:
			if err == nil {
				err = d.late(ctx, e.words())
			}
			return "", err
		case here = <-news:
		case <-again.C:
		}
		if here == nil {
			continue
		}
		if d.gone = e.see(here); d.gone == len(e.all) {
			return plural(d.gone, "pod") + " went", nil
		}
		for _, pod := range e.next(time.Now(), d.wish.maxConcurrent) {
			if err := d.evict(ctx, e, pod); err != nil {
				return "", err
			}
		}
		d.steps.progress("%s", e.words())
	}
}

// evict asks for one pod through the Eviction API.
func (d *drainRun) evict(ctx context.Context, e *evictions, pod *corev1.Pod) error {
	err := d.home.kube.CoreV1().Pods(pod.Namespace).EvictV1(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))},
	})
	switch {
	case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err): // the watch tells when it is gone; of that name there is another
		d.steps.changed = true
		e.went(pod.UID)
	case apierrors.IsTooManyRequests(err):
		e.heldBy(pod.UID, "budget "+d.facts.budgetOf(pod), time.Now().Add(evictAgain))
	case apierrors.IsInternalError(err): // two budgets hold it, which the API server refuses to weigh
		e.heldBy(pod.UID, "somebody to mend "+d.facts.budgetOf(pod)+" ("+serverWords(err)+")", time.Now().Add(evictAgain))
	case ctx.Err() != nil, pastDeadline(ctx):
		return d.late(ctx, e.words())
	default:
		return explain(d.home, fmt.Sprintf("evict pod %s/%s", pod.Namespace, pod.Name), err)
	}
	return nil
}

// pastDeadline says that time is up: a client's rate limiter knows it a moment before ctx does, and has an error of its own for it.
func pastDeadline(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

// watchPods tells which pods are on the peer's nodes until ctx ends; the latest news only.
func (d *drainRun) watchPods(ctx context.Context, news chan present) error {
	where := metav1.ListOptions{}
	if len(d.nodes) == 1 {
		where = onNode(d.nodes[0].Name)
	}
	err := follow(ctx, podsOf(d.home), where, func(pods map[string]*corev1.Pod) bool {
		now := present{}
		for _, pod := range pods {
			if slices.ContainsFunc(d.nodes, func(n corev1.Node) bool { return n.Name == pod.Spec.NodeName }) {
				now[pod.UID] = pod
			}
		}
		select {
		case <-news: // nobody has read it
		default:
		}
		news <- now
		return false
	})
	if ctx.Err() != nil {
		return nil
	}
	return explain(d.home, "watch pods", err)
}

// late says how far a drain came that did not end.
func (d *drainRun) late(ctx context.Context, words string) error {
	do := fmt.Sprintf("The peer stays closed for new pods. Go on: spillway drain %s --timeout 30m. Open it: spillway uncordon %[1]s", d.wish.peer)
	if errors.Is(ctx.Err(), context.Canceled) {
		return problemf(do, "interrupted: %s", words)
	}
	return problemf(do, "the peer %s is not empty after %s: %s", d.wish.peer, d.wish.timeout, words)
}
