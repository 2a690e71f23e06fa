package reflector

import (
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// testRules are Rules that tests may change while the loops run. Namespaces with the label leave=yes are open.
type testRules struct {
	mu        sync.Mutex
	all, none map[string]bool
	pod       PodRules
	class     string // never changed
}

func (r *testRules) Synced() bool { return true }

func (r *testRules) Namespace(ns *corev1.Namespace) NamespaceRules {
	r.mu.Lock()
	defer r.mu.Unlock()
	rules := NamespaceRules{All: r.all, None: r.none}
	if ns.Labels["leave"] != "yes" {
		rules.Refusal = "label the namespace"
	}
	return rules
}

func (r *testRules) Pod(ns *corev1.Namespace, _ *corev1.Pod, _ string) PodRules {
	refusal := r.Namespace(ns).Refusal
	r.mu.Lock()
	defer r.mu.Unlock()
	rules := r.pod
	if refusal != "" {
		rules.Refusal = refusal
	}
	return rules
}

func (r *testRules) StorageClass(string, string) string { return r.class }

func (r *testRules) change(l *loop, do func(*testRules)) {
	r.mu.Lock()
	do(r)
	r.mu.Unlock()
	l.pair.home.RulesChanged("shop")
	l.settle()
}

// TestLoop_RulesReach: what follows of a namespace widens and narrows with the rules.
func TestLoop_RulesReach(t *testing.T) {
	unused := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "unused", Namespace: "shop", UID: "cm-2"}}
	runLoop(t, objects(unused, webService()), nil, nil, func(l *loop) {
		l.wrote("start", nil, []string{"create services shop-1f2e/web"})
		l.rules.change(l, func(r *testRules) { r.all = map[string]bool{"configmap": true} })
		l.wrote("all ConfigMaps", nil, []string{"create configmaps shop-1f2e/unused"})
		l.pass(time.Hour)
		l.wrote("an hour later", nil, nil)
		l.rules.change(l, func(r *testRules) { r.all, r.none = nil, map[string]bool{"service": true} })
		if got := l.writes(l.peer); len(got) != 2 {
			t.Errorf("used ConfigMaps and no Services: %v", got)
		}
		l.rules.change(l, func(r *testRules) { r.none = nil })
		l.wrote("Services again", nil, []string{"create services shop-1f2e/web"})
	})
}

// TestLoop_RulesOfPods: a pod that may not be on the node gets no twin; one that has a twin keeps it. The twin is made with the patch.
func TestLoop_RulesOfPods(t *testing.T) {
	prepare := func(l *loop) { l.rules.pod.Refusal = "OffloadPolicy x keeps this pod at home" }
	runLoop(t, objects(localPod()), nil, prepare, func(l *loop) {
		l.wrote("start", []string{"patch pods/status shop/web"}, nil)
		l.rules.change(l, func(r *testRules) {
			r.pod = PodRules{NodeSelector: map[string]string{"pool": "guests"}, RuntimeClassName: ptr.To("gvisor"),
				Tolerations: []corev1.Toleration{{Key: "guests", Operator: corev1.TolerationOpExists}}}
		})
		l.wrote("it may", []string{"patch pods/status shop/web"}, []string{"create pods shop-1f2e/web"})
		twin, err := l.peer.CoreV1().Pods("shop-1f2e").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if s := twin.Spec; s.NodeSelector["pool"] != "guests" || *s.RuntimeClassName != "gvisor" || len(s.Tolerations) != 1 {
			t.Errorf("the twin is not patched: %+v", s)
		}
		l.rules.change(l, func(r *testRules) { r.pod = PodRules{Refusal: "no longer"} })
		l.pass(time.Hour)
		l.wrote("it may no longer", nil, nil)
	})
}

// TestLoop_RecreateAfter: a pod with a controller goes when its peer is silent for as long as its policy says, not before; its twin
// ends when the peer is back.
func TestLoop_RecreateAfter(t *testing.T) {
	owned := func(pod *corev1.Pod) {
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web", Controller: ptr.To(true)}}
	}
	prepare := func(l *loop) { l.rules.pod.RecreateAfter = 10 * time.Minute }
	runLoop(t, objects(localPod(running, owned)), objects(twinOf(localPod(), running)), prepare, func(l *loop) {
		l.writes(l.home)
		l.pair.SetLost(true, time.Now().Add(-time.Minute))
		l.pass(9*time.Minute - 10*time.Second)
		l.wrote("held until then", []string{"patch pods shop/web"}, nil)
		l.pass(15 * time.Second)
		l.wrote("the time is up", []string{"delete pods shop/web"}, nil)
		l.pass(time.Hour)
		l.wrote("the outage goes on", nil, nil)
		l.pair.SetLost(false, time.Time{})
		l.settle()
		l.wrote("the peer is back", nil, []string{"delete pods shop-1f2e/web"})
	})
}

// TestLoop_RecreateNeedsAController: nobody would make a bare pod again.
func TestLoop_RecreateNeedsAController(t *testing.T) {
	prepare := func(l *loop) { l.rules.pod.RecreateAfter = time.Minute }
	runLoop(t, objects(localPod(running)), objects(twinOf(localPod(), running)), prepare, func(l *loop) {
		l.writes(l.home)
		l.pair.SetLost(true, time.Now())
		l.pass(time.Hour)
		l.wrote("an hour of outage", []string{"patch pods shop/web"}, nil)
		l.pair.SetLost(false, time.Time{})
		l.settle()
		l.wrote("the peer is back", nil, nil)
	})
}
