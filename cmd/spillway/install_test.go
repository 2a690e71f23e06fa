package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/charts"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func TestPickGateways(t *testing.T) {
	cordoned := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	master, gateway := labelled(labelControlPlane, ""), labelled(v1alpha1.LabelGateway, "")
	for name, row := range map[string]struct {
		nodes []corev1.Node
		said  []string
		want  string // separated by spaces
		bad   string // part of the error
	}{
		"two of three workers":         {[]corev1.Node{realNode("c"), realNode("a"), realNode("b")}, nil, "a b", ""},
		"workers before the masters":   {[]corev1.Node{realNode("a", master), realNode("b")}, nil, "b", ""},
		"a cluster of one node":        {[]corev1.Node{realNode("a", master)}, nil, "a", ""},
		"none that cannot":             {[]corev1.Node{realNode("a", notReady), realNode("b", cordoned), realNode("v", labelled(v1alpha1.LabelPeer, "x")), realNode("d")}, nil, "d", ""},
		"somebody has chosen":          {[]corev1.Node{realNode("a"), realNode("b", gateway)}, nil, "", ""},
		"a virtual one does not count": {[]corev1.Node{realNode("a"), realNode("v", gateway, labelled("type", "virtual-kubelet"))}, nil, "a", ""},
		"no nodes":                     {nil, nil, "", ""},
		"named":                        {[]corev1.Node{realNode("a"), realNode("b", gateway), realNode("c")}, []string{"c", "b"}, "c", ""},
		"named, not Ready yet":         {[]corev1.Node{realNode("a", notReady)}, []string{"a"}, "a", ""},
		"named, unknown":               {[]corev1.Node{realNode("a")}, []string{"x"}, "", `"x", and there is no such node. There are: a.`},
		"named, virtual":               {[]corev1.Node{realNode("v", labelled(v1alpha1.LabelPeer, "x"))}, []string{"v"}, "", "no such node"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := pickGateways(row.nodes, row.said)
			if row.bad != "" {
				if err == nil || !strings.Contains(err.Error(), row.bad) {
					t.Fatalf("error %v, want %q", err, row.bad)
				}
				return
			}
			if err != nil || strings.Join(got, " ") != row.want {
				t.Errorf("got %v, %v; want %s", got, err, row.want)
			}
		})
	}
}

func TestJudgeVersions(t *testing.T) {
	for name, row := range map[string]struct{ from, to, bad string }{
		"the same":            {"0.2.0", "0.2.0", ""},
		"a patch":             {"0.2.0", "0.2.7", ""},
		"the next":            {"0.2.3", "0.3.0", ""},
		"the next major":      {"0.9.3", "1.0.0", ""},
		"before the release":  {"0.3.0-rc.1", "0.3.0", ""},
		"skips one":           {"0.2.0", "0.4.0", "Upgrade to 0.3 first"},
		"skips a major":       {"1.2.0", "3.0.0", "more than one"},
		"back":                {"0.3.0", "0.2.9", "newer than 0.2.9"},
		"not to be compared":  {"0.3", "abc", "cannot be compared"},
		"back to a candidate": {"0.3.0", "0.3.0-rc.1", "spillway rollback"},
	} {
		t.Run(name, func(t *testing.T) {
			err := judgeVersions(row.from, row.to)
			if row.bad == "" && err != nil || row.bad != "" && (err == nil || !strings.Contains(err.Error(), row.bad)) {
				t.Errorf("error %v, want %q", err, row.bad)
			}
		})
	}
}

