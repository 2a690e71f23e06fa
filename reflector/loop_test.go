package reflector

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// loop is a Home with one Pair between two API servers in memory, in a bubble with its own time. The servers know no
// selectors on watches, no grace periods and no preconditions.
type loop struct {
	*testing.T
	home, peer *fake.Clientset
	events     *record.FakeRecorder
	pair       *Pair
	rules      testRules
	read       map[*fake.Clientset]int // how many actions were asked about
}

// runLoop runs test with a pair that is about to start: with prepare's changes to the servers.
func runLoop(t *testing.T, atHome, atPeer []runtime.Object, prepare func(*loop), test func(*loop)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		allowed := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"leave": "yes"}}}
		l := &loop{
			T: t, home: fake.NewClientset(append(atHome, allowed)...), peer: fake.NewClientset(atPeer...),
			events: record.NewFakeRecorder(100), read: map[*fake.Clientset]int{},
		}
		made := 0
		l.peer.PrependReactor("create", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
			made++
			o := a.(clienttesting.CreateAction).GetObject().(metav1.Object)
			o.SetUID(types.UID(fmt.Sprintf("made-%d", made)))
			return false, nil, nil
		})
		home := NewHome(HomeConfig{
			Client: l.home, Origin: "consumer-1", VolumeNamespace: "spillway-system", Events: l.events, Log: zaptest.NewLogger(t),
			Rules: &l.rules,
		})
		l.pair = home.Attach(PairConfig{Node: "far", Peer: "west", Remote: l.peer})
		l.pair.SetNamespaces(map[string]string{"shop": "shop-1f2e"})
		if prepare != nil {
			prepare(l)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { home.Run(ctx) })
		running.Go(func() { l.pair.Run(ctx) })
		defer running.Wait()
		defer cancel()
		l.settle()
		test(l)
	})
}

// settle lets everything happen that happens within a second.
func (l *loop) settle() { l.pass(time.Second) }

// pass lets time pass, and what is due then happen.
func (l *loop) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// writes gives what was written to a server since it was last asked: "verb resource namespace/name".
func (l *loop) writes(server *fake.Clientset) []string {
	all := server.Actions()
	var out []string
	for _, a := range all[l.read[server]:] {
		switch a.GetVerb() {
		case "get", "list", "watch":
			continue
		}
		name := ""
		switch a := a.(type) {
		case clienttesting.CreateAction:
			name = a.GetObject().(metav1.Object).GetName()
		case clienttesting.PatchAction:
			name = a.GetName()
		case clienttesting.DeleteAction:
			name = a.GetName()
		}
		resource := a.GetResource().Resource
		if a.GetSubresource() != "" {
			resource += "/" + a.GetSubresource()
		}
		out = append(out, fmt.Sprintf("%s %s %s/%s", a.GetVerb(), resource, a.GetNamespace(), name))
	}
	l.read[server] = len(all)
	return out
}

// wrote fails the test unless exactly this was written since the last call.
func (l *loop) wrote(what string, home, peer []string) {
	l.Helper()
	if diff := cmp.Diff(home, l.writes(l.home)); diff != "" {
		l.Errorf("%s: writes at home (-want +got):\n%s", what, diff)
	}
	if diff := cmp.Diff(peer, l.writes(l.peer)); diff != "" {
		l.Errorf("%s: writes at the peer (-want +got):\n%s", what, diff)
	}
}

// put changes an object as somebody else would: it is no write of ours.
func (l *loop) put(server *fake.Clientset, resource string, o metav1.Object) {
	l.Helper()
	gvr := corev1.SchemeGroupVersion.WithResource(resource)
	o.SetResourceVersion(o.GetResourceVersion() + "1")
	if err := server.Tracker().Update(gvr, o.(runtime.Object), o.GetNamespace()); err != nil {
		l.Fatal(err)
	}
}

func (l *loop) remove(server *fake.Clientset, resource, namespace, name string) {
	l.Helper()
	if err := server.Tracker().Delete(corev1.SchemeGroupVersion.WithResource(resource), namespace, name); err != nil {
		l.Fatal(err)
	}
}

func (l *loop) localPod() *corev1.Pod {
	l.Helper()
	pod, err := l.home.CoreV1().Pods("shop").Get(l.Context(), "web", metav1.GetOptions{})
	if err != nil {
		l.Fatal(err)
	}
	return pod
}

func (l *loop) twin() *corev1.Pod {
	l.Helper()
	pod, err := l.peer.CoreV1().Pods("shop-1f2e").Get(l.Context(), "web", metav1.GetOptions{})
	if err != nil {
		l.Fatal(err)
	}
	return pod
}

