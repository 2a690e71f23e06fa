package translate

import (
	"net/netip"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func at(seconds int64) metav1.Time { return metav1.Unix(1.7e9+seconds, 0) }

func is(kind corev1.PodConditionType, status corev1.ConditionStatus, since int64) corev1.PodCondition {
	return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: at(since)}
}

// bound is web() as home's scheduler leaves it.
func bound() *corev1.Pod {
	local := web()
	local.Status = corev1.PodStatus{
		Phase: corev1.PodPending, QOSClass: corev1.PodQOSBurstable,
		Conditions: []corev1.PodCondition{is(corev1.PodScheduled, corev1.ConditionTrue, 1)},
	}
	return local
}

// running is its twin as the peer's kubelet reports it, with a container that the provider added.
func running(local *corev1.Pod) *corev1.Pod {
	start, yes := at(3), true
	twin := admitted(local)
	twin.Generation = 1
	status := func(name string) corev1.ContainerStatus {
		return corev1.ContainerStatus{
			Name: name, Ready: true, Started: &yes, RestartCount: 2, ContainerID: "containerd://" + name,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(4)}},
		}
	}
	twin.Status = corev1.PodStatus{
		ObservedGeneration: 1, Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBestEffort, StartTime: &start,
		HostIP: "192.0.2.9", HostIPs: []corev1.HostIP{{IP: "192.0.2.9"}},
		PodIP: "10.0.0.7", PodIPs: []corev1.PodIP{{IP: "10.0.0.7"}, {IP: "fd00::7"}},
		ContainerStatuses: []corev1.ContainerStatus{status("log"), status("mesh"), status("web")},
		Conditions: []corev1.PodCondition{
			is(corev1.PodReadyToStartContainers, corev1.ConditionTrue, 3), is(corev1.PodReady, corev1.ConditionTrue, 5),
			is(corev1.ContainersReady, corev1.ConditionTrue, 5), is(corev1.PodScheduled, corev1.ConditionTrue, 2),
			is("provider.example/checked", corev1.ConditionTrue, 5),
		},
	}
	return twin
}

func kinds(list []corev1.PodCondition) []string {
	var s []string
	for _, c := range list {
		s = append(s, string(c.Type)+"="+string(c.Status)+" "+c.Reason)
	}
	return s
}

func TestPodStatus_Running(t *testing.T) {
	local := bound()
	twin := running(local)
	env := testEnv()
	env.NodeIPs = []netip.Addr{netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("172.16.0.2"), netip.MustParseAddr("fd01::1")}
	env.MapIP = func(ip netip.Addr) netip.Addr {
		if ip.Is6() {
			return netip.Addr{}
		}
		return ip.Next()
	}
	got := PodStatus(local, twin, env)
	want := corev1.PodStatus{
		ObservedGeneration: 1, Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBurstable, StartTime: twin.Status.StartTime,
		HostIP: "172.16.0.1", HostIPs: []corev1.HostIP{{IP: "172.16.0.1"}, {IP: "fd01::1"}},
		PodIP: "10.0.0.8", PodIPs: []corev1.PodIP{{IP: "10.0.0.8"}},
		ContainerStatuses: []corev1.ContainerStatus{twin.Status.ContainerStatuses[0], twin.Status.ContainerStatuses[2]},
		Conditions: []corev1.PodCondition{
			is(corev1.PodScheduled, corev1.ConditionTrue, 1), is(corev1.PodReadyToStartContainers, corev1.ConditionTrue, 3),
			is(corev1.PodReady, corev1.ConditionTrue, 5), is(corev1.ContainersReady, corev1.ConditionTrue, 5),
		},
	}
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	local.Status = got
	if patch, _ := StatusPatch(local, PodStatus(local, twin, env)); patch != nil {
		t.Errorf("a second look gives %s", patch)
	}
}