// TestCheckValues shows what a user reads of wrong values: each with its path as in --set.
func TestCheckValues(t *testing.T) {
	ch, err := charts.Load()
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		values map[string]any
		want   []string
	}{
		"none":                {nil, nil},
		"good ones":           {map[string]any{"node": map[string]any{"enabled": false}}, nil},
		"a wrong type":        {map[string]any{"node": map[string]any{"enabled": "yes"}}, []string{"node.enabled: "}},
		"an unknown name":     {map[string]any{"controller": map[string]any{"replica": 3}}, []string{"controller: ", "replica"}},
		"an unknown top name": {map[string]any{"nodes": 3}, []string{"(top level): ", "nodes"}},
		"out of range":        {map[string]any{"network": map[string]any{"port": 700000}}, []string{"network.port: "}},
		"in a list":           {map[string]any{"network": map[string]any{"podRanges": []any{"10.0.0.0/8", 5}}}, []string{"network.podRanges[1]: "}},
		"not one of a few":    {map[string]any{"image": map[string]any{"pullPolicy": "Sometimes"}}, []string{"image.pullPolicy: "}},
		"two at once":         {map[string]any{"node": map[string]any{"enabled": 1}, "image": map[string]any{"tag": 5}}, []string{"2 values", "node.enabled: ", "image.tag: "}},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkValues(ch, row.values)
			if len(row.want) == 0 && err != nil || len(row.want) > 0 && err == nil {
				t.Fatalf("error %v", err)
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestMergeValues_GivenOverThoseOfTheRelease(t *testing.T) {
	had := map[string]any{"a": 1, "node": map[string]any{"clean": true, "maxUnavailable": allAtOnce, "httpPort": 9}}
	got := mergeValues(map[string]any{"a": 2, "node": map[string]any{"enabled": false}}, keptValues(had))
	if diff := cmp.Diff(map[string]any{"a": 2, "node": map[string]any{"enabled": false, "httpPort": 9}}, got); diff != "" {
		t.Error(diff)
	}
	if !isCleaning(had) {
		t.Error("the values of the release were changed")
	}
}

func TestPlanObjects(t *testing.T) {
	doc := func(kind, name, more string) string {
		return "---\nkind: " + kind + "\nmetadata:\n  name: " + name + "\n" + more
	}
	had := doc("Service", "a", "spec: 1\n") + doc("Service", "b", "") + doc("Role", "c", "")
	next := doc("Service", "a", "spec: 2\n") + doc("Role", "c", "") + doc("Role", "d", "  namespace: x\n")
	got, err := planObjects(had, next)
	if err != nil {
		t.Fatal(err)
	}
	want := []plannedObject{{"Role c", deedKeep}, {"Role x/d", deedCreate}, {"Service a", deedChange}, {"Service b", deedDelete}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRollout(t *testing.T) {
	replicas := int32(2)
	deployment := func(generation int64, all, updated, ready int32) *appsv1.Deployment {
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Spec: appsv1.DeploymentSpec{Replicas: &replicas},
			Status: appsv1.DeploymentStatus{ObservedGeneration: generation, Replicas: all, UpdatedReplicas: updated, ReadyReplicas: ready}}
	}
	waiting := func(reason, message string) corev1.Pod {
		return corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}}}
	}
	unschedulable := corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
		Reason: corev1.PodReasonUnschedulable, Message: "0/3 nodes are available"}}}}
	probed := corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}}
	for name, row := range map[string]struct {
		got  rollout
		done bool
		want string
	}{
		"all":                 {judgeDeployment(deployment(2, 2, 2, 2), nil), true, "controller 2 of 2 ready"},
		"not seen yet":        {judgeDeployment(deployment(1, 2, 2, 2), nil), false, "controller 2 of 2 ready"},
		"an old one is left":  {judgeDeployment(deployment(2, 3, 2, 3), nil), false, "controller 2 of 2 ready"},
		"the image is away":   {judgeDeployment(deployment(2, 2, 2, 1), []corev1.Pod{waiting("ImagePullBackOff", "not found")}), false, "controller 1 of 2 ready (ImagePullBackOff: not found)"},
		"it is only starting": {judgeDeployment(deployment(2, 2, 2, 1), []corev1.Pod{waiting("ContainerCreating", "")}), false, "controller 1 of 2 ready"},
		"no room":             {judgeDeployment(deployment(2, 2, 2, 0), []corev1.Pod{unschedulable, unschedulable}), false, "controller 0 of 2 ready (Unschedulable: 0/3 nodes are available)"},
		"a probe":             {judgeDeployment(deployment(2, 2, 2, 0), []corev1.Pod{probed}), false, "controller 0 of 2 ready (c runs and is not ready yet)"},
		"agents": {judgeDaemonSet(&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Generation: 1}, Status: appsv1.DaemonSetStatus{
			ObservedGeneration: 1, DesiredNumberScheduled: 4, NumberReady: 4, UpdatedNumberScheduled: 3}}, nil), false, "agents 3 of 4 ready"},
	} {
		t.Run(name, func(t *testing.T) {
			if row.got.done() != row.done || row.got.String() != row.want {
				t.Errorf("%t %q, want %t %q", row.got.done(), row.got, row.done, row.want)
			}
		})
	}
}