func objects(list ...runtime.Object) []runtime.Object { return list }

// TestLoop_WholeLife counts all writes of a pod's life: one to start it and one to end it at the peer, one status and one
// delete at home.
func TestLoop_WholeLife(t *testing.T) {
	runLoop(t, objects(localPod()), nil, nil, func(l *loop) {
		l.wrote("start", nil, []string{"create pods shop-1f2e/web"})
		l.put(l.peer, "pods", changed(l.twin(), []func(*corev1.Pod){running}))
		l.settle()
		l.wrote("the twin runs", []string{"patch pods/status shop/web"}, nil)
		if phase := l.localPod().Status.Phase; phase != corev1.PodRunning {
			l.Errorf("the local pod is %s, want Running", phase)
		}
		soon := metav1.NewTime(time.Now().Add(30 * time.Second))
		grace := int64(30)
		l.put(l.home, "pods", changed(l.localPod(), []func(*corev1.Pod){func(pod *corev1.Pod) {
			pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &soon, &grace
		}}))
		l.settle()
		l.wrote("the pod is deleted", []string{"delete pods shop/web"}, []string{"delete pods shop-1f2e/web"})
		l.pass(time.Hour)
		l.wrote("an hour later", nil, nil)
	})
}

// TestLoop_StatusesAreMerged: what a kubelet says within milliseconds is written once.
func TestLoop_StatusesAreMerged(t *testing.T) {
	runLoop(t, objects(localPod()), nil, nil, func(l *loop) {
		l.writes(l.peer)
		for i := range 4 {
			l.put(l.peer, "pods", changed(l.twin(), []func(*corev1.Pod){func(pod *corev1.Pod) {
				pod.Status.PodIP = fmt.Sprintf("10.101.0.%d", i)
			}}))
			l.pass(10 * time.Millisecond)
		}
		l.put(l.peer, "pods", changed(l.twin(), []func(*corev1.Pod){running}))
		l.settle()
		l.wrote("five statuses", []string{"patch pods/status shop/web"}, nil)
	})
}

// TestLoop_RestartWritesNothing: a new process finds everything equal.
func TestLoop_RestartWritesNothing(t *testing.T) {
	local := localPod(running)
	runLoop(t, objects(local), objects(twinOf(localPod(), running)), nil, func(l *loop) {
		l.pass(time.Hour)
		l.wrote("an hour after the start", nil, nil)
	})
}

// TestLoop_NothingBeforeAllIsKnown: while one list does not come, nothing is made, ended or failed.
func TestLoop_NothingBeforeAllIsKnown(t *testing.T) {
	for name, row := range map[string]struct {
		server   func(*loop) *fake.Clientset
		resource string
	}{
		"pods at home":           {func(l *loop) *fake.Clientset { return l.home }, "pods"},
		"ConfigMaps at home":     {func(l *loop) *fake.Clientset { return l.home }, "configmaps"},
		"namespaces at home":     {func(l *loop) *fake.Clientset { return l.home }, "namespaces"},
		"twins at the peer":      {func(l *loop) *fake.Clientset { return l.peer }, "pods"},
		"ConfigMaps at the peer": {func(l *loop) *fake.Clientset { return l.peer }, "configmaps"},
	} {
		t.Run(name, func(t *testing.T) {
			away := true
			// One pod ran and has lost its twin, one is new, and one twin has lost its pod.
			ran := localPod(running, never)
			fresh := localPod(func(pod *corev1.Pod) { pod.Name, pod.UID = "fresh", "local-2" })
			orphan := twinOf(localPod(func(pod *corev1.Pod) { pod.Name, pod.UID = "orphan", "local-3" }), running)
			var mu sync.Mutex
			prepare := func(l *loop) {
				row.server(l).PrependReactor("list", row.resource, func(clienttesting.Action) (bool, runtime.Object, error) {
					mu.Lock()
					defer mu.Unlock()
					return away, nil, apierrors.NewServiceUnavailable("away")
				})
			}
			runLoop(t, objects(ran, fresh), objects(orphan), prepare, func(l *loop) {
				l.pass(time.Minute)
				l.wrote("while "+name+" are not known", nil, nil)
				mu.Lock()
				away = false
				mu.Unlock()
				l.pass(time.Minute)
				home, peer := l.writes(l.home), strings.Join(l.writes(l.peer), ", ")
				if diff := cmp.Diff([]string{"patch pods/status shop/web"}, home); diff != "" {
					l.Errorf("afterwards, at home (-want +got):\n%s", diff)
				}
				if !strings.Contains(peer, "create pods shop-1f2e/fresh") || !strings.Contains(peer, "delete pods shop-1f2e/orphan") {
					l.Errorf("afterwards, at the peer: %s", peer)
				}
			})
		})
	}
}

