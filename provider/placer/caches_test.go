package placer

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

// cachedMeta is an object of namespace shop, with its name as UID.
func cachedMeta(name string, owner *metav1.OwnerReference) metav1.ObjectMeta {
	meta := metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"}}
	if owner != nil {
		owner.UID, owner.Controller = types.UID(owner.Name), new(true)
		meta.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return meta
}

func ownerOf(apiVersion, kind, name string) *metav1.OwnerReference {
	return &metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: name}
}

// cachedPod is Ready, on a node.
func cachedPod(name, node string, owner *metav1.OwnerReference) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: cachedMeta(name, owner)}
	pod.Spec.NodeName, pod.Status.Phase = node, corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	return pod
}

// withHash is a pod of a ReplicaSet of a Deployment.
func withHash(pod *corev1.Pod, hash string) *corev1.Pod {
	pod.Labels["pod-template-hash"] = hash
	return pod
}

// letGo is a pod that was let go of.
func letGo(pod *corev1.Pod, by string) *corev1.Pod {
	pod.Labels["pod-template-hash"] += placement.MovingSuffix
	pod.Labels[v1alpha1.LabelMoving] = by
	return pod
}

func cachedReplicaSet(name, hash string, replicas int32, owner *metav1.OwnerReference) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{ObjectMeta: cachedMeta(name, owner)}
	rs.Spec.Replicas, rs.Spec.Selector = &replicas, &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	if hash != "" {
		rs.Spec.Selector.MatchLabels["pod-template-hash"] = hash
	}
	return rs
}

func cachedDeployment(name string, replicas int32) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: cachedMeta(name, nil)}
	d.Spec.Replicas = &replicas
	return d
}

// shopObjects is a namespace with one workload of each kind.
func shopObjects() []runtime.Object {
	web := ownerOf("apps/v1", "ReplicaSet", "web-1a")
	failed := withHash(cachedPod("web-failed", "node-1", web), "1a")
	failed.Status.Phase = corev1.PodFailed
	recreate := cachedDeployment("one", 1)
	recreate.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
	set := &appsv1.StatefulSet{ObjectMeta: cachedMeta("db", nil)}
	return []runtime.Object{
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "spillway-west", Labels: map[string]string{v1alpha1.LabelPeer: "west"}}},
		cachedDeployment("web", 3),
		cachedReplicaSet("web-1a", "1a", 3, ownerOf("apps/v1", "Deployment", "web")),
		cachedReplicaSet("web-0z", "0z", 0, ownerOf("apps/v1", "Deployment", "web")),
		withHash(cachedPod("web-home", "node-1", web), "1a"),
		withHash(cachedPod("web-away", "spillway-west", web), "1a"),
		letGo(withHash(cachedPod("web-released", "node-1", nil), "1a"), "web-1a"),
		withHash(cachedPod("web-restored", "node-1", nil), "1a"),
		letGo(withHash(cachedPod("web-forlorn", "node-1", nil), "9x"), "web-9x"),
		failed,
		recreate,
		cachedReplicaSet("one-2b", "2b", 1, ownerOf("apps/v1", "Deployment", "one")),
		withHash(cachedPod("one-0", "node-1", ownerOf("apps/v1", "ReplicaSet", "one-2b")), "2b"),
		cachedReplicaSet("bare", "", 1, nil), cachedPod("bare-0", "node-1", ownerOf("apps/v1", "ReplicaSet", "bare")),
		cachedReplicaSet("argo", "", 1, ownerOf("argoproj.io/v1alpha1", "Rollout", "argo")),
		cachedPod("argo-0", "node-1", ownerOf("apps/v1", "ReplicaSet", "argo")),
		set, cachedPod("db-0", "spillway-west", ownerOf("apps/v1", "StatefulSet", "db")),
		&batchv1.CronJob{ObjectMeta: cachedMeta("tidy", nil)},
		cachedPod("tidy-run", "node-1", ownerOf("batch/v1", "Job", "tidy-29000000")),
		cachedPod("tidy-up-run", "node-1", ownerOf("batch/v1", "Job", "tidy-up-29000000")),
		cachedPod("alone", "node-1", nil),
		cachedPod("agent", "node-1", ownerOf("apps/v1", "DaemonSet", "agent")),
	}
}

// runCaches follows an API server in memory, inside a synctest bubble.
func runCaches(t *testing.T, changed func(), objects ...runtime.Object) (*Caches, *fake.Clientset) {
	client := fake.NewClientset(objects...)
	c := NewCaches(client, changed)
	if c.Synced() {
		t.Error("caches that have not run say that they know everything")
	}
	go c.Run(t.Context())
	settle()
	if !c.Synced() {
		t.Fatal("not synced after a second")
	}
	return c, client
}

// settle lets watches catch up.
func settle() {
	<-time.After(time.Second)
	synctest.Wait()
}

