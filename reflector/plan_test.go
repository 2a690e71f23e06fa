package reflector

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// at is the moment of every plan in these tests.
func at() time.Time { return time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC) }

// planned is the part of a step that a row speaks of.
type planned struct {
	Kind           stepKind
	Subresource    string
	Grace          time.Duration
	Reason         string
	ProveTwinGone  bool
	ProveLocalGone types.UID
}

func (s step) planned() planned {
	return planned{s.kind, s.subresource, s.grace, s.reason, s.proveTwinGone, s.proveLocalGone}
}

// planRow is one situation and its one next step.
type planRow struct {
	local, twin *corev1.Pod
	env         func(*planEnv)
	want        planned
	says        []string // parts of the patch
	not         []string // parts that the patch must not have
}

func runPlan(t *testing.T, rows map[string]planRow) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			env := planEnv{Env: translate.Env{Origin: "consumer-1", NodeName: "far", RemoteNamespace: "shop-1f2e"}, now: at()}
			if row.env != nil {
				row.env(&env)
			}
			localBefore, twinBefore := row.local.DeepCopy(), row.twin.DeepCopy()
			got := plan(row.local, row.twin, env)
			if got.err != nil {
				t.Fatal(got.err)
			}
			if diff := cmp.Diff(row.want, got.planned()); diff != "" {
				t.Errorf("step (-want +got):\n%s\npatch %s", diff, got.patch)
			}
			for _, part := range row.says {
				if !strings.Contains(string(got.patch), part) {
					t.Errorf("the patch lacks %s: %s", part, got.patch)
				}
			}
			for _, part := range row.not {
				if strings.Contains(string(got.patch), part) {
					t.Errorf("the patch has %s: %s", part, got.patch)
				}
			}
			if (got.kind == stepCreate) != (got.twin != nil) {
				t.Errorf("step %s with twin %v", got.kind, got.twin)
			}
			if diff := cmp.Diff(localBefore, row.local) + cmp.Diff(twinBefore, row.twin); diff != "" {
				t.Errorf("plan changed its arguments:\n%s", diff)
			}
		})
	}
}

// localPod is bound to the virtual node and has no status yet.
func localPod(change ...func(*corev1.Pod)) *corev1.Pod {
	seconds := int64(300)
	return changed(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "local-1"},
		Spec: corev1.PodSpec{
			NodeName: "far", RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{Name: "app", Image: "app:1"}},
			Tolerations: []corev1.Toleration{
				{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds},
			},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}, change)
}

// twinOf is what translate makes of a fresh local pod, as the provider's API server returns it.
func twinOf(local *corev1.Pod, change ...func(*corev1.Pod)) *corev1.Pod {
	fresh := local.DeepCopy()
	fresh.DeletionTimestamp, fresh.DeletionGracePeriodSeconds = nil, nil
	twin := translate.Twin(fresh, translate.Env{Origin: "consumer-1", NodeName: "far", RemoteNamespace: "shop-1f2e"})
	twin.UID = "twin-1"
	twin.Status.Phase = corev1.PodPending
	return changed(twin, change)
}

func changed(pod *corev1.Pod, change []func(*corev1.Pod)) *corev1.Pod {
	for _, c := range change {
		c(pod)
	}
	return pod
}

func never(pod *corev1.Pod)     { pod.Spec.RestartPolicy = corev1.RestartPolicyNever }
func onFailure(pod *corev1.Pod) { pod.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }

func running(pod *corev1.Pod) {
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.101.0.7", PodIPs: []corev1.PodIP{{IP: "10.101.0.7"}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", Ready: true, ContainerID: "containerd://1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}},
	}
}

// waiting: its container has run before and is being restarted.
func waiting(pod *corev1.Pod) {
	running(pod)
	pod.Status.Phase = corev1.PodPending
	pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
}

func phase(p corev1.PodPhase) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { running(pod); pod.Status.Phase = p }
}

// exited: its container has ended.
func exited(pod *corev1.Pod) {
	pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137}}
}

func finalized(pod *corev1.Pod) { pod.Finalizers = []string{"example.com/keep"} }

// deleted: asked to end with this grace, of which so many seconds are left.
func deleted(grace, left int64) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		ends := metav1.NewTime(at().Add(time.Duration(left) * time.Second))
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &ends, &grace
	}
}

// cutOff is what the API server does to a deletionTimestamp: it has whole seconds only.
func cutOff(fraction time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.DeletionTimestamp.Time = pod.DeletionTimestamp.Add(-fraction) }
}

func seenGone(env *planEnv) { env.twinSeenGone = true }
func lost(env *planEnv)     { env.peerLost = true }