// TestLoop_OrphanNeedsEvidence: that the cache has no local pod is not enough to end a twin.
func TestLoop_OrphanNeedsEvidence(t *testing.T) {
	there := true
	prepare := func(l *loop) {
		l.home.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			return there, localPod(running), nil
		})
	}
	runLoop(t, nil, objects(twinOf(localPod(), running)), prepare, func(l *loop) {
		l.pass(time.Minute)
		l.wrote("home says that the pod is there", nil, nil)
		there = false
		l.put(l.peer, "pods", l.twin())
		l.settle()
		l.wrote("home says that it is gone", nil, []string{"delete pods shop-1f2e/web"})
	})
}

// TestLoop_VanishedTwinNeedsEvidence: that the cache has no twin is not enough to fail a pod.
func TestLoop_VanishedTwinNeedsEvidence(t *testing.T) {
	local := localPod(running, never)
	there := true
	prepare := func(l *loop) {
		l.peer.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			return there, twinOf(localPod(never), running), nil
		})
	}
	runLoop(t, objects(local), nil, prepare, func(l *loop) {
		l.pass(time.Minute)
		l.wrote("the peer says that the twin is there", nil, nil)
		there = false
		l.put(l.home, "pods", l.localPod())
		l.settle()
		l.wrote("the peer says that it is gone", []string{"patch pods/status shop/web"}, nil)
		if phase := l.localPod().Status.Phase; phase != corev1.PodFailed {
			l.Errorf("the local pod is %s, want Failed", phase)
		}
	})
}

// TestLoop_TwinDeletedByProvider: it is made again.
func TestLoop_TwinDeletedByProvider(t *testing.T) {
	runLoop(t, objects(localPod(running)), objects(twinOf(localPod(), running)), nil, func(l *loop) {
		l.remove(l.peer, "pods", "shop-1f2e", "web")
		l.settle()
		l.wrote("its twin is gone", []string{"patch pods/status shop/web"}, []string{"create pods shop-1f2e/web"}) // no longer Ready
	})
}

// TestLoop_AnswerLost: the peer made the twin, but its answer did not arrive.
func TestLoop_AnswerLost(t *testing.T) {
	prepare := func(l *loop) {
		l.peer.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
			twin := a.(clienttesting.CreateAction).GetObject().(*corev1.Pod)
			if err := l.peer.Tracker().Add(twin); err != nil {
				return true, nil, apierrors.NewAlreadyExists(corev1.Resource("pods"), twin.Name)
			}
			return true, nil, apierrors.NewTimeoutError("the answer is lost", 1)
		})
	}
	runLoop(t, objects(localPod()), nil, prepare, func(l *loop) {
		l.pass(time.Minute)
		for _, write := range l.writes(l.peer) {
			if write != "create pods shop-1f2e/web" {
				l.Errorf("unexpected write %s", write)
			}
		}
		l.wrote("a twin that is there is adopted", nil, nil)
	})
}

// TestLoop_RefusedByProvider: the user is told once, and the pod starts when the provider takes it.
func TestLoop_RefusedByProvider(t *testing.T) {
	full := true
	prepare := func(l *loop) {
		l.peer.PrependReactor("create", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			return full, nil, apierrors.NewForbidden(corev1.Resource("pods"), "web", fmt.Errorf("exceeded quota: spillway"))
		})
	}
	runLoop(t, objects(localPod()), nil, prepare, func(l *loop) {
		l.pass(5 * time.Minute)
		if diff := cmp.Diff([]string{"patch pods/status shop/web"}, l.writes(l.home)); diff != "" {
			l.Errorf("writes at home (-want +got):\n%s", diff)
		}
		c := l.localPod().Status.Conditions
		if len(c) != 1 || c[0].Reason != reasonRefused || !strings.Contains(c[0].Message, "exceeded quota: spillway") {
			l.Errorf("conditions: %v", c)
		}
		full = false
		l.writes(l.peer)
		l.pass(retryRefused + time.Second)
		l.wrote("there is room", []string{"patch pods/status shop/web"}, []string{"create pods shop-1f2e/web"})
	})
}

