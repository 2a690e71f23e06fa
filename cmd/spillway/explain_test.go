package main

import (
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

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// ago is a moment before that of the facts of offloaded.
func ago(d time.Duration) metav1.Time { return metav1.NewTime(time.Unix(1_800_000_000, 0).Add(-d)) }

// setPodCondition puts c on pod, in place of that of its type.
func setPodCondition(pod *corev1.Pod, c corev1.PodCondition) {
	if old := podCondition(pod, c.Type); old != nil {
		*old = c
		return
	}
	pod.Status.Conditions = append(pod.Status.Conditions, c)
}

// offloaded is a pod that runs in the peer cloud, with nothing wrong.
func offloaded() podFacts {
	optional := true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0", UID: "uid-web-0"}}
	pod.Spec = corev1.PodSpec{
		NodeName:    "spillway-cloud",
		Tolerations: []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}},
		Containers: []corev1.Container{{Name: "web", EnvFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "extra"}, Optional: &optional}}}}},
		Volumes: []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "tls"}}}},
	}
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "100.64.2.7", ContainerStatuses: []corev1.ContainerStatus{{Name: "web", ContainerID: "containerd://1"}}}
	setPodCondition(pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	twin := pod.DeepCopy()
	twin.Namespace, twin.Spec.NodeName, twin.Status.PodIP = "shop-1f2e3d4c", "worker-2", "10.244.2.7"
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "spillway-cloud", Labels: map[string]string{v1alpha1.LabelPeer: "cloud"}}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	p := v1alpha1.Peering{ObjectMeta: metav1.ObjectMeta{Name: "cloud"}, Spec: v1alpha1.PeeringSpec{Borrow: &v1alpha1.Borrow{}, API: &v1alpha1.APIEndpoint{Server: "https://203.0.113.7:6443"}}}
	for _, kind := range []string{v1alpha1.ConditionAuthenticated, v1alpha1.ConditionTunnelUp, v1alpha1.ConditionNodeReady, v1alpha1.ConditionReady} {
		p.Status.Conditions = append(p.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue})
	}
	f := podFacts{now: ago(0).Time, context: "home", pod: pod, node: node, peering: &p, borrowing: []v1alpha1.Peering{p}, peeringsRead: true, virtual: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "spillway-cloud", Labels: map[string]string{v1alpha1.LabelPeer: "cloud"}}}},
		namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{v1alpha1.LabelOffload: v1alpha1.OffloadEnabled}}},
		needs:     needsOf(&pod.Spec), twin: twinFacts{looked: true, context: "cloud", namespace: "shop-1f2e3d4c", pod: twin}}
	for i := range f.needs {
		f.needs[i].Home, f.needs[i].Provider = presenceThere, presenceThere
	}
	f.follows = []need{{Kind: kindService, Name: "web", Home: presenceThere, Provider: presenceThere}, {Kind: kindSecret, Name: "spillway-token-uid-web-0", Home: presenceMissing, Provider: presenceThere}}
	f.twin.events = []corev1.Event{{Reason: "Started", Message: "Started container web", LastTimestamp: ago(time.Hour), Count: 1}}
	return f
}

// unbind takes the pod of f from its node.
func (f *podFacts) unbind() {
	f.pod.Spec.NodeName, f.pod.Status = "", corev1.PodStatus{Phase: corev1.PodPending}
	f.node, f.peering, f.twin, f.follows = nil, nil, twinFacts{}, nil
	for i := range f.needs {
		f.needs[i].Provider = presenceUnknown
	}
}

// unstarted takes back that the pod of f has run, and gives it this reason.
func (f *podFacts) unstarted(reason, message string) {
	f.pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
	if reason != "" {
		setPodCondition(f.pod, corev1.PodCondition{Type: conditionOffloaded, Status: corev1.ConditionFalse, Reason: reason, Message: message, LastTransitionTime: ago(time.Minute)})
		f.events = []corev1.Event{{Reason: reason, Message: message, LastTimestamp: ago(50 * time.Second), Count: 3}}
	}
	f.twin.pod, f.twin.events = nil, nil
}

// local puts the pod of f on a real node.
func (f *podFacts) local() {
	f.unbind()
	f.pod.Spec.NodeName, f.pod.Spec.Tolerations = "worker-1", nil
	f.node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker-1"}}
	f.node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	f.pod.Status.Phase = corev1.PodRunning
	setPodCondition(f.pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
}

// govern has a policy govern the pods of the namespace, and Migrations.
func (f *podFacts) govern(spec v1alpha1.OffloadPolicySpec, migrations ...*v1alpha1.Migration) {
	f.policies = policy.NewSet([]*v1alpha1.OffloadPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: spec}}, migrations)
}

