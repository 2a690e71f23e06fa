package reflector

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// remoteWarning is what a kubelet says about the twin of localPod, n times so far.
func remoteWarning(name, words string, n int32) *corev1.Event {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: name, Namespace: "shop-1f2e", ResourceVersion: "1"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "shop-1f2e", Name: "web", UID: "twin-1"},
		Type:           corev1.EventTypeWarning, Reason: "BackOff", Message: words, Count: n, FirstTimestamp: now, LastTimestamp: now,
	}
}

// say makes an Event at the peer, or lets it count further.
func (l *loop) say(e *corev1.Event) {
	l.Helper()
	if err := l.peer.Tracker().Add(e); err != nil {
		l.put(l.peer, "events", e)
	}
}

// told lists the Events at home: "reason xcount message".
func (l *loop) told() []string {
	l.Helper()
	list, err := l.home.CoreV1().Events("shop").List(l.Context(), metav1.ListOptions{})
	if err != nil {
		l.Fatal(err)
	}
	var out []string
	for _, e := range list.Items {
		if e.InvolvedObject.UID != "local-1" || e.InvolvedObject.Namespace != "shop" || e.InvolvedObject.Name != "web" {
			l.Errorf("Event %s is about %+v", e.Name, e.InvolvedObject)
		}
		out = append(out, fmt.Sprintf("%s x%d %s", e.Reason, e.Count, e.Message))
	}
	return out
}

// verbs counts the verbs of writes to Events at home since writes were last asked for.
func (l *loop) verbs() map[string]int {
	out := map[string]int{}
	for _, w := range l.writes(l.home) {
		if verb, what, _ := strings.Cut(w, " "); strings.HasPrefix(what, "events ") {
			out[verb]++
		}
	}
	return out
}

// withTwin runs test with a pod that runs at the peer.
func withTwin(t *testing.T, prepare func(*loop), test func(*loop)) {
	twin := twinOf(localPod(), running)
	twin.UID = "twin-1"
	runLoop(t, objects(localPod(running)), objects(twin), prepare, test)
}