func TestPickRevision(t *testing.T) {
	at := func(version int, status release.Status, values map[string]any) *release.Release {
		return &release.Release{Version: version, Info: &release.Info{Status: status}, Chart: &chart.Chart{}, Config: values}
	}
	cleaning := map[string]any{"node": map[string]any{"clean": true}}
	history := []*release.Release{at(1, release.StatusSuperseded, nil), at(2, release.StatusSuperseded, nil), at(3, release.StatusFailed, nil),
		at(4, release.StatusSuperseded, cleaning), at(5, release.StatusDeployed, nil)}
	for name, row := range map[string]struct {
		current, said, want int
		bad                 string
	}{
		"the last that was in use": {5, 0, 2, ""},
		"the one named":            {5, 3, 3, ""},
		"none before":              {1, 0, 0, "no revision before 1"},
		"none of that number":      {5, 9, 0, "no revision 9 before revision 5"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := pickRevision(history, row.current, row.said)
			switch {
			case row.bad != "":
				if err == nil || !strings.Contains(err.Error(), row.bad) {
					t.Errorf("error %v, want %q", err, row.bad)
				}
			case err != nil || got.Version != row.want:
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestStoredVersions_ThatTheOtherChartLacks(t *testing.T) {
	var k customKind
	k.Spec.Versions = append(k.Spec.Versions, struct {
		Name string `json:"name"`
	}{"v1beta1"})
	if diff := cmp.Diff([]string{"v1alpha1"}, k.lacks([]string{"v1beta1", "v1alpha1"})); diff != "" {
		t.Error(diff)
	}
}

func TestJudgeUninstall(t *testing.T) {
	home := &cluster{role: "cluster", context: "home"}
	for name, row := range map[string]struct {
		seen traces
		wish uninstallWish
		want []string
	}{
		"nothing runs anywhere":       {traces{Release: "0.2.0"}, uninstallWish{pods: podsRefuse}, nil},
		"pods are away":               {traces{Offloaded: []string{"shop/web-0"}}, uninstallWish{pods: podsRefuse}, []string{"1 pod of", "runs in peers", "- shop/web-0", "--pods home"}},
		"pods are to come home":       {traces{Offloaded: []string{"shop/web-0"}}, uninstallWish{pods: podsHome}, nil},
		"tenants have pods":           {traces{Guests: []string{"x/a (of id)"}}, uninstallWish{pods: podsHome}, []string{"x/a (of id)", "--evict-tenants"}},
		"tenants are to go":           {traces{Guests: []string{"x/a (of id)"}}, uninstallWish{pods: podsRefuse, evictTenants: true}, nil},
		"volumes stop it in any case": {traces{Claims: []string{"db/data"}}, uninstallWish{pods: podsHome, evictTenants: true}, []string{"db/data", "Copy the data"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := judgeUninstall(row.seen, row.wish, home)
			if len(row.want) == 0 && err != nil || len(row.want) > 0 && err == nil {
				t.Fatalf("error %v", err)
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}
