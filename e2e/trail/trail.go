// Package trail writes down what becomes of pods, so that a test can say afterwards what must never have been: a pod that moved twice,
// a moment with too few of them. It knows pods as home sees them, and their virtual nodes by their names; not why they move.
//
//	t := trail.New(home, "shop")
//	go t.Run(ctx)
//	<-t.Synced()
//	…
//	for _, l := range t.Of("web") { … }
package trail

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Life is what was seen of one pod; times are those at which it was seen, zero for what never was.
type Life struct {
	UID       types.UID
	Name, App string // App is its label app
	Node      string

	Seen, Stuck, Bound, Ready, Released, Ending, Gone time.Time
	// Failed says that it was, at some time.
	Failed bool

	ready bool // now
}

// Away says whether it is, or was, on a virtual node.
func (l Life) Away() bool { return strings.HasPrefix(l.Node, "spillway-") }

// Trail is what was seen of all pods of a namespace. Safe for concurrent use.
type Trail struct {
	pods *live.Cache[*corev1.Pod]

	mu    sync.Mutex // guards what follows
	lives map[types.UID]*Life
	least map[string]int // Ready pods by app since Mark
}

// New returns a Trail that sees nothing until Run.
func New(kube kubernetes.Interface, namespace string) *Trail {
	t := &Trail{lives: map[types.UID]*Life{}, least: map[string]int{}}
	t.pods = live.New(live.Options[*corev1.Pod]{
		Name: "pods of " + namespace, ListWatch: live.ListWatch(kube, kube.CoreV1().Pods(namespace), nil), Changed: t.note,
	})
	return t
}

// Run watches until ctx ends. Call it once.
func (t *Trail) Run(ctx context.Context) { t.pods.Run(ctx) }

// Synced is closed when all pods that there are have been seen.
func (t *Trail) Synced() <-chan struct{} { return t.pods.Synced() }

func (t *Trail) note(before, now *corev1.Pod) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := time.Now()
	if before != nil && (now == nil || now.UID != before.UID) {
		l := t.lives[before.UID]
		l.Gone, l.ready = at, false
		t.count(l.App)
	}
	if now == nil {
		return
	}
	l := t.lives[now.UID]
	if l == nil {
		l = &Life{UID: now.UID, Name: now.Name, App: now.Labels["app"], Seen: at}
		t.lives[now.UID] = l
	}
	l.Node = now.Spec.NodeName
	l.Failed = l.Failed || now.Status.Phase == corev1.PodFailed
	l.ready = now.DeletionTimestamp == nil && is(now, corev1.PodReady, corev1.ConditionTrue)
	_, released := now.Labels[v1alpha1.LabelMoving]
	first(&l.Stuck, at, l.Node == "" && is(now, corev1.PodScheduled, corev1.ConditionFalse))
	first(&l.Bound, at, l.Node != "")
	first(&l.Ready, at, l.ready)
	first(&l.Released, at, released)
	first(&l.Ending, at, now.DeletionTimestamp != nil)
	t.count(l.App)
}

func first(when *time.Time, at time.Time, holds bool) {
	if holds && when.IsZero() {
		*when = at
	}
}

func is(pod *corev1.Pod, kind corev1.PodConditionType, status corev1.ConditionStatus) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind && c.Status == status })
}

// count looks how many pods of an app are Ready. t.mu is held.
func (t *Trail) count(app string) {
	least, marked := t.least[app]
	if marked {
		t.least[app] = min(least, t.readyLocked(app))
	}
}

func (t *Trail) readyLocked(app string) int {
	n := 0
	for _, l := range t.lives {
		if l.App == app && l.ready {
			n++
		}
	}
	return n
}

// Mark begins to look how few pods of an app were Ready at once, which Least tells.
func (t *Trail) Mark(app string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.least[app] = t.readyLocked(app)
}

// Least is the smallest number of pods of an app that were Ready, and not ending, at any moment since Mark.
func (t *Trail) Least(app string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.least[app]
}

// Of gives the lives of an app's pods, in the order in which they were first seen.
func (t *Trail) Of(app string) []Life {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Life
	for _, l := range t.lives {
		if l.App == app {
			out = append(out, *l)
		}
	}
	slices.SortFunc(out, func(a, b Life) int { return cmp.Or(a.Seen.Compare(b.Seen), cmp.Compare(a.Name, b.Name)) })
	return out
}

// Count says how many pods of an app there ever were, and how many of these ran at home and in a peer. Pods that never got a node are
// in made only.
func (t *Trail) Count(app string) (made, home, away int) {
	for _, l := range t.Of(app) {
		made++
		switch {
		case l.Away():
			away++
		case l.Node != "":
			home++
		}
	}
	return made, home, away
}

// Now says how many pods of an app are Ready, at home and in a peer, and how many there are besides, which wait, begin, were released
// or end.
func (t *Trail) Now(app string) (home, away, others int) {
	for _, l := range t.Of(app) {
		switch {
		case !l.Gone.IsZero():
		case !l.ready || !l.Released.IsZero():
			others++
		case l.Away():
			away++
		default:
			home++
		}
	}
	return home, away, others
}

// String tells all of it, a line for each pod, with the seconds since the first was seen.
func (t *Trail) String() string {
	t.mu.Lock()
	apps := map[string]bool{}
	for _, l := range t.lives {
		apps[l.App] = true
	}
	t.mu.Unlock()
	var all []Life
	for app := range apps {
		all = append(all, t.Of(app)...)
	}
	if len(all) == 0 {
		return "no pod was seen"
	}
	slices.SortFunc(all, func(a, b Life) int {
		return cmp.Or(cmp.Compare(a.App, b.App), a.Seen.Compare(b.Seen), cmp.Compare(a.Name, b.Name))
	})
	began := slices.MinFunc(all, func(a, b Life) int { return a.Seen.Compare(b.Seen) }).Seen
	var text strings.Builder
	fmt.Fprintf(&text, "what became of the pods, in seconds since %s:\n", began.UTC().Format(time.TimeOnly))
	for _, l := range all {
		fmt.Fprintf(&text, "  %-32s %-16s seen %5.1f", l.Name, cmp.Or(l.Node, "(no node)"), l.Seen.Sub(began).Seconds())
		for _, step := range []struct {
			what string
			at   time.Time
		}{{"unschedulable", l.Stuck}, {"bound", l.Bound}, {"Ready", l.Ready}, {"released", l.Released}, {"ending", l.Ending}, {"gone", l.Gone}} {
			if !step.at.IsZero() {
				fmt.Fprintf(&text, ", %s %.1f", step.what, step.at.Sub(began).Seconds())
			}
		}
		text.WriteString("\n")
	}
	return text.String()
}
