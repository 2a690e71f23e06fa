package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// labelLoad is on every pod that is measured, and so on its twin. Its value is the load it belongs to.
const labelLoad = "bench.spillway.dev/load"

// tally counts the measured pods of one cluster as its one watch tells of them. Safe for concurrent use.
type tally struct {
	synced <-chan struct{}

	mu      sync.Mutex
	pods    map[types.UID]seen // guarded by mu
	ready   map[string]int     // guarded by mu; by load
	present map[string]int     // guarded by mu; by load
	waiting []*waiter          // guarded by mu
}

// seen is what is known of a pod.
type seen struct {
	load  string
	ready bool
}

// waiter waits until done says so of the numbers of its load.
type waiter struct {
	load string
	done func(ready, present int) bool
	at   chan time.Time // capacity 1
}

// newTally watches until ctx ends. It returns at once.
func newTally(ctx context.Context, client kubernetes.Interface) *tally {
	t := &tally{pods: map[types.UID]seen{}, ready: map[string]int{}, present: map[string]int{}}
	pods := client.CoreV1().Pods(metav1.NamespaceAll)
	_, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.LabelSelector = labelLoad
				return pods.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.LabelSelector = labelLoad
				return pods.Watch(ctx, o)
			},
		},
		ObjectType: &corev1.Pod{},
		Transform:  func(obj any) (any, error) { return trim(obj), nil },
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { t.note(obj.(*corev1.Pod)) },
			UpdateFunc: func(_, obj any) { t.note(obj.(*corev1.Pod)) },
			DeleteFunc: t.forget,
		},
	})
	synced := make(chan struct{})
	t.synced = synced
	go controller.RunWithContext(ctx)
	go func() {
		if cache.WaitForCacheSync(ctx.Done(), controller.HasSynced) {
			close(synced)
		}
	}()
	return t
}

// trim keeps of a pod what is counted.
func trim(obj any) any {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj
	}
	kept := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, ResourceVersion: pod.ResourceVersion, Labels: pod.Labels,
	}}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			kept.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return kept
}

func (t *tally) note(pod *corev1.Pod) {
	t.set(pod.UID, seen{
		load:  pod.Labels[labelLoad],
		ready: len(pod.Status.Conditions) == 1 && pod.Status.Conditions[0].Status == corev1.ConditionTrue,
	})
}

func (t *tally) set(uid types.UID, now seen) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, known := t.pods[uid]
	t.pods[uid] = now
	if !known {
		t.present[now.load]++
	}
	if now.ready != before.ready {
		t.countReadyLocked(now)
	}
	t.wakeLocked()
}

func (t *tally) countReadyLocked(now seen) {
	if now.ready {
		t.ready[now.load]++
		return
	}
	t.ready[now.load]--
}

func (t *tally) forget(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	uid := obj.(*corev1.Pod).UID
	t.mu.Lock()
	defer t.mu.Unlock()
	before, known := t.pods[uid]
	if !known {
		return
	}
	delete(t.pods, uid)
	t.present[before.load]--
	if before.ready {
		t.ready[before.load]--
	}
	t.wakeLocked()
}

func (t *tally) wakeLocked() {
	kept := t.waiting[:0]
	for _, w := range t.waiting {
		if w.done(t.ready[w.load], t.present[w.load]) {
			w.at <- time.Now()
			continue
		}
		kept = append(kept, w)
	}
	t.waiting = kept
}

// wait returns when done was first true of the numbers of a load.
func (t *tally) wait(ctx context.Context, load string, done func(ready, present int) bool) (time.Time, error) {
	w := &waiter{load, done, make(chan time.Time, 1)}
	t.mu.Lock()
	t.waiting = append(t.waiting, w)
	t.wakeLocked()
	t.mu.Unlock()
	select {
	case at := <-w.at:
		return at, nil
	case <-ctx.Done():
		t.mu.Lock()
		defer t.mu.Unlock()
		return time.Time{}, fmt.Errorf("%d pods of the load %s are there, %d of them Ready: %w", t.present[load], load, t.ready[load], context.Cause(ctx))
	}
}

// waitReady returns when n pods of a load were Ready.
func (t *tally) waitReady(ctx context.Context, load string, n int) (time.Time, error) {
	return t.wait(ctx, load, func(ready, _ int) bool { return ready >= n })
}

// waitGone returns when no pod of a load was left.
func (t *tally) waitGone(ctx context.Context, load string) (time.Time, error) {
	return t.wait(ctx, load, func(_, present int) bool { return present == 0 })
}
