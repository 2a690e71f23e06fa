package moves

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
	"github.com/spillway-dev/spillway/provider/placer"
)

const (
	namespace = "shop"
	west      = "west"
	atMost    = 30 * time.Second // for one wish
)

// world is a cluster with a node of its own and one that plays a peer.
type world struct {
	*testing.T
	client  kubernetes.Interface
	caches  *placer.Caches
	mover   placer.Mover
	changed chan struct{}
	to      string       // where new pods go
	least   atomic.Int64 // Ready pods of the workload that is moved, ever
}

func TestMoves(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	l, err := lab.Up(t.Context(), lab.Options{Clusters: []lab.ClusterOptions{{Name: "home", Simulated: []lab.NodeGroup{
		{Prefix: "home", Count: 2}, {Prefix: "west", Count: 2, Labels: map[string]string{v1alpha1.LabelPeer: west}, Taints: []corev1.Taint{
			{Key: v1alpha1.TaintVirtualNode, Value: west, Effect: corev1.TaintEffectNoSchedule},
		}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	client, err := kubernetes.NewForConfig(l.Cluster("home").Config())
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]func(*world){"Deployment": deployment, "TurnsRound": turnsRound, "StatefulSet": statefulSet} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, client: client, mover: placer.NewMover(client, record.NewFakeRecorder(1000)), changed: make(chan struct{}, 1)}
			w.caches = placer.NewCaches(client, func() {
				select {
				case w.changed <- struct{}{}:
				default:
				}
			})
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { w.caches.Run(ctx); close(ended) }()
			defer func() { stop(); <-ended }()
			test(w)
		})
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// place opens the gates of pods, to where new ones go.
func (w *world) place(found placement.Workload) {
	w.Helper()
	for _, m := range found.Members {
		if len(m.Spec.SchedulingGates) == 0 {
			continue
		}
		spec := map[string]any{"schedulingGates": nil}
		if w.to != placement.Home {
			spec["nodeSelector"] = map[string]string{v1alpha1.LabelPeer: w.to}
			spec["tolerations"] = append(m.Spec.Tolerations, corev1.Toleration{Key: v1alpha1.TaintVirtualNode, Value: w.to})
		}
		patch, err := json.Marshal(map[string]any{"spec": spec})
		w.must(err)
		_, err = w.client.CoreV1().Pods(namespace).Patch(w.Context(), m.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		if !apierrors.IsNotFound(err) {
			w.must(err)
		}
	}
}

func template(app string) (*metav1.LabelSelector, corev1.PodTemplateSpec) {
	labels := map[string]string{"app": app}
	return &metav1.LabelSelector{MatchLabels: labels}, corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(1)), Containers: []corev1.Container{{Name: "c", Image: "none"}},
			SchedulingGates: []corev1.PodSchedulingGate{{Name: v1alpha1.GatePlacement}},
		},
	}
}

// makeDeployment makes a Deployment with a budget that lets none of its pods be missing, and waits for it.
func (w *world) makeDeployment(name string, replicas int32) {
	selector, pods := template(name)
	_, err := w.client.AppsV1().Deployments(namespace).Create(w.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector, Template: pods},
	}, metav1.CreateOptions{})
	w.must(err)
	_, err = w.client.PolicyV1().PodDisruptionBudgets(namespace).Create(w.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: selector, MinAvailable: new(intstr.FromInt32(replicas))},
	}, metav1.CreateOptions{})
	w.must(err)
	w.follow(v1alpha1.WorkloadDeployment, name, placement.Wish{To: placement.Home, Count: int(replicas)}, nil)
}

// follow makes moves until a wish is fulfilled, or enough says so after a move. It returns the moves, and sets w.least to how many Ready
// pods there were at least, those that were let go of too.
func (w *world) follow(kind v1alpha1.WorkloadKind, name string, wish placement.Wish, enough func(moves []string) bool) []string {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), atMost)
	defer cancel()
	w.least.Store(1 << 30)
	var log []string
	for {
		select {
		case <-ctx.Done():
			w.Fatalf("%s %s: not as wished after %s; moves %q\n%s", kind, name, atMost, log, w.seen(kind, name))
		case <-w.changed:
		case <-time.After(200 * time.Millisecond): // a budget may have changed its mind
		}
		found, ok := w.caches.Find(namespace, kind, name)
		if !ok || !w.caches.Synced() {
			continue
		}
		w.count(found)
		w.place(found)
		moves, done := placement.Next(found, wish, time.Now())
		for _, m := range moves {
			refused, err := w.mover.Move(ctx, m)
			w.must(err)
			if !refused {
				log = append(log, string(m.Kind)+" "+m.Pod.Name)
			}
		}
		if done || enough != nil && enough(log) {
			return log
		}
	}
}