// moved makes the pod one of StatefulSet web, which is migrated to a place.
func (f *podFacts) moved(to string, phase v1alpha1.MigrationPhase, share int32) *v1alpha1.Migration {
	yes := true
	f.pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web", Controller: &yes}}
	f.pod.Annotations = map[string]string{v1alpha1.AnnotationPlacement: "Migration to-there has placed it"}
	m := &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Name: "to-there"}}
	m.Spec.To = v1alpha1.Destination{Peer: to, Home: to == ""}
	m.Status.Phase, m.Status.Share = phase, share
	m.Status.Workloads = []v1alpha1.MigratedWorkload{{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadStatefulSet, Name: "web"}}}
	return m
}

// wait makes the only container of the pod wait.
func (f *podFacts) wait(reason, message string) {
	f.pod.Status.Phase = corev1.PodPending
	setPodCondition(f.pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", Message: "containers with unready status: [web]", LastTransitionTime: ago(2 * time.Minute)})
	f.pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
	if f.twin.pod != nil {
		f.twin.pod.Status = *f.pod.Status.DeepCopy()
	}
}

// lose cuts the peer off.
func (f *podFacts) lose() {
	f.node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, LastTransitionTime: ago(3 * time.Minute)}}
	p := f.peering
	p.Status.Conditions[2] = metav1.Condition{Type: v1alpha1.ConditionNodeReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonUnreachable, Message: "no answer for 3m0s: dial tcp 203.0.113.7:6443: i/o timeout"}
	p.Status.Conditions[3] = p.Status.Conditions[2]
	p.Status.Conditions[3].Type = v1alpha1.ConditionReady
	f.twin = twinFacts{looked: true, context: "cloud", why: "the API server of the provider (context \"cloud\") does not answer."}
}

const quotaWords = `spillway-cloud: pods "web-0" is forbidden: exceeded quota: spillway, requested: requests.cpu=4, used: requests.cpu=30, limited: requests.cpu=32`

// schedulerSays is the condition of a pod that has no node.
func (f *podFacts) schedulerSays(words string) {
	setPodCondition(f.pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: words, LastTransitionTime: ago(4 * time.Minute)})
}

