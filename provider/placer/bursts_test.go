package placer

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

func TestBursts_OverflowOnceAndSayWhy(t *testing.T) {
	pod := webPod("web-1", findsNoNode)
	w := newWorld(t, nil, pod)
	w.outcome.Decisions = []placement.Decision{{Pod: pod, Action: placement.Overflow, Peer: "west", Reason: "Overflowed", Message: "no room at home for 10s"}}
	again := w.pass(t.Context())
	want := []string{`web-1 {"metadata":{"uid":"uid-web-1","resourceVersion":"7","annotations":{` +
		`"controller.kubernetes.io/pod-deletion-cost":"-100","spillway.dev/burst":"west=2026-01-02T15:04:05Z",` +
		`"spillway.dev/placement":"No room at home for 10s"}},"spec":{"tolerations":[` +
		`{"key":"spillway.dev/virtual-node","operator":"Equal","value":"west","effect":"NoSchedule"}]}}`}
	if diff := cmp.Diff(want, w.patches()); diff != "" {
		t.Errorf("patches (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"Normal Overflowed No room at home for 10s"}, w.heard()); diff != "" {
		t.Errorf("Events (-want +got):\n%s", diff)
	}
	if !again.IsZero() {
		t.Errorf("asks to decide again at %s, though nothing is to be waited for", again)
	}
	if again = w.pass(t.Context()); len(w.patches()) != 0 || again.IsZero() {
		t.Error("decided again before the caches have shown what was written, or never again")
	}
	seen := pod.DeepCopy()
	seen.ResourceVersion = "8"
	w.caches.pods, w.outcome.Decisions = []*corev1.Pod{seen}, nil
	w.saw = placement.Input{}
	if w.pass(t.Context()); len(w.saw.Pods) != 1 || len(w.patches()) != 0 {
		t.Error("not decided again once the caches have shown it")
	}
}

func TestBursts_AWriteThatIsNeverSeenHoldsNobodyForLong(t *testing.T) {
	pod := webPod("web-1", findsNoNode)
	w := newWorld(t, nil, pod)
	w.outcome.Decisions = []placement.Decision{{Pod: pod, Action: placement.Overflow, Peer: "west"}}
	w.pass(t.Context())
	w.clock.Step(seenWithin)
	w.patches()
	if w.pass(t.Context()); len(w.patches()) != 1 {
		t.Error("not tried again")
	}
}

func TestBursts_FailedWritesAreTriedLater(t *testing.T) {
	for name, row := range map[string]struct {
		err   error
		wait  time.Duration // before it is tried again
		event bool
	}{
		"refused by the API server":    {errRefused, failedRetry, false},
		"changed in the meantime":      {apierrors.NewConflict(corev1.Resource("pods"), "web-1", errRefused), seenWithin, false},
		"gone in the meantime":         {apierrors.NewNotFound(corev1.Resource("pods"), "web-1"), 0, false},
		"nothing wrong, but not seen ": {nil, seenWithin, true},
	} {
		t.Run(name, func(t *testing.T) {
			pod := webPod("web-1", findsNoNode)
			w := newWorld(t, nil, pod)
			w.client.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return row.err != nil, pod, row.err })
			w.outcome.Decisions = []placement.Decision{{Pod: pod, Action: placement.Overflow, Peer: "west"}}
			w.pass(t.Context())
			if got := len(w.heard()) > 0; got != row.event || len(w.patches()) != 1 {
				t.Errorf("an Event: %v, want %v; or not one write", got, row.event)
			}
			if row.wait > 0 {
				w.clock.Step(row.wait - time.Second)
				if again := w.pass(t.Context()); len(w.patches()) != 0 || again.IsZero() {
					t.Error("tried again too early, or never")
				}
				w.clock.Step(time.Second)
			}
			if w.pass(t.Context()); len(w.patches()) != 1 {
				t.Error("not tried again")
			}
		})
	}
}

func TestBursts_WaitIsSaidOncePerReason(t *testing.T) {
	pod := webPod("web-1", findsNoNode)
	w := newWorld(t, nil, pod)
	for _, message := range []string{"west is full", "west is full", "east is full too"} {
		w.outcome.Decisions = []placement.Decision{{Pod: pod, Action: placement.Wait, Message: message}}
		w.pass(t.Context())
	}
	want := []string{"Warning NoPeerHasRoom West is full", "Warning NoPeerHasRoom East is full too"}
	if diff := cmp.Diff(want, w.heard()); diff != "" || len(w.patches()) != 0 {
		t.Errorf("Events (-want +got):\n%s", diff)
	}
}