// TestLoop_ForeignPod: it is not touched.
func TestLoop_ForeignPod(t *testing.T) {
	foreign := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop-1f2e", UID: "foreign"}}
	runLoop(t, objects(localPod()), objects(foreign), nil, func(l *loop) {
		for _, write := range l.writes(l.peer) {
			if write != "create pods shop-1f2e/web" { // refused: AlreadyExists
				l.Errorf("unexpected write %s", write)
			}
		}
		l.wrote("the user is told", []string{"patch pods/status shop/web"}, nil)
		if c := l.localPod().Status.Conditions; len(c) != 1 || c[0].Reason != reasonNameTaken {
			l.Errorf("conditions: %v", c)
		}
		select {
		case event := <-l.events.Events:
			if !strings.Contains(event, reasonNameTaken) {
				l.Errorf("event %q", event)
			}
		default:
			l.Error("no Event")
		}
	})
}

// TestLoop_LostPeer: everything waits, and is done when the peer is back.
func TestLoop_LostPeer(t *testing.T) {
	runLoop(t, objects(localPod(running, never)), objects(twinOf(localPod(never), running)), nil, func(l *loop) {
		l.pair.SetLost(true, time.Now())
		l.pass(time.Hour)
		l.wrote("the pod is held", []string{"patch pods shop/web"}, nil)
		if s := l.localPod().Spec.Tolerations[0].TolerationSeconds; *s != translate.HeldSeconds {
			l.Errorf("the pod tolerates the outage for %d s, want %d", *s, translate.HeldSeconds)
		}
		now, grace := metav1.NewTime(time.Now()), int64(30)
		l.put(l.home, "pods", changed(l.localPod(), []func(*corev1.Pod){func(pod *corev1.Pod) {
			pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, &grace
		}}))
		l.pass(10 * time.Minute)
		l.wrote("the pod is deleted meanwhile", nil, nil)
		l.pair.SetLost(false, time.Time{})
		l.settle()
		l.wrote("the peer is back", []string{"delete pods shop/web"}, []string{"delete pods shop-1f2e/web"})
	})
}

// TestLoop_RemovalThatWasCutOff: who asked for the removal of a pod died when the API server had written half of it.
func TestLoop_RemovalThatWasCutOff(t *testing.T) {
	half := func(pod *corev1.Pod) {
		begin, grace := metav1.NewTime(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), int64(0) // when time begins in a bubble
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &begin, &grace
	}
	runLoop(t, objects(localPod(running, half)), nil, nil, func(l *loop) {
		l.wrote("it may be about to go", nil, nil)
		l.pass(10 * time.Second)
		l.wrote("nobody removes it", []string{"delete pods shop/web"}, nil)
	})
}

// TestLoop_ReferencesComeFirst: a ConfigMap is there before the pod that uses it, follows, and goes after it.
func TestLoop_ReferencesComeFirst(t *testing.T) {
	settings := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "settings", Namespace: "shop", UID: "cm-1"}, Data: map[string]string{"colour": "blue"},
	}
	user := localPod(func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{{Name: "settings", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "settings"},
		}}}}
	})
	runLoop(t, objects(user, settings), nil, nil, func(l *loop) {
		l.wrote("start", nil, []string{"create configmaps shop-1f2e/settings", "create pods shop-1f2e/web"})
		green := settings.DeepCopy()
		green.Data["colour"] = "green"
		l.put(l.home, "configmaps", green)
		l.settle()
		l.wrote("it changes", nil, []string{"update configmaps shop-1f2e/settings"})
		l.remove(l.home, "pods", "shop", "web")
		l.settle()
		got := l.writes(l.peer)
		if len(got) != 2 || !strings.Contains(strings.Join(got, ","), "delete configmaps shop-1f2e/settings") {
			l.Errorf("its only user is gone: %v", got)
		}
	})
}

// TestLoop_NamespaceMustAllow: nothing leaves a namespace that does not say so.
func TestLoop_NamespaceMustAllow(t *testing.T) {
	closed := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "closed"}}
	pod := localPod(func(pod *corev1.Pod) { pod.Namespace = "closed" })
	prepare := func(l *loop) { l.pair.SetNamespaces(map[string]string{"shop": "shop-1f2e", "closed": "closed-1f2e"}) }
	runLoop(t, objects(closed, pod), nil, prepare, func(l *loop) {
		l.pass(time.Minute)
		l.wrote("the user is told", []string{"patch pods/status closed/web"}, nil)
		open := closed.DeepCopy()
		open.Labels = map[string]string{"leave": "yes"}
		l.put(l.home, "namespaces", open)
		l.settle()
		l.wrote("the namespace allows it", []string{"patch pods/status closed/web"}, []string{"create pods closed-1f2e/web"})
	})
}
