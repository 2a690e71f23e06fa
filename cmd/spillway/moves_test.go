package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

// migrated is a Migration of web to cloud in three steps that is in the middle of its second.
func migrated(change func(*v1alpha1.Migration)) *v1alpha1.Migration {
	m := &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-to-cloud", CreationTimestamp: ago(10 * time.Minute)}}
	m.Spec.To, m.Spec.Steps = v1alpha1.Destination{Peer: "cloud"}, []int32{10, 50, 100}
	stepTime := ago(time.Minute)
	m.Status = v1alpha1.MigrationStatus{Phase: v1alpha1.MigrationGating, Step: 2, Share: 50, Message: "soaks for 20s more", StepTime: &stepTime,
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionGateHolds, Status: metav1.ConditionTrue, Reason: "Holds", Message: "0.0 % errors, p99 12ms"}},
		Workloads: []v1alpha1.MigratedWorkload{
			{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadDeployment, Name: "web"}, Replicas: 10, Moved: 5},
			{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadStatefulSet, Name: "queue"}, From: "west", Replicas: 3, Moved: 1}}}
	change(m)
	return m
}

// manyPods are pods on the virtual node of cloud.
func manyPods(change func(pods []corev1.Pod)) drainFacts {
	yes := true
	var pods []corev1.Pod
	for _, name := range []string{"web-a", "web-b", "job-a", "agent", "bare", "over"} {
		kind := map[string]string{"web-a": "ReplicaSet", "web-b": "ReplicaSet", "job-a": "Job", "agent": "DaemonSet"}[name]
		pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), Labels: map[string]string{"app": strings.Split(name, "-")[0], "pod-template-hash": "7"}}}
		if kind != "" {
			pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: "web-7", Controller: &yes}}
		}
		pods = append(pods, pod)
	}
	pods[1].Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	pods[5].Status.Phase = corev1.PodSucceeded
	if change != nil {
		change(pods)
	}
	return drainFacts{peer: "cloud", pods: pods, namespaces: map[string]governedNamespace{}}
}

// ruled has policies govern the pods of f, and other peers there.
func (f drainFacts) ruled(spec v1alpha1.OffloadPolicySpec, migrations []*v1alpha1.Migration, peers ...string) drainFacts {
	f.namespaces["shop"] = governedNamespace{policies: policy.NewSet([]*v1alpha1.OffloadPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: spec}}, migrations)}
	for _, peer := range peers {
		f.others = append(f.others, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: peer, Labels: map[string]string{v1alpha1.LabelPeer: peer}}})
	}
	return f
}

func drained(f drainFacts) string {
	plan := planDrain(f)
	text := strings.Join(plan.lines(), "\n") + "\n"
	if err := plan.refusal(f.peer); err != nil {
		text += "refused: " + err.Error() + "\n"
	}
	return text
}

// shown is what migrate status prints of a Migration, and how migrate ends with it.
func shown(t *testing.T, change func(*v1alpha1.Migration)) string {
	var text bytes.Buffer
	m := migrated(change)
	if err := printMigration(&text, m, ago(0).Time); err != nil {
		t.Fatal(err)
	}
	if err := verdictOn(m); err != nil {
		text.WriteString("error: " + err.Error() + "\n")
	}
	return text.String()
}

// placedPod is what explain says of Spillway's doing with a pod of a bursting policy.
func placedPod(t *testing.T, change func(*podFacts)) string {
	f := offloaded()
	f.unbind()
	f.govern(v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadBurst})
	f.schedulerSays("0/3 nodes are available: 3 Insufficient cpu.")
	f.pod.Annotations, f.pod.Labels = map[string]string{}, map[string]string{}
	change(&f)
	var text strings.Builder
	for line := range strings.Lines(storyOf(t, f)) {
		for _, name := range []string{"  overflow ", "  sent ", "  moving ", "  spillway said "} {
			if strings.HasPrefix(line, name) {
				text.WriteString(line)
			}
		}
	}
	return text.String()
}