func TestPodStatus_Phase(t *testing.T) {
	for name, row := range map[string]struct {
		change     func(local, twin *corev1.Pod)
		phase      corev1.PodPhase
		disruption string // reason
	}{
		"running":   {phase: corev1.PodRunning},
		"succeeded": {change: func(_, twin *corev1.Pod) { twin.Status.Phase = corev1.PodSucceeded }, phase: corev1.PodSucceeded},
		"failed":    {change: func(_, twin *corev1.Pod) { twin.Status.Phase = corev1.PodFailed }, phase: corev1.PodFailed},
		"a terminal phase at home is final": {
			change: func(local, _ *corev1.Pod) { local.Status.Phase = corev1.PodSucceeded }, phase: corev1.PodSucceeded,
		},
		"an unknown phase is not believed": {
			change: func(_, twin *corev1.Pod) { twin.Status.Phase = corev1.PodUnknown }, phase: corev1.PodPending,
		},
		"a twin evicted by its kubelet": {
			change: func(_, twin *corev1.Pod) {
				twin.Status.Phase, twin.Status.Reason = corev1.PodFailed, "Evicted"
				c := is(corev1.DisruptionTarget, corev1.ConditionTrue, 6)
				c.Reason = corev1.PodReasonTerminationByKubelet
				twin.Status.Conditions = append(twin.Status.Conditions, c)
			},
			phase: corev1.PodFailed, disruption: corev1.PodReasonTerminationByKubelet,
		},
		"a twin about to be evicted is not yet a disruption at home": {
			change: func(_, twin *corev1.Pod) {
				twin.Status.Conditions = append(twin.Status.Conditions, is(corev1.DisruptionTarget, corev1.ConditionTrue, 6))
			},
			phase: corev1.PodRunning,
		},
		"a twin deleted in the provider, always restarted: it is made again": {
			change: func(local, twin *corev1.Pod) {
				local.Status.Phase = corev1.PodRunning
				end := at(40)
				twin.DeletionTimestamp, twin.Status.Phase = &end, corev1.PodFailed
			},
			phase: corev1.PodRunning,
		},
		"a twin deleted in the provider, of a job": {
			change: func(local, twin *corev1.Pod) {
				end := at(40)
				local.Spec.RestartPolicy = corev1.RestartPolicyNever
				twin.DeletionTimestamp, twin.DeletionGracePeriodSeconds, twin.Status.Phase = &end, ptr(30), corev1.PodFailed
			},
			phase: corev1.PodFailed, disruption: ReasonDeletionByProvider,
		},
		"a twin deleted from home fails without disruption": {
			change: func(local, twin *corev1.Pod) {
				end := at(40)
				local.Spec.RestartPolicy = corev1.RestartPolicyNever
				local.DeletionTimestamp, twin.DeletionTimestamp, twin.Status.Phase = &end, &end, corev1.PodFailed
			},
			phase: corev1.PodFailed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			local := bound()
			twin := running(local)
			if row.change != nil {
				row.change(local, twin)
			}
			got := PodStatus(local, twin, testEnv())
			if got.Phase != row.phase {
				t.Errorf("phase %s, want %s", got.Phase, row.phase)
			}
			reason := ""
			if c := condition(got.Conditions, corev1.DisruptionTarget); c != nil {
				reason = c.Reason
			}
			if reason != row.disruption {
				t.Errorf("DisruptionTarget %q, want %q", reason, row.disruption)
			}
		})
	}
}

func TestPodStatus_TwinNotYetScheduled_NothingToWrite(t *testing.T) {
	local := bound()
	for name, conditions := range map[string][]corev1.PodCondition{
		"just made": nil,
		"scheduled": {is(corev1.PodScheduled, corev1.ConditionTrue, 2)},
	} {
		twin := admitted(local)
		twin.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBurstable, Conditions: conditions}
		if patch, _ := StatusPatch(local, PodStatus(local, twin, testEnv())); patch != nil {
			t.Errorf("%s: patch %s", name, patch)
		}
	}
}

func TestPodStatus_UnschedulableComesAndGoes(t *testing.T) {
	local := bound()
	twin := admitted(local)
	c := is(corev1.PodScheduled, corev1.ConditionFalse, 2)
	c.Reason, c.Message = corev1.PodReasonUnschedulable, "0/3 nodes are available: 3 Insufficient cpu."
	twin.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{c}}

	local.Status = PodStatus(local, twin, testEnv())
	want := c
	want.Type = ConditionOffloaded
	if diff := gocmp.Diff(&want, condition(local.Status.Conditions, ConditionOffloaded)); diff != "" {
		t.Errorf("condition (-want +got):\n%s", diff)
	}
	if s := condition(local.Status.Conditions, corev1.PodScheduled).Status; s != corev1.ConditionTrue {
		t.Errorf("PodScheduled is %s, but home has scheduled the pod", s)
	}
	patch, _ := StatusPatch(local, PodStatus(local, running(local), testEnv()))
	if c := condition(apply(t, local, patch).Status.Conditions, ConditionOffloaded); c != nil {
		t.Errorf("the condition stays when the twin runs: %v", c)
	}
}

