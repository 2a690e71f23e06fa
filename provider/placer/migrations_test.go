package placer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/peering/v1alpha1/client"
	"github.com/spillway-dev/spillway/provider/placement"
)

// migCluster is a cluster with a Deployment, a Migration of it, and those who act on them: admission, the scheduler and kubelets.
type migCluster struct {
	t        *testing.T
	clock    *clocktesting.FakeClock
	client   *fake.Clientset
	events   *record.FakeRecorder
	m        *migrations
	mg       *v1alpha1.Migration
	pods     []*corev1.Pod
	nodes    []*corev1.Node
	replicas int
	made     int             // pods that were ever made
	begun    map[string]int  // pods that were assigned, and for how many seconds
	moved    int             // moves that were made
	stale    bool            // somebody else has written the Migration
	log      []string        // phases
	faults   map[string]bool // names of pods that a budget keeps
}

func newMigCluster(t *testing.T, replicas int32, spec v1alpha1.MigrationSpec) *migCluster {
	c := &migCluster{t: t, clock: clocktesting.NewFakeClock(time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)), client: fake.NewClientset(),
		events: record.NewFakeRecorder(1000), replicas: int(replicas), begun: map[string]int{}, faults: map[string]bool{}}
	spec.Workloads = v1alpha1.WorkloadChoice{Names: []v1alpha1.WorkloadName{{Kind: v1alpha1.WorkloadDeployment, Name: "web"}}}
	c.mg = &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "go", UID: "m", ResourceVersion: "1", Generation: 1}, Spec: spec}
	for _, peer := range []string{"", "west"} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-" + peer, Labels: map[string]string{}}, Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("110")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
		if peer != "" {
			n.Labels[v1alpha1.LabelPeer] = peer
		}
		c.nodes = append(c.nodes, n)
	}
	labels := map[string]string{"app": "web"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: appsv1.DeploymentSpec{Replicas: &replicas,
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}}}}
	for _, o := range []runtime.Object{d, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}} {
		if err := c.client.Tracker().Add(o); err != nil {
			t.Fatal(err)
		}
	}
	c.client.PrependReactor("patch", "pods", c.patchPod)
	for range replicas {
		c.create()
	}
	for range 3 {
		c.act()
	}
	c.restart()
	return c
}

// restart starts another process.
func (c *migCluster) restart() {
	if c.m != nil {
		c.m.gates.wait()
	}
	c.m = newMigrations(Config{Client: c.client, REST: &rest.Config{}, Policies: migPolicies{}, Events: c.events, Log: zap.NewNop(), Clock: c.clock}, c, c)
	c.m.client = func(string) client.Migrations { return migClient{c: c} }
	c.m.next = c.next
	c.t.Cleanup(c.m.gates.wait)
}

// create makes a pod, as the ReplicaSet and admission do.
func (c *migCluster) create() {
	c.made++
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("web-%03d", c.made), UID: types.UID(fmt.Sprint(c.made)),
		ResourceVersion: fmt.Sprintf("%d-1", c.made), Labels: map[string]string{"app": "web", "pod-template-hash": "x"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-x", Controller: new(true)}}}}
	switch share := c.mg.Status.Share; {
	case share >= 100:
		pod.Spec.NodeSelector = map[string]string{v1alpha1.LabelPeer: "west"}
	case share > 0:
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.GatePlacement}}
	}
	c.pods = append(c.pods, pod)
}

// act is a second of the scheduler and the kubelets: pods are Ready two seconds after they may run.
func (c *migCluster) act() {
	for i, pod := range c.pods {
		if len(pod.Spec.SchedulingGates) > 0 || pod.Spec.NodeName != "" {
			continue
		}
		if c.begun[pod.Name]++; c.begun[pod.Name] > 2 {
			pod = pod.DeepCopy()
			pod.Spec.NodeName = "node-" + pod.Spec.NodeSelector[v1alpha1.LabelPeer]
			pod.Status.Phase = corev1.PodRunning
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			pod.ResourceVersion += "1"
			c.pods[i] = pod
		}
	}
}