// seen is what there is, for people.
func (w *world) seen(kind v1alpha1.WorkloadKind, name string) string {
	var b strings.Builder
	found, _ := w.caches.Find(namespace, kind, name)
	for _, m := range found.Members {
		fmt.Fprintf(&b, "%s at %q ready %v ending %v labels %v\n", m.Name, m.Place, placement.Ready(m.Pod), m.DeletionTimestamp, m.Labels)
	}
	budgets, err := w.client.PolicyV1().PodDisruptionBudgets(namespace).List(w.Context(), metav1.ListOptions{})
	if err != nil {
		fmt.Fprintf(&b, "budgets: %v\n", err)
		return b.String()
	}
	for i := range budgets.Items {
		fmt.Fprintf(&b, "budget %s: %+v\n", budgets.Items[i].Name, budgets.Items[i].Status)
	}
	return b.String()
}

func (w *world) count(found placement.Workload) {
	ready := int64(0)
	for _, m := range found.Members {
		if placement.Ready(m.Pod) {
			ready++
		}
	}
	w.least.Store(min(w.least.Load(), ready))
}

// expect says that each pod was moved once, with so many moves in all.
func (w *world) expect(log []string, want int) {
	w.Helper()
	seen := map[string]bool{}
	for _, m := range log {
		seen[m] = true // asked for again while a cache was late
	}
	if len(seen) != want {
		text, _ := json.Marshal(log)
		w.Errorf("%d moves, want %d: %s", len(seen), want, text)
	}
}

// deployment moves all pods there and back under a budget that lets none be missing.
func deployment(w *world) {
	w.makeDeployment("web", 6)
	for _, to := range []string{west, placement.Home} {
		w.to = to
		log := w.follow(v1alpha1.WorkloadDeployment, "web", placement.Wish{To: to, Count: 6, AtOnce: 2, Why: "Because."}, nil)
		w.expect(log, 12) // each is let go of, and evicted
		if n := w.least.Load(); n < 6 {
			w.Errorf("to %q: %d Ready pods of 6", to, n)
		}
	}
}

// turnsRound comes back half-way. What was let go of and is still there stays.
func turnsRound(w *world) {
	w.makeDeployment("turn", 4)
	w.to = "north" // a peer without nodes
	wish := placement.Wish{To: w.to, Count: 4, AtOnce: 2, Why: "Because."}
	w.follow(v1alpha1.WorkloadDeployment, "turn", wish, func(moves []string) bool { return len(moves) >= 2 })
	w.until("the ReplicaSet has made others", func() bool {
		found, _ := w.caches.Find(namespace, v1alpha1.WorkloadDeployment, "turn")
		w.place(found)
		return len(found.Members) == 6 && !slices.ContainsFunc(found.Members, func(m placement.Member) bool { return len(m.Spec.SchedulingGates) > 0 })
	})
	w.to, wish.To = placement.Home, placement.Home
	before, _ := w.caches.Find(namespace, v1alpha1.WorkloadDeployment, "turn")
	w.follow(v1alpha1.WorkloadDeployment, "turn", wish, nil)
	if n := w.least.Load(); n < 4 {
		w.Errorf("%d Ready pods of 4", n)
	}
	old := map[types.UID]bool{}
	for _, m := range before.Members {
		old[m.UID] = placement.Ready(m.Pod)
	}
	after, _ := w.caches.Find(namespace, v1alpha1.WorkloadDeployment, "turn")
	for _, m := range after.Members {
		if m.DeletionTimestamp == nil && !old[m.UID] {
			w.Errorf("pod %s is new, although nobody needed to leave", m.Name)
		}
		if owner := metav1.GetControllerOf(m.Pod); owner == nil || m.Labels[v1alpha1.LabelMoving] != "" {
			w.Errorf("pod %s was not taken back: labels %v, owner %v", m.Name, m.Labels, owner)
		}
	}
}

func (w *world) until(what string, f func() bool) {
	w.Helper()
	deadline := time.After(atMost)
	for !f() {
		select {
		case <-deadline:
			w.Fatalf("%s: not in %s", what, atMost)
		case <-w.changed:
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// statefulSet moves ordinal by ordinal.
func statefulSet(w *world) {
	selector, pods := template("db")
	_, err := w.client.AppsV1().StatefulSets(namespace).Create(w.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec:       appsv1.StatefulSetSpec{Replicas: new(int32(3)), Selector: selector, Template: pods, ServiceName: "db"},
	}, metav1.CreateOptions{})
	w.must(err)
	wish := placement.Wish{To: placement.Home, Count: 3, AtOnce: 3, Why: "Because."}
	w.follow(v1alpha1.WorkloadStatefulSet, "db", wish, nil)
	for _, to := range []string{west, placement.Home} {
		w.to = to
		wish.To = to
		log := w.follow(v1alpha1.WorkloadStatefulSet, "db", wish, nil)
		w.expect(log, 3)
		if n := w.least.Load(); n < 2 {
			w.Errorf("to %q: %d Ready pods of 3", to, n)
		}
		if log[0] != "Evict db-2" || log[len(log)-1] != "Evict db-0" {
			w.Errorf("to %q: moves %q, want the highest ordinal first", to, log)
		}
	}
}