func TestBursts_AGateIsOpenedSilently(t *testing.T) {
	pod := webPod("web-1", behindGate)
	w := newWorld(t, nil, pod)
	w.outcome.Decisions = []placement.Decision{{Pod: pod, Action: placement.Admit, Reason: "WithinThreshold", Message: "stays at home"}}
	w.pass(t.Context())
	want := []string{`web-1 {"metadata":{"uid":"uid-web-1","resourceVersion":"7","annotations":{"spillway.dev/placement":"Stays at home"}},` +
		`"spec":{"schedulingGates":null}}`}
	if diff := cmp.Diff(want, w.patches()); diff != "" || len(w.heard()) != 0 {
		t.Errorf("patches (-want +got):\n%s", diff)
	}
}

func TestBursts_ComeHome(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 3 {
		pods = append(pods, webPod(fmt.Sprintf("web-%d", i), ownedBy("ReplicaSet", "web"), runsOn("spillway-west"), sentTo("west")))
	}
	w := newWorld(t, func(p *v1alpha1.OffloadPolicy) {
		most := int32(2)
		p.Spec.Burst = &v1alpha1.Burst{ComeHome: v1alpha1.ComeHome{MaxConcurrent: &most}}
	}, pods...)
	w.caches.workloads["web"] = placement.Workload{Namespace: "shop", Kind: "Deployment", Name: "web", Replicas: 3}
	var wish placement.Wish
	w.next = func(_ placement.Workload, wanted placement.Wish, _ time.Time) ([]placement.Move, bool) {
		wish = wanted
		return []placement.Move{{Kind: placement.Release, Pod: pods[2]}, {Kind: placement.Release, Pod: pods[1]}}, false
	}
	w.mover.refuse["web-1"] = true
	for _, i := range []int{2, 1} {
		w.outcome.Decisions = append(w.outcome.Decisions, placement.Decision{Pod: pods[i], Action: placement.ComeHome, Peer: "west", Message: "room at home"})
	}
	again := w.pass(t.Context())
	want := placement.Wish{To: placement.Home, Count: 3, AtOnce: 2, Why: "Room at home", Only: []types.UID{"uid-web-2", "uid-web-1"}}
	if diff := cmp.Diff(want, wish); diff != "" {
		t.Errorf("wish (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"Release web-2: Room at home"}, w.mover.moved); diff != "" {
		t.Errorf("moves (-want +got):\n%s", diff)
	}
	if got := again.Sub(w.clock.Now()); got != refusedRetry || w.swept != 1 {
		t.Errorf("the pod that a budget holds is asked for again after %s; swept %d times", got, w.swept)
	}
}

func TestBursts_Gather(t *testing.T) {
	limit, weight := int32(4), int32(3)
	home := webPod("home", runsOn("home-1"))
	home.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}}}}
	ended := webPod("ended")
	ended.Status.Phase = corev1.PodSucceeded
	other := webPod("other", behindGate)
	other.Labels = nil
	w := newWorld(t, func(p *v1alpha1.OffloadPolicy) {
		p.Spec.Peers = []v1alpha1.PeerChoice{{Name: "west", MaxPods: &limit}, {Name: "east", Weight: &weight}}
		p.Annotations = map[string]string{v1alpha1.AnnotationRepatriate: "2026-01-02T15:04:00Z"}
	},
		home, ended, other, webPod("gated", behindGate), webPod("agent", ownedBy("DaemonSet", "agent")),
		webPod("away", runsOn("spillway-west"), sentTo("west"), ownedBy("ReplicaSet", "web")),
		webPod("moved-in", runsOn("spillway-west"), ownedBy("ReplicaSet", "web")),
		webPod("run", runsOn("spillway-west"), sentTo("west"), ownedBy("Job", "run")),
		webPod("db-0", runsOn("spillway-east"), sentTo("east"), ownedBy("StatefulSet", "db")),
		webPod("db-1", runsOn("spillway-east"), sentTo("east"), ownedBy("StatefulSet", "db"), func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}}}
		}),
	)
	w.caches.workloads["web"] = placement.Workload{Replicas: 1, Members: []placement.Member{{Pod: w.caches.pods[5]}}}
	w.caches.workloads["db"] = placement.Workload{Replicas: 2, Members: []placement.Member{{Pod: w.caches.pods[8]}}}
	w.pass(t.Context())
	type seen struct {
		Policy           int
		Movable, Settled bool
	}
	got := map[string]seen{}
	for _, p := range w.saw.Pods {
		got[p.Name] = seen{p.Policy, p.Movable, p.Settled}
	}
	want := map[string]seen{
		"home": {Policy: 0}, "other": {Policy: -1}, "gated": {Policy: 0}, "agent": {Policy: -1}, "away": {0, true, true},
		"moved-in": {Policy: 0}, "run": {Policy: 0}, "db-0": {0, true, false}, "db-1": {Policy: 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	p := w.saw.Policies[0]
	if diff := cmp.Diff([]placement.Peer{{Name: "west", Weight: 1, MaxPods: &limit}, {Name: "east", Weight: 3}}, p.Peers); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
	if !p.Repatriate.Equal(time.Date(2026, 1, 2, 15, 4, 0, 0, time.UTC)) || w.saw.Pods[0].Requests.Cpu().String() != "500m" {
		t.Errorf("repatriate %s, requests %v", p.Repatriate, w.saw.Pods[0].Requests)
	}
}

func TestBursts_AClosedNamespaceHasNoPeers(t *testing.T) {
	w := newWorld(t, nil, webPod("web-1", findsNoNode))
	w.cfg.Closed = func(string) string { return "namespace shop is closed" }
	w.pass(t.Context())
	if len(w.saw.Policies[0].Peers) != 0 {
		t.Errorf("peers %v", w.saw.Policies[0].Peers)
	}
	if got := w.status.applied[0][0].Message; got != "0 pods at home, none in peers: namespace shop is closed" {
		t.Errorf("status says %q", got)
	}
}

// TestBursts_AutoscalerFirst: its Events are read while pods wait for it, and not more often than needed.
func TestBursts_AutoscalerFirst(t *testing.T) {
	w := newWorld(t, func(p *v1alpha1.OffloadPolicy) {
		p.Spec.Burst = &v1alpha1.Burst{ClusterAutoscaler: v1alpha1.AutoscalerFirst}
	}, webPod("web-1", findsNoNode), webPod("web-2", findsNoNode))
	lists := func() int {
		n := 0
		for _, a := range w.client.Actions() {
			if a.Matches("list", "events") {
				n++
			}
		}
		w.client.ClearActions()
		return n
	}
	again := w.pass(t.Context())
	if w.pass(t.Context()); lists() != 1 || again.Sub(w.clock.Now()) != scalingEvery || w.saw.Pods[0].ScaleUpRefused {
		t.Errorf("nothing said yet: %v, again after %s", w.saw.Pods[0].ScaleUpRefused, again.Sub(w.clock.Now()))
	}
	_, err := w.client.CoreV1().Events("shop").Create(t.Context(), &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "e"}, Reason: notTriggerScaleUp,
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", UID: "uid-web-2"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Step(scalingEvery)
	if w.pass(t.Context()); lists() != 1 || w.saw.Pods[0].ScaleUpRefused || !w.saw.Pods[1].ScaleUpRefused {
		t.Error("the autoscaler's word is not heard, or heard for another pod")
	}
	w.caches.pods = []*corev1.Pod{webPod("web-1", runsOn("home-1"))}
	w.clock.Step(scalingEvery)
	if again = w.pass(t.Context()); lists() != 0 || !again.IsZero() {
		t.Error("asked although nobody waits")
	}
}

// TestBursts_RunGathersChanges: many changes are one decision, and a time that Decide asks for is kept.
func TestBursts_RunGathersChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.bursts.cfg.Clock = clock.RealClock{}
		var decided atomic.Int32
		w.decide = func(in placement.Input) placement.Outcome {
			decided.Add(1)
			return placement.Outcome{Policies: make([]placement.State, 1), Next: in.Now.Add(time.Minute)}
		}
		go w.run(t.Context())
		synctest.Wait()
		for range 50 {
			w.bell.ring()
			<-time.After(time.Millisecond)
		}
		<-time.After(time.Second)
		if decided.Load() != 1 {
			t.Errorf("decided %d times about changes within %s", decided.Load(), gatherFor)
		}
		<-time.After(time.Minute)
		if decided.Load() != 2 {
			t.Errorf("decided %d times within the minute after which it was to be decided again", decided.Load()-1)
		}
		w.policies.notify("shop")
		if <-time.After(time.Second); decided.Load() != 3 {
			t.Error("not decided again when policies have changed")
		}
	})
}

func TestBursts_NothingIsDecidedOnHalfKnowledge(t *testing.T) {
	w := newWorld(t, nil, webPod("web-1"))
	w.policies.unknown.Store(true)
	if again := w.pass(t.Context()); len(w.saw.Policies) != 0 || again.IsZero() {
		t.Error("decided before the policies are known, or never")
	}
	w.policies.unknown.Store(false)
	w.policies.sets = map[string]policy.Set{}
	if w.pass(t.Context()); len(w.saw.Pods) != 1 || w.saw.Pods[0].Policy != -1 {
		t.Errorf("pods %v", w.saw.Pods)
	}
}
