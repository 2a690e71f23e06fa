package placer

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/peering/v1alpha1/client"
	"github.com/spillway-dev/spillway/provider/placement"
)

var errRefused = errors.New("an admission webhook says no")

// fakePolicies are fixed; they are known once synced.
type fakePolicies struct {
	sets    map[string]policy.Set
	unknown atomic.Bool
	notify  func(string)
}

func (f *fakePolicies) Synced() bool                    { return !f.unknown.Load() }
func (f *fakePolicies) Set(namespace string) policy.Set { return f.sets[namespace] }
func (f *fakePolicies) Governed() map[string]policy.Set { return maps.Clone(f.sets) }
func (f *fakePolicies) Notify(changed func(string)) func() {
	f.notify = changed
	return func() {}
}

// fakeCaches show what a test puts in.
type fakeCaches struct {
	pods      []*corev1.Pod
	nodes     []*corev1.Node
	workloads map[string]placement.Workload // by name of the controller
}

func (f *fakeCaches) Run(ctx context.Context) { <-ctx.Done() }
func (f *fakeCaches) Synced() bool            { return true }
func (f *fakeCaches) Pods() []*corev1.Pod     { return f.pods }
func (f *fakeCaches) Nodes() []*corev1.Node   { return f.nodes }
func (f *fakeCaches) Of(pod *corev1.Pod) (placement.Workload, bool) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return placement.Workload{}, false
	}
	w, ok := f.workloads[owner.Name]
	return w, ok
}

// fakeMover notes moves; it refuses pods named in refuse.
type fakeMover struct {
	moved  []string
	refuse map[string]bool
}

func (f *fakeMover) Move(_ context.Context, m placement.Move) (bool, error) {
	if f.refuse[m.Pod.Name] {
		return true, nil
	}
	f.moved = append(f.moved, string(m.Kind)+" "+m.Pod.Name+": "+m.Why)
	return false, nil
}

// fakeStatus is the status of one policy as an API server keeps it.
type fakeStatus struct {
	client.Policies
	conditions []metav1.Condition
	gets       int
	applied    [][]metav1.Condition
	err        error
}

func (f *fakeStatus) Get(context.Context, string, metav1.GetOptions) (*v1alpha1.OffloadPolicy, error) {
	f.gets++
	return &v1alpha1.OffloadPolicy{Status: v1alpha1.OffloadPolicyStatus{Conditions: f.conditions}}, nil
}

func (f *fakeStatus) Patch(_ context.Context, _ string, kind types.PatchType, data []byte, opts metav1.PatchOptions, sub ...string) (*v1alpha1.OffloadPolicy, error) {
	if kind != types.ApplyPatchType || opts.FieldManager != v1alpha1.FieldManagerBurst || len(sub) != 1 || sub[0] != "status" {
		return nil, errors.New("not an apply of the status")
	}
	var p v1alpha1.OffloadPolicy
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, err
	}
	if f.err == nil {
		f.applied = append(f.applied, p.Status.Conditions)
	}
	return &p, f.err
}

// world is a bursts loop whose surroundings a test holds in its hands.
type world struct {
	*bursts
	policies *fakePolicies
	caches   *fakeCaches
	mover    *fakeMover
	status   *fakeStatus
	swept    int
	client   *fake.Clientset
	events   *record.FakeRecorder
	clock    *clocktesting.FakeClock
	saw      placement.Input // by the last decision
	outcome  placement.Outcome
}

// newWorld has two peers, two nodes at home, and a policy in namespace shop for pods with app=web.
func newWorld(t testing.TB, change func(*v1alpha1.OffloadPolicy), pods ...*corev1.Pod) *world {
	t.Helper()
	p := burstPolicy()
	if change != nil {
		change(p)
	}
	objects := make([]runtime.Object, 0, len(pods))
	for _, pod := range pods {
		objects = append(objects, pod.DeepCopy())
	}
	w := &world{
		policies: &fakePolicies{sets: map[string]policy.Set{"shop": policy.NewSet([]*v1alpha1.OffloadPolicy{p}, nil)}},
		caches: &fakeCaches{pods: pods, workloads: map[string]placement.Workload{}, nodes: []*corev1.Node{
			node("home-1", ""), node("spillway-west", "west"), node("spillway-east", "east"), node("home-2", ""),
		}},
		mover: &fakeMover{refuse: map[string]bool{}}, status: &fakeStatus{},
		client: fake.NewClientset(objects...), events: record.NewFakeRecorder(100),
		clock: clocktesting.NewFakeClock(time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)),
	}
	cfg := Config{
		Client: w.client, Policies: w.policies, Events: w.events, Log: zap.NewNop(), Clock: w.clock,
		Closed: func(string) string { return "" },
	}
	w.bursts = newBursts(cfg, func(string) client.Policies { return w.status })
	w.bursts.caches, w.bursts.mover = w.caches, w.mover
	w.bursts.sweep = func(context.Context) (bool, error) { w.swept++; return false, nil }
	w.bursts.decide = func(in placement.Input) placement.Outcome {
		w.saw = in
		out := w.outcome
		if out.Policies == nil {
			out.Policies = make([]placement.State, len(in.Policies))
		}
		return out
	}
	return w
}

// patches are the bodies of the patches of pods since the last call.
func (w *world) patches() []string {
	var out []string
	for _, a := range w.client.Actions() {
		if p, ok := a.(clienttesting.PatchAction); ok {
			out = append(out, p.GetName()+" "+string(p.GetPatch()))
		}
	}
	w.client.ClearActions()
	return out
}

// heard are the Events since the last call.
func (w *world) heard() []string {
	var out []string
	for {
		select {
		case e := <-w.events.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

func burstPolicy() *v1alpha1.OffloadPolicy {
	return &v1alpha1.OffloadPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "policy", Generation: 3},
		Spec: v1alpha1.OffloadPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, When: v1alpha1.OffloadBurst,
		},
	}
}

func node(name, peer string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	if peer != "" {
		n.Labels[v1alpha1.LabelPeer] = peer
	}
	return n
}

// webPod is a pod that waits, of namespace shop, with app=web.
func webPod(name string, changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "7", Labels: map[string]string{"app": "web"},
	}}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func ownedBy(kind, name string) func(*corev1.Pod) {
	yes := true
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: name, UID: types.UID("uid-" + name), Controller: &yes}}
	}
}

// runsOn binds a pod, which is Ready there.
func runsOn(node string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.NodeName, p.Status.Phase = node, corev1.PodRunning
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	}
}

func sentTo(peer string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Annotations = map[string]string{v1alpha1.AnnotationBurst: peer + "=2026-01-02T15:00:00Z"}
	}
}

func findsNoNode(p *corev1.Pod) {
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
	})
}

func behindGate(p *corev1.Pod) {
	p.Spec.SchedulingGates = append(p.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: v1alpha1.GatePlacement})
}