func TestPodStatus_TwinMadeAgain_NoAddressIsLeft(t *testing.T) {
	local := bound()
	local.Status = PodStatus(local, running(local), testEnv())
	again := admitted(local)
	again.Status = corev1.PodStatus{Phase: corev1.PodPending}
	patch, err := StatusPatch(local, PodStatus(local, again, testEnv()))
	if err != nil {
		t.Fatal(err)
	}
	got := apply(t, local, patch).Status
	want := bound().Status
	want.ObservedGeneration = 1
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestPodStatus_ReadinessGates(t *testing.T) {
	const gate = corev1.PodConditionType("example.com/gate")
	for name, row := range map[string]struct {
		gate, containers, before corev1.ConditionStatus
		want                     corev1.ConditionStatus
		reason                   string
		since                    int64
	}{
		"no condition":           {containers: "True", want: "False", reason: "ReadinessGatesNotReady", since: 5},
		"condition is false":     {containers: "True", gate: "False", want: "False", reason: "ReadinessGatesNotReady", since: 8},
		"condition is true":      {containers: "True", gate: "True", want: "True", since: 8},
		"containers not ready":   {containers: "False", gate: "True", want: "False", reason: "ContainersNotReady", since: 5},
		"ready as before":        {containers: "True", gate: "True", before: "True", want: "True", since: 6},
		"not ready as before":    {containers: "True", gate: "False", before: "False", want: "False", reason: "ReadinessGatesNotReady", since: 6},
		"a gate closes later on": {containers: "True", gate: "False", before: "True", want: "False", reason: "ReadinessGatesNotReady", since: 8},
	} {
		t.Run(name, func(t *testing.T) {
			local := bound()
			local.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}}
			if row.gate != "" {
				local.Status.Conditions = append(local.Status.Conditions, is(gate, row.gate, 8))
			}
			if row.before != "" {
				local.Status.Conditions = append(local.Status.Conditions, is(corev1.PodReady, row.before, 6))
			}
			twin := running(local)
			ready := condition(twin.Status.Conditions, corev1.PodReady)
			ready.Status = row.containers
			if row.containers == corev1.ConditionFalse {
				ready.Reason = "ContainersNotReady"
			}
			c := condition(PodStatus(local, twin, testEnv()).Conditions, corev1.PodReady)
			if c.Status != row.want || c.Reason != row.reason || !c.LastTransitionTime.Equal(ptrTime(at(row.since))) {
				t.Errorf("Ready is %s %q since %s, want %s %q since %s", c.Status, c.Reason, c.LastTransitionTime, row.want, row.reason, at(row.since))
			}
		})
	}
}

func ptrTime(at metav1.Time) *metav1.Time { return &at }

func TestPodStatus_ObservedGeneration(t *testing.T) {
	for name, row := range map[string]struct {
		change func(local, twin *corev1.Pod)
		want   int64
	}{
		"the twin has everything and its kubelet has seen it": {want: 4},
		"the kubelet has not seen it yet":                     {change: func(_, twin *corev1.Pod) { twin.Generation++ }, want: 3},
		"the twin lacks something":                            {change: func(local, _ *corev1.Pod) { local.Spec.ActiveDeadlineSeconds = ptr(9) }, want: 3},
		"a kubelet that does not tell":                        {change: func(_, twin *corev1.Pod) { twin.Status.ObservedGeneration = 0 }, want: 3},
		"a deletion alone is not worth a write":               {change: func(local, _ *corev1.Pod) { local.DeletionTimestamp = ptrTime(at(9)) }, want: 3},
	} {
		t.Run(name, func(t *testing.T) {
			local := bound()
			local.Generation, local.Status.ObservedGeneration = 4, 3
			twin := running(local)
			for i := range twin.Status.Conditions {
				twin.Status.Conditions[i].ObservedGeneration = 1
			}
			if row.change != nil {
				row.change(local, twin)
			}
			got := PodStatus(local, twin, testEnv())
			ready := condition(got.Conditions, corev1.PodReady).ObservedGeneration
			scheduled := condition(got.Conditions, corev1.PodScheduled).ObservedGeneration
			if got.ObservedGeneration != row.want || ready != row.want || scheduled != row.want {
				t.Errorf("observed %d, Ready %d, PodScheduled %d, want %d", got.ObservedGeneration, ready, scheduled, row.want)
			}
		})
	}
}