func moves(t *testing.T) map[string]string {
	always := v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways, Peers: []v1alpha1.PeerChoice{{Name: "cloud"}, {Name: "west"}}}
	onlyWeb := func(pods []corev1.Pod) {
		for i := range pods {
			pods[i].OwnerReferences = pods[0].OwnerReferences
		}
	}
	stays := manyPods(onlyWeb).ruled(always, []*v1alpha1.Migration{migrated(func(m *v1alpha1.Migration) { m.Status.Share = 100 })}, "west")
	goes := manyPods(onlyWeb).ruled(always, []*v1alpha1.Migration{migrated(func(m *v1alpha1.Migration) { m.Spec.To, m.Status.Share = v1alpha1.Destination{Home: true}, 100 })})
	moving, err := json.Marshal(placement.Moving{Controller: "web-7", Hash: "7", To: placement.Home, Why: "there is room at home", At: ago(0).Time})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"drain":                            drained(manyPods(nil)),
		"drain, a pod that is being moved": drained(manyPods(func(pods []corev1.Pod) { pods[4].Labels[v1alpha1.LabelMoving] = "uid" })),
		"drain, nothing there":             drained(drainFacts{}),
		"drain, the only peer":             drained(manyPods(onlyWeb).ruled(always, nil)),
		"drain, another peer":              drained(manyPods(onlyWeb).ruled(always, nil, "west")),
		"drain, another peer is no choice": drained(manyPods(onlyWeb).ruled(always, nil, "north")),
		"drain, a Migration holds":         drained(stays),
		"drain, a Migration takes away":    drained(goes),
		"status, gating":                   shown(t, func(*v1alpha1.Migration) {}),
		"status, moving": shown(t, func(m *v1alpha1.Migration) {
			m.Status.Phase, m.Status.Message = v1alpha1.MigrationMoving, "step 2 of 3 (50%): 6 of 7 pods are there"
		}),
		"status, new": shown(t, func(m *v1alpha1.Migration) { m.Status = v1alpha1.MigrationStatus{} }),
		"status, paused": shown(t, func(m *v1alpha1.Migration) {
			m.Status.Phase, m.Status.Message = v1alpha1.MigrationPaused, "paused: step 2 of 3 (50%): 12 % of the requests failed"
		}),
		"status, rolling back": shown(t, func(m *v1alpha1.Migration) {
			m.Status.Phase, m.Status.Message = v1alpha1.MigrationRollingBack, "rolls back: 3 of 13 pods are Ready where they were"
		}),
		"status, rolled back": shown(t, func(m *v1alpha1.Migration) { m.Status.Phase, m.Status.Message = v1alpha1.MigrationRolledBack, "" }),
		"status, refused": shown(t, func(m *v1alpha1.Migration) {
			m.Status = v1alpha1.MigrationStatus{Phase: v1alpha1.MigrationRefused, Message: "no room"}
		}),
		"status, completed": shown(t, func(m *v1alpha1.Migration) {
			m.Status.Phase, m.Status.Step, m.Status.Workloads[0].Moved = v1alpha1.MigrationCompleted, 3, 10
		}),
		"status, to roll back": shown(t, func(m *v1alpha1.Migration) { m.Status.Phase, m.Generation = v1alpha1.MigrationCompleted, 2 }),
		"explain, waits":       placedPod(t, func(*podFacts) {}),
		"explain, waits longer": placedPod(t, func(f *podFacts) {
			f.govern(v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadBurst, Burst: &v1alpha1.Burst{After: &metav1.Duration{Duration: 2 * time.Minute}, ClusterAutoscaler: v1alpha1.AutoscalerFirst}})
			f.events = []corev1.Event{{Source: corev1.EventSource{Component: "spillway"}, Reason: "Waits", Message: "west has room for none", LastTimestamp: ago(5 * time.Second)},
				{Source: corev1.EventSource{Component: "spillway"}, Reason: "Older", LastTimestamp: ago(time.Hour)}, {Source: corev1.EventSource{Component: "default-scheduler"}, Reason: "FailedScheduling"}}
		}),
		"explain, sent twice": placedPod(t, func(f *podFacts) {
			f.pod.Annotations[v1alpha1.AnnotationBurst] = "west=" + ago(30*time.Second).UTC().Format(time.RFC3339) + ",cloud=" + ago(12*time.Second).UTC().Format(time.RFC3339) + ",odd"
		}),
		"explain, a policy that does not burst": placedPod(t, func(f *podFacts) { f.govern(v1alpha1.OffloadPolicySpec{}) }),
		"explain, moving": placedPod(t, func(f *podFacts) {
			f.local()
			f.pod.Labels, f.pod.Annotations = map[string]string{v1alpha1.LabelMoving: "uid"}, map[string]string{v1alpha1.AnnotationMoving: string(moving)}
		}),
		"explain, moving, unreadable": placedPod(t, func(f *podFacts) { f.pod.Labels[v1alpha1.LabelMoving] = "uid" }),
		"overview":                    overviewOfMoves(),
	}
}