func (c *migCluster) patchPod(action clienttesting.Action) (bool, runtime.Object, error) {
	patch := action.(clienttesting.PatchAction)
	i := slices.IndexFunc(c.pods, func(p *corev1.Pod) bool { return p.Name == patch.GetName() })
	if i < 0 {
		return true, nil, apierrors.NewNotFound(corev1.Resource("pods"), patch.GetName())
	}
	var said metav1.PartialObjectMetadata
	if err := json.Unmarshal(patch.GetPatch(), &said); err != nil || said.UID != c.pods[i].UID || said.ResourceVersion != c.pods[i].ResourceVersion {
		return true, nil, apierrors.NewConflict(corev1.Resource("pods"), patch.GetName(), err)
	}
	pod := &corev1.Pod{}
	if err := merge(c.pods[i], patch.GetPatch(), pod); err != nil {
		return true, nil, err
	}
	pod.ResourceVersion += "1"
	c.pods[i] = pod
	return true, pod, nil
}

func merge(from any, patch []byte, into any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	if text, err = jsonpatch.MergePatch(text, patch); err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// What the loop reads.

func (c *migCluster) Synced() bool          { return true }
func (c *migCluster) Pods() []*corev1.Pod   { return slices.Clone(c.pods) }
func (c *migCluster) Nodes() []*corev1.Node { return c.nodes }
func (c *migCluster) Find(_ string, kind v1alpha1.WorkloadKind, name string) (placement.Workload, bool) {
	w := placement.Workload{Namespace: "shop", Kind: string(kind), Name: name, Replicas: int32(c.replicas)}
	for _, pod := range c.pods {
		w.Members = append(w.Members, placement.Member{Pod: pod, Place: pod.Spec.NodeSelector[v1alpha1.LabelPeer]})
	}
	return w, name == "web"
}

// next evicts what is elsewhere, some at a time.
func (c *migCluster) next(w placement.Workload, wish placement.Wish, _ time.Time) (moves []placement.Move, done bool) {
	there, away := 0, 0
	for _, m := range w.Members {
		if m.Place == wish.To && !awaitsPlace(m.Pod) {
			there++
		}
		if m.Spec.NodeName == "" {
			away++
		}
	}
	for _, m := range w.Members {
		if m.Place != wish.To && m.Spec.NodeName != "" && there+away < wish.Count+away && len(moves)+away < wish.AtOnce && there+len(moves) < wish.Count {
			moves = append(moves, placement.Move{Kind: placement.Evict, Pod: m.Pod, Why: wish.Why})
		}
	}
	return moves, false
}

// Move ends a pod, and its ReplicaSet makes another one.
func (c *migCluster) Move(_ context.Context, move placement.Move) (refused bool, err error) {
	i := slices.IndexFunc(c.pods, func(p *corev1.Pod) bool { return p.UID == move.Pod.UID })
	if i < 0 {
		c.t.Errorf("pod %s is moved twice", move.Pod.Name)
		return false, nil
	}
	if c.faults[move.Pod.Name] {
		return true, nil
	}
	if c.mg.Status.Share == 0 && c.mg.Status.Phase != v1alpha1.MigrationRollingBack {
		c.t.Errorf("pod %s is moved before it is said where others go", move.Pod.Name)
	}
	switch pod := c.pods[i].DeepCopy(); move.Kind {
	case placement.Release:
		text, err := json.Marshal(move.Moving)
		if err != nil {
			return false, err
		}
		pod.Labels[v1alpha1.LabelMoving], pod.Labels["pod-template-hash"] = "rs", "x-moving"
		pod.Annotations, pod.OwnerReferences = map[string]string{v1alpha1.AnnotationMoving: string(text)}, nil
		pod.ResourceVersion += "1"
		c.pods[i] = pod
		c.create()
	case placement.Evict:
		c.pods = slices.Delete(c.pods, i, i+1)
		c.moved++
		if len(pod.OwnerReferences) > 0 {
			c.create()
		}
	default:
		c.t.Errorf("%s of pod %s", move.Kind, pod.Name)
	}
	return false, nil
}

// sweep evicts those that were let go of once the ReplicaSet has its pods again, as the other loop does.
func (c *migCluster) sweep() {
	ready := 0
	for _, pod := range c.pods {
		if pod.Labels[v1alpha1.LabelMoving] == "" && pod.Spec.NodeName != "" {
			ready++
		}
	}
	c.pods = slices.DeleteFunc(c.pods, func(pod *corev1.Pod) bool {
		gone := pod.Labels[v1alpha1.LabelMoving] != "" && ready >= c.replicas
		if gone {
			c.moved++
		}
		return gone
	})
}

func (c *migCluster) Sweep(context.Context) error { return nil }

type migPolicies struct{}

func (migPolicies) Synced() bool                    { return true }
func (migPolicies) Set(string) policy.Set           { return policy.Set{} }
func (migPolicies) Governed() map[string]policy.Set { return nil }
func (migPolicies) Notify(func(string)) func()      { return func() {} }

// migClient writes the status of the cluster's Migration.
type migClient struct {
	client.Migrations
	c *migCluster
}

func (m migClient) Patch(_ context.Context, name string, _ types.PatchType, patch []byte, _ metav1.PatchOptions, sub ...string) (*v1alpha1.Migration, error) {
	var said metav1.PartialObjectMetadata
	if err := json.Unmarshal(patch, &said); err != nil || said.ResourceVersion != m.c.mg.ResourceVersion || m.c.stale {
		return nil, apierrors.NewConflict(v1alpha1.MigrationResource.GroupResource(), name, err)
	}
	if !slices.Equal(sub, []string{"status"}) || said.UID != m.c.mg.UID {
		m.c.t.Errorf("patched %v of %s", sub, said.UID)
	}
	now := &v1alpha1.Migration{}
	if err := merge(m.c.mg, patch, now); err != nil {
		return nil, err
	}
	now.ResourceVersion += "1"
	if now.Status.Phase != m.c.mg.Status.Phase || now.Status.Share != m.c.mg.Status.Share {
		m.c.log = append(m.c.log, fmt.Sprintf("%s %d%% %s", now.Status.Phase, now.Status.Share, now.Status.Moved))
	}
	m.c.mg = now
	return now, nil
}

// spec changes what is wanted.
func (c *migCluster) spec(change func(*v1alpha1.MigrationSpec)) {
	c.mg = c.mg.DeepCopy()
	change(&c.mg.Spec)
	c.mg.Generation++
	c.mg.ResourceVersion += "1"
}

// second passes one, with two passes of the loop.
func (c *migCluster) second() {
	for range 2 {
		c.m.pass(c.t.Context(), []*v1alpha1.Migration{c.mg})
		c.clock.Step(500 * time.Millisecond)
		<-time.After(200 * time.Microsecond) // gates are asked beside
	}
	c.sweep()
	c.act()
}

func (c *migCluster) until(phase v1alpha1.MigrationPhase) time.Duration {
	c.t.Helper()
	start := c.clock.Now()
	for range 1000 {
		if c.second(); c.mg.Status.Phase == phase {
			return c.clock.Since(start)
		}
	}
	c.t.Fatalf("never %s: %s, %s, %v", phase, c.mg.Status.Phase, c.mg.Status.Message, c.log)
	return 0
}

// expect says how many pods are where, and how many were moved.
func (c *migCluster) expect(home, west, moved int) {
	c.t.Helper()
	places := map[string]int{}
	for _, pod := range c.pods {
		places[pod.Spec.NodeName]++
	}
	if places["node-"] != home || places["node-west"] != west || c.moved != moved {
		c.t.Errorf("%v, %d were moved; want %d at home, %d in west, %d moved", places, c.moved, home, west, moved)
	}
}

func (c *migCluster) heard() string {
	var out []string
	for len(c.events.Events) > 0 {
		if e := <-c.events.Events; !strings.Contains(e, "Assigned") {
			out = append(out, e)
		}
	}
	return strings.Join(out, "\n")
}

func toWest(steps ...int32) v1alpha1.MigrationSpec {
	return v1alpha1.MigrationSpec{To: v1alpha1.Destination{Peer: "west"}, Steps: steps}
}

func TestMigrations_Whole(t *testing.T) {
	c := newMigCluster(t, 10, toWest(10, 50, 100))
	c.until(v1alpha1.MigrationCompleted)
	c.expect(0, 10, 10)
	want := "Moving 10% 0/10, Gating 10% 1/10, Moving 50% 1/10, Gating 50% 5/10, Moving 100% 5/10, Gating 100% 10/10, Completed 100% 10/10"
	if have := strings.Join(c.log, ", "); have != want {
		t.Errorf("phases %s\n want %s", have, want)
	}
	heard := c.heard()
	for _, want := range []string{"Normal Moving step 1 of 3 (10%)", "Normal GateHolds step 2 of 3 (50%): its pods were Ready for 10s", "Normal Completed all has moved to west"} {
		if !strings.Contains(heard, want) {
			t.Errorf("no Event %q in\n%s", want, heard)
		}
	}
	if w, _ := c.Find("shop", v1alpha1.WorkloadDeployment, "web"); c.m.wished(w) {
		t.Error("a completed Migration moves its workload")
	}
	version := c.mg.ResourceVersion
	for range 20 {
		c.second()
	}
	if c.mg.ResourceVersion != version || c.heard() != "" {
		t.Error("a completed Migration is written")
	}
	c.spec(func(s *v1alpha1.MigrationSpec) { s.Rollback = true })
	c.until(v1alpha1.MigrationRolledBack)
	c.expect(10, 0, 20)
}

func TestMigrations_FailingGateRollsBack(t *testing.T) {
	var broken atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	spec := toWest(50, 100)
	spec.Gate.HTTP = &v1alpha1.HTTPGate{URL: server.URL}
	c := newMigCluster(t, 10, spec)
	for c.mg.Status.Step < 2 {
		c.second()
	}
	broken.Store(true)
	c.until(v1alpha1.MigrationRollingBack)
	if took := c.until(v1alpha1.MigrationRolledBack); took > time.Minute {
		t.Errorf("rolled back in %s", took)
	}
	c.expect(10, 0, 20)
	if heard := c.heard(); !strings.Contains(heard, "Warning GateFailed step 2 of 2 (100%)") || !strings.Contains(heard, "Warning RolledBack rolled back: step 2 of 2") {
		t.Errorf("Events\n%s", heard)
	}
}

func TestMigrations_PauseAndResume(t *testing.T) {
	c := newMigCluster(t, 10, toWest(50, 100))
	w, _ := c.Find("shop", v1alpha1.WorkloadDeployment, "web")
	if !c.m.wished(w) {
		t.Error("before the first pass it is known that nothing moves")
	}
	for c.moved < 3 {
		c.second()
	}
	if !c.m.wished(w) {
		t.Error("the workload is not moved while it is")
	}
	c.spec(func(s *v1alpha1.MigrationSpec) { s.Paused = true })
	c.until(v1alpha1.MigrationPaused)
	for range 20 {
		c.second() // those on their way arrive
	}
	moved := c.moved
	for range 60 {
		c.second()
	}
	if c.m.wished(w) {
		t.Error("a paused Migration moves its workload")
	}
	if c.expect(10-moved, moved, moved); moved > 5 {
		t.Errorf("%d were moved, while half of them may", moved)
	}
	c.spec(func(s *v1alpha1.MigrationSpec) { s.Paused = false })
	c.until(v1alpha1.MigrationCompleted)
	c.expect(0, 10, 10)
}

// TestMigrations_Restarts: a process that starts anew at any moment goes on, and moves nothing twice.
func TestMigrations_Restarts(t *testing.T) {
	for every := 1; every < 12; every++ {
		c := newMigCluster(t, 6, toWest(30, 100))
		c.mg.Spec.Gate.Soak = &metav1.Duration{Duration: 4 * time.Second}
		for i := range 200 {
			if c.second(); i%every == 0 && i < 40 {
				c.restart()
			}
			if c.mg.Status.Phase == v1alpha1.MigrationCompleted {
				break
			}
		}
		if c.mg.Status.Phase != v1alpha1.MigrationCompleted {
			t.Errorf("restarted every %d seconds, it is %s: %s", every, c.mg.Status.Phase, c.mg.Status.Message)
		}
		c.expect(0, 6, 6)
	}
}

func TestMigrations_Refused(t *testing.T) {
	c := newMigCluster(t, 2, v1alpha1.MigrationSpec{To: v1alpha1.Destination{Peer: "east"}})
	c.until(v1alpha1.MigrationRefused)
	for range 20 {
		c.second()
	}
	c.expect(2, 0, 0)
	if heard := c.heard(); !strings.Contains(heard, "Warning Refused there is no peer east") || strings.Contains(heard, "\n") {
		t.Errorf("Events\n%s", heard)
	}
}

// TestMigrations_WaitWhenNotWritten: nothing moves while the status cannot be written.
func TestMigrations_WaitWhenNotWritten(t *testing.T) {
	c := newMigCluster(t, 2, toWest(100))
	c.stale = true
	for range 30 {
		c.second()
	}
	c.expect(2, 0, 0)
	c.stale = false
	c.until(v1alpha1.MigrationCompleted)
	c.expect(0, 2, 2)
}

func TestMigrations_BudgetThatWaits(t *testing.T) {
	c := newMigCluster(t, 2, toWest(100))
	for _, pod := range c.pods {
		c.faults[pod.Name] = true
	}
	for range 60 {
		c.second()
	}
	c.expect(2, 0, 0)
	if want := "step 1 of 1 (100%): 0 of 2 pods are Ready in west, 2 of 2 in all; a PodDisruptionBudget lets no more of them go now"; c.mg.Status.Message != want {
		t.Errorf("says %q", c.mg.Status.Message)
	}
	clear(c.faults)
	c.until(v1alpha1.MigrationCompleted)
	c.expect(0, 2, 2)
}

func TestMigrations_NewestOwns(t *testing.T) {
	workloads := []v1alpha1.MigratedWorkload{{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadDeployment, Name: "web"}}}
	at := func(name string, age int, phase v1alpha1.MigrationPhase) *v1alpha1.Migration {
		return &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name),
			CreationTimestamp: metav1.NewTime(time.Unix(int64(1000-age), 0))}, Status: v1alpha1.MigrationStatus{Phase: phase, Workloads: workloads}}
	}
	for want, all := range map[string][]*v1alpha1.Migration{
		"new": {at("new", 1, "Moving"), at("old", 2, "Completed")},
		"old": {at("new", 1, "Refused"), at("old", 2, "Completed")},
		"a":   {at("b", 1, "Moving"), at("a", 1, "Moving")},
	} {
		m := newMigrations(Config{REST: &rest.Config{}}, nil, nil)
		if have := migrationOwners(m.latest(all))["shop/Deployment/web"].Name; have != want {
			t.Errorf("%s owns it, want %s", have, want)
		}
	}
}