func TestGone(t *testing.T) {
	local := bound()
	local.Status = PodStatus(local, running(local), testEnv())
	local.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3}}
	before := local.DeepCopy()
	got := Gone(local, at(60))
	if diff := gocmp.Diff(before, local); diff != "" {
		t.Errorf("Gone changed its input:\n%s", diff)
	}
	want := []string{"PodScheduled=True ", "PodReadyToStartContainers=True ", "Ready=False PodFailed", "ContainersReady=False PodFailed",
		"DisruptionTarget=True DeletionByProvider"}
	if diff := gocmp.Diff(want, kinds(got.Conditions)); diff != "" || got.Phase != corev1.PodFailed {
		t.Errorf("phase %s, conditions (-want +got):\n%s", got.Phase, diff)
	}
	done, lost := got.ContainerStatuses[0].State.Terminated, got.ContainerStatuses[1].State.Terminated
	if done.ExitCode != 3 || lost == nil || lost.ExitCode != 137 || lost.Reason != "ContainerStatusUnknown" || got.ContainerStatuses[1].Ready {
		t.Errorf("containers %v and %v", done, got.ContainerStatuses[1])
	}
	local.Status = got
	if patch, _ := StatusPatch(local, Gone(local, at(99))); patch != nil {
		t.Errorf("gone twice gives %s", patch)
	}
}

func TestRefused(t *testing.T) {
	local := bound()
	local.Status = Refused(local, "Forbidden", "exceeded quota: share", metav1.Now())
	want := []string{"PodScheduled=True ", "spillway.dev/Offloaded=False Forbidden"}
	if diff := gocmp.Diff(want, kinds(local.Status.Conditions)); diff != "" || local.Status.Phase != corev1.PodPending {
		t.Errorf("phase %s, conditions (-want +got):\n%s", local.Status.Phase, diff)
	}
	if patch, _ := StatusPatch(local, Refused(local, "Forbidden", "exceeded quota: share", at(1e6))); patch != nil {
		t.Errorf("the same words again give %s", patch)
	}
	if patch, _ := StatusPatch(local, Refused(local, "Forbidden", "other words", at(1e6))); patch == nil {
		t.Error("other words give no patch")
	}
	ran := bound()
	ran.Status = PodStatus(ran, running(ran), testEnv())
	if s := Refused(ran, "Forbidden", "exceeded quota", at(9)); s.PodIP != "" || condition(s.Conditions, corev1.PodReady) != nil {
		t.Errorf("a pod that ran and is refused now keeps its address or is Ready: %v", s)
	}
}

// TestPodStatus_RandomPodsSettle: what PodStatus wants is stable once it is written, and needs no input changed.
func TestPodStatus_RandomPodsSettle(t *testing.T) {
	fill := filler(4)
	for range randomPods {
		var local, twin corev1.Pod
		fill.Fill(&local)
		fill.Fill(&twin)
		local.Status.Phase, twin.Status.Phase = corev1.PodRunning, corev1.PodRunning
		was := local.DeepCopy()
		want := PodStatus(&local, &twin, testEnv())
		if !equality.Semantic.DeepEqual(was.Status, local.Status) {
			t.Fatalf("PodStatus changed its input:\n%s", gocmp.Diff(was.Status, local.Status))
		}
		local.Status = keepGenerations(local.Status, want)
		if patch, _ := StatusPatch(&local, PodStatus(&local, &twin, testEnv())); patch != nil {
			t.Fatalf("a second look gives %s", patch)
		}
	}
}