// stories are ways to change a pod that runs in a peer; the name says into what.
func stories() map[string]func(*podFacts) {
	return map[string]func(*podFacts){
		"offloaded and running":        func(*podFacts) {},
		"offloaded, no remote context": func(f *podFacts) { f.twin = twinFacts{hint: "cloud"}; f.needsUnseen() },
		"local":                        func(f *podFacts) { f.local() },
		"local, not ready":             func(f *podFacts) { f.local(); f.wait("ErrImagePull", "pull access denied") },
		"local, by namespace": func(f *podFacts) {
			tolerations := f.pod.Spec.Tolerations
			f.local()
			f.pod.Spec.Tolerations, f.namespace.Labels = tolerations, nil
		},
		"local, by choice": func(f *podFacts) {
			tolerations := f.pod.Spec.Tolerations
			f.local()
			f.pod.Spec.Tolerations = tolerations
		},
		"offloaded, a claim that stays": func(f *podFacts) {
			f.unstarted("", "")
			f.twin.pod = nil
			f.needs = append(f.needs, need{Kind: kindClaim, Name: "data", Home: presenceThere, Provider: presenceMissing})
		},
		"local, by policy": func(f *podFacts) { f.local(); f.govern(v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadNever}) },
		"local, no peer of the policy": func(f *podFacts) {
			f.local()
			f.govern(v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways, Peers: []v1alpha1.PeerChoice{{Name: "elsewhere"}}})
		},
		"local, may overflow": func(f *podFacts) {
			f.local()
			f.govern(v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadBurst})
		},
		"offloaded by a Migration": func(f *podFacts) {
			f.govern(v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways, Peers: []v1alpha1.PeerChoice{{Name: "elsewhere"}}},
				f.moved("cloud", v1alpha1.MigrationCompleted, 100))
		},
		"local by a Migration": func(f *podFacts) {
			f.local()
			f.govern(v1alpha1.OffloadPolicySpec{}, f.moved("", v1alpha1.MigrationCompleted, 100))
		},
		"pending, by a Migration": func(f *podFacts) {
			f.unbind()
			f.govern(v1alpha1.OffloadPolicySpec{}, f.moved("elsewhere", v1alpha1.MigrationMoving, 100))
			f.schedulerSays("0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector.")
		},
		"pending, to be placed": func(f *podFacts) {
			f.unbind()
			f.govern(v1alpha1.OffloadPolicySpec{}, f.moved("cloud", v1alpha1.MigrationMoving, 50))
			f.pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.GatePlacement}}
		},
		"pending, nobody places it": func(f *podFacts) {
			f.unbind()
			f.pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.GatePlacement}}
			f.idle = "the Lease spillway-system/spillwayd was last renewed 90s ago"
		},
		"pending, may overflow": func(f *podFacts) {
			f.unbind()
			f.pod.Spec.Tolerations = nil
			f.govern(v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadBurst})
			f.schedulerSays("0/4 nodes are available: 1 node(s) had untolerated taint {spillway.dev/virtual-node: cloud}, 3 Insufficient cpu.")
		},
		"offloaded, a misfit": func(f *podFacts) {
			f.govern(v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways, Peers: []v1alpha1.PeerChoice{{Name: "elsewhere"}}})
		},
		"lost, to be made elsewhere": func(f *podFacts) {
			f.lose()
			f.govern(v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways, OnPeerLost: v1alpha1.PeerLost{Action: v1alpha1.PeerLostRecreateAfter}})
		},
		"local, not peered": func(f *podFacts) { f.local(); f.borrowing, f.virtual = nil, nil },
		"pending": func(f *podFacts) {
			f.unbind()
			f.schedulerSays("0/4 nodes are available: 1 Insufficient memory, 3 Insufficient cpu.")
		},
		"pending, no toleration": func(f *podFacts) {
			f.unbind()
			f.pod.Spec.Tolerations, f.namespace.Labels = nil, nil
			f.schedulerSays("0/4 nodes are available: 1 node(s) had untolerated taint {spillway.dev/virtual-node: }, 3 Insufficient cpu.")
		},
		"pending, not looked at": func(f *podFacts) { f.unbind(); f.borrowing, f.virtual = nil, nil },
		"pending, gated": func(f *podFacts) {
			f.unbind()
			f.pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.org/quota"}}
		},
		"refused by quota": func(f *podFacts) { f.unstarted(offloadRefused, quotaWords) },
		"refused by pod security": func(f *podFacts) {
			f.unstarted(offloadRefused, `spillway-cloud: pods "web-0" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`)
		},
		"refused by a webhook": func(f *podFacts) {
			f.unstarted(offloadRefused, `spillway-cloud: admission webhook "rules.example.org" denied the request: no latest tags`)
		},
		"name taken": func(f *podFacts) {
			f.unstarted(offloadNameTaken, "a ConfigMap settings that is not Spillway's is there already")
		},
		"no room there": func(f *podFacts) { f.noRoom() },
		"namespace not labelled": func(f *podFacts) {
			f.namespace.Labels = nil
			f.unstarted(offloadNotAllowed, "namespace shop does not allow offloading: kubectl label namespace shop spillway.dev/offload=enabled")
		},
		"of a DaemonSet": func(f *podFacts) {
			yes := true
			f.pod.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "agent", Controller: &yes}}
			f.unstarted(offloadNotAllowed, "pods of DaemonSets run on real nodes only: let DaemonSet agent select nodes without the label type=virtual-kubelet")
		},
		"peer lost": func(f *podFacts) { f.lose(); f.needsUnseen() },
		"peer lost, being deleted": func(f *podFacts) {
			f.lose()
			f.needsUnseen()
			at := ago(time.Minute)
			f.pod.DeletionTimestamp = &at
		},
		"controller away": func(f *podFacts) { f.idle = "the Lease spillway-system/spillwayd was last renewed 90s ago" },
		"Peering gone": func(f *podFacts) {
			f.peering, f.borrowing, f.twin = nil, nil, twinFacts{looked: true, context: "cloud", why: "no Peering of this cluster says which cluster the provider is."}
			f.needsUnseen()
		},
		"Peerings not read": func(f *podFacts) {
			f.twin, f.peering, f.borrowing, f.peeringsRead = twinFacts{}, nil, nil, false
			f.needsUnseen()
		},
		"node gone": func(f *podFacts) { f.unbind(); f.pod.Spec.NodeName, f.nodeGone = "spillway-old", true },
		"may read little": func(f *podFacts) {
			f.twin, f.node, f.peering, f.borrowing, f.namespace, f.virtual = twinFacts{}, nil, nil, nil, nil, nil
			f.peeringsRead = false
			for i := range f.needs {
				f.needs[i].Home = presenceUnknown
			}
			f.needsUnseen()
		},
		"Secret missing": func(f *podFacts) {
			f.wait("CreateContainerConfigError", `secret "tls" not found`)
			f.needs[2].Home, f.needs[2].Provider = presenceMissing, presenceMissing
		},
		"Secret of another": func(f *podFacts) { f.wait("", ""); f.needs[2].Provider = presenceForeign },
		"image not pulled":  func(f *podFacts) { f.wait("ImagePullBackOff", `Back-off pulling image "shop/web:7"`) },
		"provider warns": func(f *podFacts) {
			f.twin.events = append(f.twin.events,
				corev1.Event{Type: corev1.EventTypeWarning, Reason: "Unhealthy", Message: "Readiness probe failed: 503", LastTimestamp: ago(20 * time.Minute), Count: 2},
				corev1.Event{Type: corev1.EventTypeWarning, Reason: "BackOff", Message: "Back-off restarting failed container web in pod web-0_shop-1f2e3d4c", LastTimestamp: ago(5 * time.Minute), Count: 9})
			f.events = []corev1.Event{f.tells("BackOff", "Back-off restarting failed container web in pod web-0_shop")}
		},
		"provider warned, not looked at": func(f *podFacts) {
			f.twin = twinFacts{hint: "cloud"}
			f.needsUnseen()
			f.events = []corev1.Event{f.tells("FailedMount", "no volume for pod web-0_shop")}
		},
		"no tokens there": func(f *podFacts) { f.follows[1].Provider = presenceMissing },
		"crashing": func(f *podFacts) {
			f.wait("CrashLoopBackOff", "back-off 40s restarting failed container")
			f.pod.Status.Phase = corev1.PodRunning
			f.pod.Status.ContainerStatuses[0].RestartCount = 4
			f.pod.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled", FinishedAt: ago(20 * time.Second)}
		},
		"no namespace there": func(f *podFacts) { f.unstarted("", ""); f.twin.namespace = "" },
		"no twin":            func(f *podFacts) { f.unstarted("", "") },
		"twin of another":    func(f *podFacts) { f.unstarted("", ""); f.twin.foreign = true },
		"Secret on its way":  func(f *podFacts) { f.unstarted("", ""); f.needs[2].Provider = presenceMissing },
		"starting for long": func(f *podFacts) {
			f.wait("ContainerCreating", "")
			f.pod.CreationTimestamp, f.twin = ago(10*time.Minute), twinFacts{}
			f.events = []corev1.Event{{Reason: "FailedMount", Message: "MountVolume.SetUp failed for volume \"tls\"", Series: &corev1.EventSeries{Count: 7, LastObservedTime: metav1.NewMicroTime(ago(30 * time.Second).Time)}}}
		},
		"starting": func(f *podFacts) { f.wait("", "") },
		"running, not ready": func(f *podFacts) {
			setPodCondition(f.pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", Message: "containers with unready status: [web]", LastTransitionTime: ago(time.Minute)})
		},
		"being deleted":    func(f *podFacts) { at := ago(-20 * time.Second); f.pod.DeletionTimestamp = &at },
		"deletion is slow": func(f *podFacts) { at := ago(10 * time.Minute); f.pod.DeletionTimestamp = &at },
		"succeeded":        func(f *podFacts) { f.pod.Status = corev1.PodStatus{Phase: corev1.PodSucceeded} },
		"taken away": func(f *podFacts) {
			f.pod.Status = corev1.PodStatus{Phase: corev1.PodFailed}
			setPodCondition(f.pod, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByProvider", Message: "the pod was deleted in the cluster that ran it", LastTransitionTime: ago(time.Minute)})
			f.twin.pod = nil
		},
	}
}