func overviewOfMoves() string {
	var text strings.Builder
	burst := &v1alpha1.OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	burst.Status.RemotePods = 4
	burst.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionBursting, Message: "4 of 20 pods found no room at home: 4 in cloud"}, {Type: v1alpha1.ConditionComingHome, Message: "there is room for 2, for 40s of 5m"}}
	overview{Migrations: []migrationRow{rowOf(migrated(func(*v1alpha1.Migration) {}))}, Bursts: []burstRow{burstOf(burst), burstOf(&v1alpha1.OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "quiet"}})}}.printMoves(&text)
	return text.String()
}

// TestMoves compares what is said of moves with testdata/moves.txtar (-update writes it).
func TestMoves(t *testing.T) {
	const file = "testdata/moves.txtar"
	cases := moves(t)
	got := &txtar.Archive{Comment: []byte("What is said of pods that are moved, case by case. Written by go test -run TestMoves -update.\n")}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		got.Files = append(got.Files, txtar.File{Name: name, Data: []byte(cases[name])})
	}
	if updating() {
		if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(txtar.Format(got))); diff != "" {
		t.Errorf("-want +got (-update writes it):\n%s", diff)
	}
}

func TestEvictions_NeverMoreThanAllowed(t *testing.T) {
	f := manyPods(nil)
	var pods []*corev1.Pod
	for i := range f.pods {
		pods = append(pods, &f.pods[i])
	}
	e, now := newEvictions(pods), time.Unix(0, 0)
	here := present{}
	for _, pod := range pods {
		here[pod.UID] = pod
	}
	e.heldBy(pods[0].UID, "budget web-pdb", now.Add(evictAgain))
	first := e.next(now, 2)
	if len(first) != 2 || first[0] == pods[0] {
		t.Fatalf("first: %v", first)
	}
	for _, pod := range first {
		e.went(pod.UID)
	}
	if more := e.next(now, 2); len(more) != 0 {
		t.Errorf("too many: %v", more)
	}
	delete(here, first[0].UID)
	if gone := e.see(here); gone != 1 {
		t.Errorf("%d gone, want 1", gone)
	}
	if diff := cmp.Diff("1 of 6 gone; 1 on their way; 1 waits for budget web-pdb", e.words()); diff != "" {
		t.Error(diff)
	}
	if next := e.next(now.Add(evictAgain), 5); len(next) != 4 || next[3] != pods[0] {
		t.Errorf("after the pause, those that were asked for come last: %v", next)
	}
}

func TestCut(t *testing.T) {
	for want, row := range map[string]struct {
		text string
		most int
	}{"whole": {"whole", 5}, "wh…": {"whole", 3}, "unknown": {"unknown", -1}, "█░…": {"█░░░", 3}} {
		if got := cut(row.text, row.most); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNameFor(t *testing.T) {
	named := func(names ...string) (c v1alpha1.WorkloadChoice) {
		for _, name := range names {
			c.Names = append(c.Names, v1alpha1.WorkloadName{Name: name})
		}
		return c
	}
	for want, row := range map[string]struct {
		choice v1alpha1.WorkloadChoice
		peer   string
	}{
		"web-to-cloud":             {named("web"), "cloud"},
		"web-and-2-more-to-home":   {named("web", "b", "c"), ""},
		"shop-to-cloud":            {v1alpha1.WorkloadChoice{All: true}, "cloud"},
		"selection-to-cloud":       {v1alpha1.WorkloadChoice{Selector: &metav1.LabelSelector{}}, "cloud"},
		"taken-to-cloud-3":         {named("taken"), "cloud"},
		"www-example-org-to-cloud": {named("www.example.org"), "cloud"},
	} {
		taken := func(name string) bool { return name == "taken-to-cloud" || name == "taken-to-cloud-2" }
		if got := nameFor(row.choice, "shop", destination{peer: row.peer}, taken); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