func TestPlan_NothingAnywhere(t *testing.T) {
	runPlan(t, map[string]planRow{"neither local pod nor twin": {want: planned{Kind: stepNone}}})
}

func TestPlan_NoTwin(t *testing.T) {
	runPlan(t, map[string]planRow{
		"a new pod": {local: localPod(), want: planned{Kind: stepCreate}},
		"a new pod, but its namespace does not allow it": {
			local: localPod(), env: func(e *planEnv) { e.refusal = "label the namespace" },
			want: planned{Kind: stepSetStatus, Reason: reasonNotAllowed},
			says: []string{`"type":"spillway.dev/Offloaded"`, `"status":"False"`, "label the namespace"},
		},
		"a new pod, but a ConfigMap is not there yet": {
			local: localPod(), env: func(e *planEnv) { e.waitFor = "ConfigMap settings" }, want: planned{Kind: stepNone},
		},
		"a new pod, but a foreign object has the name of its Secret": {
			local: localPod(), env: func(e *planEnv) { e.taken, e.waitFor = "secret key cannot follow", "Secret key" },
			want: planned{Kind: stepSetStatus, Reason: reasonNameTaken}, says: []string{"secret key cannot follow"},
		},
		"a new pod while the peer is lost": {
			local: localPod(), env: lost, want: planned{Kind: stepHold}, says: []string{corev1.TaintNodeNotReady, `"tolerationSeconds":3153600000`},
		},
		"a pod that ran and is always restarted":           {local: localPod(running), want: planned{Kind: stepCreate}},
		"a pod that ran and is never restarted":            {local: localPod(running, never), want: planned{Kind: stepSetStatus, ProveTwinGone: true}, says: []string{"DisruptionTarget", `"phase":"Failed"`}},
		"a pod that ran and is restarted on failure only":  {local: localPod(running, onFailure), want: planned{Kind: stepSetStatus, ProveTwinGone: true}, says: []string{"DisruptionTarget"}},
		"a pod that is never restarted, seen to be gone":   {local: localPod(running, never), env: seenGone, want: planned{Kind: stepSetStatus}, says: []string{`"phase":"Failed"`}},
		"a pod that is never restarted, its peer is lost":  {local: localPod(running, never), env: lost, want: planned{Kind: stepSetStatus, ProveTwinGone: true}},
		"a pod that is never restarted and never started":  {local: localPod(never), want: planned{Kind: stepCreate}},
		"a pending pod whose container has run before":     {local: localPod(waiting, never), want: planned{Kind: stepSetStatus, ProveTwinGone: true}},
		"a pod that ran, whose namespace no longer allows": {local: localPod(running), env: func(e *planEnv) { e.refusal = "label the namespace" }, want: planned{Kind: stepSetStatus, Reason: reasonNotAllowed}},
		"a pod that has succeeded":                         {local: localPod(phase(corev1.PodSucceeded)), want: planned{Kind: stepNone}},
		"a pod that has failed":                            {local: localPod(phase(corev1.PodFailed), never), want: planned{Kind: stepNone}},
	})
}

func TestPlan_LocalDeletedNoTwin(t *testing.T) {
	runPlan(t, map[string]planRow{
		"its twin was seen to go":                  {local: localPod(running, deleted(30, 20)), env: seenGone, want: planned{Kind: stepDeleteLocal}},
		"nobody saw its twin go":                   {local: localPod(running, deleted(30, 20)), want: planned{Kind: stepDeleteLocal, ProveTwinGone: true}},
		"nobody saw its twin go, the peer is lost": {local: localPod(running, deleted(30, -90)), env: lost, want: planned{Kind: stepDeleteLocal, ProveTwinGone: true}},
		"it never had a twin":                      {local: localPod(deleted(30, 30)), want: planned{Kind: stepDeleteLocal, ProveTwinGone: true}},
		"it has ended":                             {local: localPod(phase(corev1.PodSucceeded), deleted(30, 30)), env: seenGone, want: planned{Kind: stepDeleteLocal}},
		"it is being removed":                      {local: localPod(running, deleted(0, 0)), env: seenGone, want: planned{Kind: stepNone}},
		"it was to be removed long ago":            {local: localPod(running, deleted(0, -6)), want: planned{Kind: stepDeleteLocal, ProveTwinGone: true}},
		"somebody's finalizer keeps it":            {local: localPod(running, deleted(0, -60), finalized), env: seenGone, want: planned{Kind: stepNone}},
	})
}