// noRoom lets the provider's scheduler find no node.
func (f *podFacts) noRoom() {
	f.unstarted(offloadNoRoom, "0/3 nodes are available: 3 Insufficient cpu.")
	f.twin.pod = &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending}}
}

// tells is an Event at home of what the provider said.
func (f *podFacts) tells(reason, message string) corev1.Event {
	return corev1.Event{Type: corev1.EventTypeWarning, Reason: reason, Message: message, LastTimestamp: ago(5 * time.Minute), Count: 9,
		ReportingController: "spillway", ReportingInstance: f.pod.Spec.NodeName}
}

// needsUnseen: nobody looked at the provider.
func (f *podFacts) needsUnseen() {
	for i := range f.needs {
		f.needs[i].Provider = presenceUnknown
	}
	for i := range f.follows {
		f.follows[i].Provider = presenceUnknown
	}
}

// storyOf is what explain prints of f.
func storyOf(t *testing.T, f podFacts) string {
	var text strings.Builder
	if err := tell(f).print(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestTell compares what explain says with testdata/explain.txtar (-update writes it).
func TestTell(t *testing.T) {
	const file = "testdata/explain.txtar"
	cases := stories()
	got := &txtar.Archive{Comment: []byte("What spillway explain says, case by case; some in full, of the others only what \"offloaded and running\" does not say. Written by go test -run TestTell -update.\n")}
	usual := map[string]bool{}
	for line := range strings.Lines(storyOf(t, offloaded())) {
		usual[line] = true
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		f := offloaded()
		cases[name](&f)
		text := storyOf(t, f)
		if !slices.Contains([]string{"offloaded and running", "local", "pending", "refused by quota", "peer lost", "namespace not labelled"}, name) {
			var differing strings.Builder
			for line := range strings.Lines(text) {
				if !usual[line] {
					differing.WriteString(line)
				}
			}
			text = differing.String()
		}
		got.Files = append(got.Files, txtar.File{Name: name, Data: []byte(text)})
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