// TestMigrations_Run: the loop follows the kind over the API, and writes the status where the API server takes it.
func TestMigrations_Run(t *testing.T) {
	c := newMigCluster(t, 1, v1alpha1.MigrationSpec{To: v1alpha1.Destination{Peer: "east"}})
	c.mg.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Migration"}
	patched := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodPatch:
			body, err := io.ReadAll(r.Body)
			patched <- fmt.Sprintf("%s %s %v", r.URL.Path, body, err)
			_ = json.NewEncoder(w).Encode(c.mg)
		case r.URL.Query().Get("sendInitialEvents") != "":
			w.WriteHeader(http.StatusUnprocessableEntity)
		case r.URL.Query().Get("watch") != "":
			<-r.Context().Done()
		default:
			_ = json.NewEncoder(w).Encode(v1alpha1.MigrationList{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "MigrationList"},
				ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []v1alpha1.Migration{*c.mg}})
		}
	}))
	defer server.Close()
	m := newMigrations(Config{Client: c.client, REST: &rest.Config{Host: server.URL}, Policies: migPolicies{}, Events: c.events, Log: zap.NewNop(),
		Clock: clock.RealClock{}}, c, c)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	ended := make(chan struct{})
	go func() { defer close(ended); m.run(ctx) }()
	select {
	case have := <-patched:
		if !strings.HasPrefix(have, "/apis/spillway.dev/v1alpha1/namespaces/shop/migrations/go/status ") || !strings.Contains(have, `"phase":"Refused"`) {
			t.Errorf("patched %s", have)
		}
	case <-ctx.Done():
		t.Error("nothing was written")
	}
	cancel()
	<-ended
}