func TestPlan_LocalDeletedRemoteRunning(t *testing.T) {
	l := localPod(running)
	runPlan(t, map[string]planRow{
		"just deleted":                          {local: localPod(running, deleted(30, 30)), twin: twinOf(l, running), want: planned{Kind: stepDeleteTwin, Grace: 30 * time.Second}},
		"just deleted, late in a second":        {local: localPod(running, deleted(30, 30), cutOff(900*time.Millisecond)), twin: twinOf(l, running), want: planned{Kind: stepDeleteTwin, Grace: 30 * time.Second}},
		"deleted a while ago":                   {local: localPod(running, deleted(30, 12)), twin: twinOf(l, running), want: planned{Kind: stepDeleteTwin, Grace: 12 * time.Second}},
		"deleted long ago":                      {local: localPod(running, deleted(30, -600)), twin: twinOf(l, running), want: planned{Kind: stepDeleteTwin, Grace: time.Second}},
		"its twin is ending too":                {local: localPod(running, deleted(30, 20)), twin: twinOf(l, running, deleted(30, 20)), want: planned{Kind: stepNone}},
		"its twin ignores SIGTERM":              {local: localPod(running, deleted(30, -50)), twin: twinOf(l, running, deleted(30, -50)), want: planned{Kind: stepNone}},
		"deleted again with less patience":      {local: localPod(running, deleted(2, 2)), twin: twinOf(l, running, deleted(30, 25)), want: planned{Kind: stepDeleteTwin, Grace: 2 * time.Second}},
		"its twin has less patience":            {local: localPod(running, deleted(30, 20)), twin: twinOf(l, running, deleted(5, 2)), want: planned{Kind: stepNone}},
		"its twin has the least patience":       {local: localPod(running, deleted(0, 0)), twin: twinOf(l, running, deleted(1, 1)), want: planned{Kind: stepNone}},
		"all containers have ended":             {local: localPod(running, deleted(30, 20)), twin: twinOf(l, phase(corev1.PodSucceeded), deleted(30, 20)), want: planned{Kind: stepDeleteLocal}},
		"its twin had ended before":             {local: localPod(phase(corev1.PodSucceeded), deleted(30, 30)), twin: twinOf(l, phase(corev1.PodSucceeded)), want: planned{Kind: stepDeleteTwin, Grace: 30 * time.Second}},
		"its twin is of an earlier local pod":   {local: localPod(deleted(30, 30)), twin: twinOf(localPod(func(p *corev1.Pod) { p.UID = "local-0" })), want: planned{Kind: stepDeleteTwin, Grace: time.Second, ProveLocalGone: "local-0"}},
		"the peer is lost (sync holds it back)": {local: localPod(running, deleted(30, 30)), twin: twinOf(l, running), env: lost, want: planned{Kind: stepDeleteTwin, Grace: 30 * time.Second}},
	})
}

func TestPlan_NoLocal(t *testing.T) {
	runPlan(t, map[string]planRow{
		"its twin runs":                   {twin: twinOf(localPod(), running), want: planned{Kind: stepDeleteTwin, Grace: time.Second, ProveLocalGone: "local-1"}},
		"its twin has ended":              {twin: twinOf(localPod(), phase(corev1.PodSucceeded)), want: planned{Kind: stepDeleteTwin, Grace: time.Second, ProveLocalGone: "local-1"}},
		"its twin ends patiently":         {twin: twinOf(localPod(), running, deleted(30, 20)), want: planned{Kind: stepDeleteTwin, Grace: time.Second, ProveLocalGone: "local-1"}},
		"its twin ends as fast as it may": {twin: twinOf(localPod(), running, deleted(1, 1)), want: planned{Kind: stepNone}},
	})
}

func TestPlan_TwinOfAnEarlierPod(t *testing.T) {
	earlier := localPod(func(p *corev1.Pod) { p.UID = "local-0" })
	runPlan(t, map[string]planRow{
		"it runs":   {local: localPod(), twin: twinOf(earlier, running), want: planned{Kind: stepDeleteTwin, Grace: time.Second, ProveLocalGone: "local-0"}},
		"it ends":   {local: localPod(), twin: twinOf(earlier, running, deleted(1, 1)), want: planned{Kind: stepNone}},
		"it is old": {local: localPod(running), twin: twinOf(earlier, phase(corev1.PodFailed)), want: planned{Kind: stepDeleteTwin, Grace: time.Second, ProveLocalGone: "local-0"}},
	})
}