// workloadText is a workload for people: "Deployment web 3: web-0@home web-1@west".
func workloadText(w placement.Workload, ok bool) string {
	if !ok {
		return "none"
	}
	var members []string
	for _, m := range w.Members {
		members = append(members, strings.TrimSuffix(m.Name+"@"+m.Place, "@"))
	}
	slices.Sort(members)
	text := fmt.Sprintf("%s %s %d: %s", w.Kind, w.Name, w.Replicas, strings.Join(members, " "))
	if w.NoSurge {
		text += ", no surge"
	}
	return text
}

func TestCaches_Workloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := runCaches(t, func() {}, shopObjects()...)
		web := "Deployment web 3: web-away@west web-home web-released web-restored"
		for pod, want := range map[string]string{
			"web-home": web, "web-released": web, "web-restored": "none", "web-forlorn": "none", "alone": "none", "agent": "none",
			"tidy-run": "none",
			"one-0":    "Deployment one 1: one-0, no surge",
			"bare-0":   "ReplicaSet bare 1: bare-0, no surge",
			"argo-0":   "ReplicaSet argo 1: argo-0, no surge",
			"db-0":     "StatefulSet db 1: db-0@west",
		} {
			p, ok := c.pods.Get("shop", pod)
			if !ok {
				t.Fatalf("no pod %s", pod)
			}
			if diff := cmp.Diff(want, workloadText(c.Of(p))); diff != "" {
				t.Errorf("of %s (-want +got):\n%s", pod, diff)
			}
		}
		for name, want := range map[v1alpha1.WorkloadName]string{
			{Kind: "Deployment", Name: "web"}:  web,
			{Kind: "Deployment", Name: "db"}:   "none",
			{Kind: "StatefulSet", Name: "db"}:  "StatefulSet db 1: db-0@west",
			{Kind: "CronJob", Name: "tidy"}:    "none",
			{Kind: "ReplicaSet", Name: "bare"}: "none",
		} {
			if diff := cmp.Diff(want, workloadText(c.Find("shop", name.Kind, name.Name))); diff != "" {
				t.Errorf("find %v (-want +got):\n%s", name, diff)
			}
		}
		if c.PeerOf("spillway-west") != "west" || c.PeerOf("node-1") != placement.Home || c.PeerOf("gone") != placement.Home {
			t.Error("peers of nodes are mixed up")
		}
	})
}

// TestCaches_Changed wakes nobody for what placement does not read.
func TestCaches_Changed(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "n"}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	pod := cachedPod("web", "node-1", nil)
	for name, row := range map[string]struct {
		pod  func(*corev1.Pod)
		node func(*corev1.Node)
		want int32
	}{
		"a container has started": {pod: func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c"}} }},
		"not Ready":               {pod: func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }, want: 1},
		"a label":                 {pod: func(p *corev1.Pod) { p.Labels = map[string]string{"app": "other"} }, want: 1},
		"a gate":                  {pod: func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "x"}} }, want: 1},
		"a heartbeat":             {node: func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.Now() }},
		"cordoned":                {node: func(n *corev1.Node) { n.Spec.Unschedulable = true }, want: 1},
		"more room": {want: 1, node: func(n *corev1.Node) {
			n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int32
				_, client := runCaches(t, func() { calls.Add(1) }, node.DeepCopy(), pod.DeepCopy())
				before := calls.Load()
				if row.pod != nil {
					p := pod.DeepCopy()
					row.pod(p)
					if _, err := client.CoreV1().Pods("shop").Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				if row.node != nil {
					n := node.DeepCopy()
					row.node(n)
					if _, err := client.CoreV1().Nodes().Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				settle()
				if got := calls.Load() - before; before != 2 || got != row.want {
					t.Errorf("%d calls at first, then %d, want 2 and %d", before, got, row.want)
				}
			})
		})
	}
}

// TestTrimPod keeps what others read, and drops what they do not.
func TestTrimPod(t *testing.T) {
	pod := cachedPod("web", "", nil)
	pod.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "keep": "1"}
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	pod.Spec.Containers = []corev1.Container{{
		Name: "c", Image: "i", Env: []corev1.EnvVar{{Name: "A", Value: "1"}}, Ports: []corev1.ContainerPort{{HostPort: 80}, {ContainerPort: 81}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
	}}
	pod.Spec.Tolerations = []corev1.Toleration{{Key: "k"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v"}}
	want := pod.DeepCopy()
	want.ManagedFields, want.Annotations = nil, map[string]string{"keep": "1"}
	want.Spec.Containers[0].Image, want.Spec.Containers[0].Env = "", nil
	want.Spec.Containers[0].Ports = want.Spec.Containers[0].Ports[:1]
	trimPod(pod)
	trimPod(pod) // may be called twice
	if diff := cmp.Diff(want, pod); diff != "" {
		t.Errorf("trimmed (-want +got):\n%s", diff)
	}
}