func TestAssignPatch(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", ResourceVersion: "7"}, Spec: corev1.PodSpec{
		SchedulingGates: []corev1.PodSchedulingGate{{Name: "other"}, {Name: v1alpha1.GatePlacement}},
		Tolerations:     []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: "Exists", Effect: "NoExecute", TolerationSeconds: new(int64(300))}},
		Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: "Exists"}}}}}}},
	}}
	const head = `{"metadata":{"annotations":{"spillway.dev/placement":"so"},"resourceVersion":"7","uid":"u"},"spec":{`
	for to, want := range map[string]string{
		placement.Home: head + `"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[` +
			`{"key":"disk","operator":"Exists"},{"key":"spillway.dev/peer","operator":"DoesNotExist"}]}]}}},"schedulingGates":[{"name":"other"}]}}`,
		"west": head + `"nodeSelector":{"spillway.dev/peer":"west"},"schedulingGates":[{"name":"other"}],"tolerations":[` +
			`{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":3153600000},` +
			`{"key":"spillway.dev/virtual-node","operator":"Equal","value":"west","effect":"NoSchedule"}]}}`,
	} {
		have, err := assignPatch(placement.Assignment{Pod: pod, To: to, Why: "so"})
		if err != nil || cmp.Compare(string(have), want) != 0 {
			t.Errorf("%v\nhave %s\nwant %s", err, have, want)
		}
	}
	if len(pod.Spec.SchedulingGates) != 2 || *pod.Spec.Tolerations[0].TolerationSeconds != 300 {
		t.Error("the shared pod was changed")
	}
}