func TestPlan_BothThere(t *testing.T) {
	l := localPod()
	runPlan(t, map[string]planRow{
		"a fresh twin without a node":          {local: l, twin: twinOf(l), want: planned{Kind: stepNone}},
		"the twin runs":                        {local: l, twin: twinOf(l, running), want: planned{Kind: stepSetStatus}, says: []string{`"phase":"Running"`, `"podIP":"10.101.0.7"`}, not: []string{"resourceVersion"}},
		"nothing differs":                      {local: localPod(running), twin: twinOf(l, running), want: planned{Kind: stepNone}},
		"the image changed at home":            {local: localPod(running, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "app:2" }), twin: twinOf(l, running), want: planned{Kind: stepPatch}, says: []string{"app:2"}},
		"the twin is unschedulable":            {local: l, twin: twinOf(l, unschedulable), want: planned{Kind: stepSetStatus}, says: []string{"spillway.dev/Offloaded", "no room"}},
		"the twin has succeeded":               {local: localPod(running, never), twin: twinOf(localPod(never), phase(corev1.PodSucceeded)), want: planned{Kind: stepSetStatus}, says: []string{`"phase":"Succeeded"`}},
		"the twin has failed":                  {local: localPod(running, never), twin: twinOf(localPod(never), phase(corev1.PodFailed)), want: planned{Kind: stepSetStatus}, says: []string{`"phase":"Failed"`}, not: []string{"DisruptionTarget"}},
		"the peer is lost":                     {local: localPod(running), twin: twinOf(l, phase(corev1.PodFailed)), env: lost, want: planned{Kind: stepHold}, says: []string{`"tolerationSeconds":3153600000`}},
		"the peer is lost and the pod is held": {local: localPod(running, held), twin: twinOf(l, phase(corev1.PodFailed)), env: lost, want: planned{Kind: stepNone}},
		"the namespace no longer allows it":    {local: localPod(running), twin: twinOf(l, running), env: func(e *planEnv) { e.refusal = "label the namespace" }, want: planned{Kind: stepNone}},
	})
}

func unschedulable(pod *corev1.Pod) {
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "no room",
	}}
}

func held(pod *corev1.Pod) { pod.Spec.Tolerations[0].TolerationSeconds = nil }

func TestPlan_TwinDeletedByProvider(t *testing.T) {
	l := localPod()
	runPlan(t, map[string]planRow{
		"it still runs":                    {local: localPod(running), twin: twinOf(l, running, deleted(30, 20)), want: planned{Kind: stepNone}},
		"it has failed by that":            {local: localPod(running, never), twin: twinOf(localPod(never), phase(corev1.PodFailed), deleted(30, 20)), want: planned{Kind: stepNone}},
		"it has succeeded before":          {local: localPod(running, never), twin: twinOf(localPod(never), phase(corev1.PodSucceeded), deleted(30, 20)), want: planned{Kind: stepSetStatus}, says: []string{`"phase":"Succeeded"`}},
		"all have ended, and will be back": {local: localPod(running), twin: twinOf(l, phase(corev1.PodSucceeded), deleted(30, 20)), want: planned{Kind: stepNone}},
		"its image changed at home too":    {local: localPod(running, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "app:2" }), twin: twinOf(l, running, deleted(30, 20)), want: planned{Kind: stepNone}},
	})
}

func TestPlan_LocalEnded(t *testing.T) {
	grace := int64(7)
	l := localPod(func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = &grace })
	runPlan(t, map[string]planRow{
		"its twin has ended, and stays for its logs": {local: localPod(phase(corev1.PodSucceeded)), twin: twinOf(l, phase(corev1.PodSucceeded)), want: planned{Kind: stepNone}},
		"its twin runs (somebody failed it at home)": {local: localPod(phase(corev1.PodFailed)), twin: twinOf(l, running), want: planned{Kind: stepDeleteTwin, Grace: 7 * time.Second}},
		"its twin is ending":                         {local: localPod(phase(corev1.PodFailed)), twin: twinOf(l, running, deleted(7, 3)), want: planned{Kind: stepNone}},
		"a container ends after its pod":             {local: localPod(phase(corev1.PodFailed)), twin: twinOf(l, phase(corev1.PodFailed), exited), want: planned{Kind: stepSetStatus}},
		"and is told once":                           {local: localPod(phase(corev1.PodFailed), exited), twin: twinOf(l, phase(corev1.PodFailed), exited), want: planned{Kind: stepNone}},
		"the twin ended otherwise":                   {local: localPod(phase(corev1.PodFailed)), twin: twinOf(l, phase(corev1.PodSucceeded)), want: planned{Kind: stepNone}},
	})
}

// TestPlan_RefusalIsWrittenOnce: the same words are no reason to write again.
func TestPlan_RefusalIsWrittenOnce(t *testing.T) {
	env := planEnv{Env: translate.Env{Origin: "consumer-1", NodeName: "far", RemoteNamespace: "shop-1f2e"}, now: at(), refusal: "no"}
	local := localPod()
	local.Status = translate.Refused(local, reasonNotAllowed, "no", metav1.NewTime(at()))
	env.now = at().Add(time.Hour)
	if got := plan(local, nil, env); got.kind != stepNone || got.reason != reasonNotAllowed {
		t.Errorf("the same refusal an hour later: %+v, want no write", got.planned())
	}
}