// TestLoop_Events: a Warning about a twin is told about the local pod in home's words, once for the same words, and counts
// at most every half minute.
func TestLoop_Events(t *testing.T) {
	withTwin(t, nil, func(l *loop) {
		l.say(remoteWarning("web.1", "pod web_shop-1f2e(twin-1) failed", 1))
		l.settle()
		if diff := cmp.Diff([]string{"BackOff x1 pod web_shop(twin-1) failed"}, l.told()); diff != "" {
			l.Errorf("told (-want +got):\n%s", diff)
		}
		for n := range int32(20) {
			l.say(remoteWarning("web.1", "pod web_shop-1f2e(twin-1) failed", n+2))
			l.pass(time.Second)
		}
		l.say(remoteWarning("web.2", "pod web_shop-1f2e(twin-1) failed", 1)) // a kubelet that was restarted counts anew
		l.pass(time.Minute)
		if diff := cmp.Diff([]string{"BackOff x21 pod web_shop(twin-1) failed"}, l.told()); diff != "" {
			l.Errorf("told later (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]int{"create": 1, "patch": 2}, l.verbs()); diff != "" {
			l.Errorf("writes in 80 seconds (-want +got):\n%s", diff)
		}
		l.pass(time.Hour)
		if diff := cmp.Diff(map[string]int{}, l.verbs()); diff != "" {
			l.Errorf("writes in an hour without news (-want +got):\n%s", diff)
		}
	})
}

// TestLoop_EventsOfOthers: what is not about a twin that there is now stays where it is.
func TestLoop_EventsOfOthers(t *testing.T) {
	earlier := remoteWarning("web.1", "an earlier twin", 1)
	earlier.InvolvedObject.UID = "twin-0"
	foreign := remoteWarning("db.1", "no twin", 1)
	foreign.InvolvedObject.Name = "db"
	normal := remoteWarning("web.2", "pulled", 1)
	normal.Type = corev1.EventTypeNormal
	withTwin(t, nil, func(l *loop) {
		for _, e := range []*corev1.Event{earlier, foreign, normal} {
			l.say(e)
		}
		l.pass(time.Minute)
		l.wrote("Events that are no business of home", nil, nil)
		if n := len(l.pair.home.events.heard); n != 0 {
			l.Errorf("%d Events are kept for ever", n)
		}
	})
}

// TestLoop_EventAheadOfTwin: the watch of Events may be faster than that of pods.
func TestLoop_EventAheadOfTwin(t *testing.T) {
	early := remoteWarning("web.1", "no node", 1)
	early.InvolvedObject.UID = "made-1" // as runLoop calls what is made first
	prepare := func(l *loop) { l.say(early) }
	runLoop(t, objects(localPod()), nil, prepare, func(l *loop) {
		l.pass(3 * time.Second)
		if diff := cmp.Diff([]string{"BackOff x1 no node"}, l.told()); diff != "" {
			l.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// TestLoop_EventsAfterRestart: what the process before has told costs no write, what it missed is made up for.
func TestLoop_EventsAfterRestart(t *testing.T) {
	env := translate.Env{NodeName: "far", RemoteNamespace: "shop-1f2e"}
	prepare := func(l *loop) {
		for name, n := range map[string]int32{"same": 1, "further": 4, "new": 1} {
			e := remoteWarning("web."+name, name, n)
			e.LastTimestamp = metav1.NewTime(e.LastTimestamp.Add(-time.Minute))
			e.FirstTimestamp = e.LastTimestamp
			l.say(e)
			if name == "new" {
				continue
			}
			told := translate.Event(e, localPod(), env)
			told.Count = 1
			if err := l.home.Tracker().Add(told); err != nil {
				l.Fatal(err)
			}
		}
	}
	withTwin(t, prepare, func(l *loop) {
		if diff := cmp.Diff(map[string]int{"create": 1, "patch": 1}, l.verbs()); diff != "" {
			l.Errorf("writes after the start (-want +got):\n%s", diff)
		}
		if got := strings.Join(l.told(), ", "); !strings.Contains(got, "x4 further") || !strings.Contains(got, "x1 new") {
			l.Errorf("told: %s", got)
		}
	})
}

// TestLoop_EventsAreBounded: a pod that fails in ever new words does not fill home's API server.
func TestLoop_EventsAreBounded(t *testing.T) {
	withTwin(t, nil, func(l *loop) {
		for i := range 3 * eventBurst {
			l.say(remoteWarning(fmt.Sprintf("web.%d", i), fmt.Sprintf("failure %d", i), 1))
		}
		l.pass(5 * time.Minute)
		if n := l.verbs()["create"]; n != eventBurst {
			l.Errorf("%d new Events of a pod in five minutes, want %d", n, eventBurst)
		}
		for i := range 20 {
			l.say(remoteWarning(fmt.Sprintf("web.1%d", i), fmt.Sprintf("another failure %d", i), 1))
		}
		l.pass(time.Minute)
		if n := l.verbs()["create"]; n != 1 {
			l.Errorf("%d new Events after five minutes, want 1", n)
		}
		l.remove(l.home, "pods", "shop", "web")
		l.settle()
		if n := len(l.pair.home.events.told); n != 0 {
			l.Errorf("%d pods are remembered when none is left", n)
		}
	})
}

// TestLoop_EventsHoldUpNothing: without a right to watch Events, or with a home that takes none, pods are as usual.
func TestLoop_EventsHoldUpNothing(t *testing.T) {
	prepare := func(l *loop) {
		for _, verb := range []string{"list", "watch"} {
			l.peer.PrependReactor(verb, "events", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewForbidden(corev1.Resource("events"), "", fmt.Errorf("no"))
			})
		}
	}
	runLoop(t, objects(localPod()), nil, prepare, func(l *loop) {
		l.wrote("start", nil, []string{"create pods shop-1f2e/web"})
	})
	var away atomic.Bool
	away.Store(true)
	slow := func(l *loop) {
		l.home.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
			return away.Load(), nil, apierrors.NewServiceUnavailable("away")
		})
	}
	withTwin(t, slow, func(l *loop) {
		l.say(remoteWarning("web.1", "failed", 1))
		l.pass(time.Minute)
		away.Store(false)
		l.pass(time.Minute)
		if diff := cmp.Diff([]string{"BackOff x1 failed"}, l.told()); diff != "" {
			l.Errorf("told when home is back (-want +got):\n%s", diff)
		}
	})
}
