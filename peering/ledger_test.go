package peering

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func list(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// node is Ready with 10 CPUs and 10Gi.
func node(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux", corev1.LabelTopologyZone: "a",
		}},
		Status: corev1.NodeStatus{
			Allocatable: list("10", "10Gi"),
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func pod(name, namespace, onNode, cpu, memory string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, UID: types.UID(name)},
		Spec: corev1.PodSpec{NodeName: onNode, Containers: []corev1.Container{{
			Name: "app", Resources: corev1.ResourceRequirements{Requests: list(cpu, memory)},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

func ledgerOf(nodes []*corev1.Node, pods ...*corev1.Pod) *ledger {
	l := newLedger()
	for _, n := range nodes {
		l.setNode(n.Name, n)
	}
	for _, p := range pods {
		l.setPod(p.UID, p)
	}
	return l
}

// texts writes amounts as people do.
func texts(a amounts) map[string]string {
	out := map[string]string{}
	for name, q := range a.list() {
		out[string(name)] = q.String()
	}
	return out
}

func TestLedger_Offer(t *testing.T) {
	two := []*corev1.Node{node("n1"), node("n2")}
	tenants := map[string]bool{"shop-1f2e": true, "blog-1f2e": true}
	for name, row := range map[string]struct {
		nodes []*corev1.Node
		pods  []*corev1.Pod
		share v1alpha1.Share
		want  map[string]string // of the total
	}{
		"everything is free":             {nodes: two, want: map[string]string{"cpu": "20", "memory": "20Gi"}},
		"no nodes":                       {want: map[string]string{"cpu": "0", "memory": "0", "pods": "0"}},
		"others use some":                {nodes: two, pods: []*corev1.Pod{pod("p", "default", "n1", "2500m", "1Gi")}, want: map[string]string{"cpu": "17500m", "memory": "19Gi"}},
		"a pod of others has ended":      {nodes: two, pods: []*corev1.Pod{ended(pod("p", "default", "n1", "2", "1Gi"))}, want: map[string]string{"cpu": "20", "memory": "20Gi"}},
		"a pod of others is not bound":   {nodes: two, pods: []*corev1.Pod{pod("p", "default", "", "2", "1Gi")}, want: map[string]string{"cpu": "20", "memory": "20Gi"}},
		"others use more than there is":  {nodes: two, pods: []*corev1.Pod{pod("p", "default", "n1", "12", "1Gi")}, want: map[string]string{"cpu": "10", "memory": "19Gi"}},
		"the tenant's own use is in it":  {nodes: two, pods: []*corev1.Pod{pod("p", "shop-1f2e", "n1", "3", "1Gi")}, want: map[string]string{"cpu": "20", "memory": "20Gi"}},
		"half":                           {nodes: two, share: v1alpha1.Share{Percent: 50}, want: map[string]string{"cpu": "10", "memory": "10Gi"}},
		"half, and the tenant uses some": {nodes: two, share: v1alpha1.Share{Percent: 50}, pods: []*corev1.Pod{pod("p", "shop-1f2e", "n1", "3", "1Gi")}, want: map[string]string{"cpu": "10", "memory": "10Gi"}},
		"half, and the tenant uses more": {nodes: two, share: v1alpha1.Share{Percent: 50}, pods: []*corev1.Pod{
			pod("p", "shop-1f2e", "n1", "8", "1Gi"), pod("q", "blog-1f2e", "n2", "8", "1Gi"),
		}, want: map[string]string{"cpu": "16", "memory": "10Gi"}},
		"no more than":             {nodes: two, share: v1alpha1.Share{Resources: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}}, want: map[string]string{"cpu": "4", "memory": "20Gi"}},
		"selected nodes only":      {nodes: []*corev1.Node{node("n1", labelled("pool", "lend")), node("n2")}, share: v1alpha1.Share{NodeSelector: map[string]string{"pool": "lend"}}, want: map[string]string{"cpu": "10", "memory": "10Gi"}},
		"a node is cordoned":       {nodes: []*corev1.Node{node("n1", cordoned), node("n2")}, want: map[string]string{"cpu": "10", "memory": "10Gi"}},
		"a node is not ready":      {nodes: []*corev1.Node{node("n1", notReady), node("n2")}, want: map[string]string{"cpu": "10", "memory": "10Gi"}},
		"a node has said nothing":  {nodes: []*corev1.Node{node("n1", silent), node("n2")}, want: map[string]string{"cpu": "10", "memory": "10Gi"}},
		"a node is tainted":        {nodes: []*corev1.Node{node("n1", tainted(corev1.TaintEffectNoSchedule)), node("n2")}, want: map[string]string{"cpu": "10", "memory": "10Gi"}},
		"a node is rather avoided": {nodes: []*corev1.Node{node("n1", tainted(corev1.TaintEffectPreferNoSchedule)), node("n2")}, want: map[string]string{"cpu": "20", "memory": "20Gi"}},
		"borrowed is not lent on":  {nodes: []*corev1.Node{node("n1", labelled(v1alpha1.LabelPeer, "third")), node("n2")}, want: map[string]string{"cpu": "10", "memory": "10Gi"}},
		"odd percentages are rounded down": {nodes: []*corev1.Node{node("n1", func(n *corev1.Node) {
			n.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceCPU: resource.MustParse("1")}
		})}, share: v1alpha1.Share{Percent: 33}, want: map[string]string{"pods": "36", "cpu": "330m"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := ledgerOf(row.nodes, row.pods...).offer(&row.share, tenants)
			if diff := cmp.Diff(row.want, texts(got.total)); diff != "" {
				t.Errorf("offer (-want +got):\n%s", diff)
			}
		})
	}
}

func ended(p *corev1.Pod) *corev1.Pod { p.Status.Phase = corev1.PodSucceeded; return p }

func labelled(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }
func notReady(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }
func silent(n *corev1.Node)   { n.Status.Conditions = nil }

func tainted(effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "special", Effect: effect}} }
}

func TestLedger_OfferedLabelsAreThoseOfAllNodes(t *testing.T) {
	l := ledgerOf([]*corev1.Node{node("n1", labelled(corev1.LabelTopologyRegion, "eu")), node("n2", labelled(corev1.LabelTopologyZone, "b"))})
	want := map[string]string{corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux"}
	if diff := cmp.Diff(want, l.offer(&v1alpha1.Share{}, nil).labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

// TestLedger_KeepsUp: after any history the ledger says what a new one says of the same cluster.
func TestLedger_KeepsUp(t *testing.T) {
	l := ledgerOf([]*corev1.Node{node("n1"), node("n2")}, pod("a", "default", "n1", "1", "1Gi"), pod("b", "shop-1f2e", "", "1", "1Gi"))
	bound := pod("b", "shop-1f2e", "n2", "1", "1Gi")
	l.setPod(bound.UID, bound)
	resized := pod("a", "default", "n1", "3", "1Gi")
	l.setPod(resized.UID, resized)
	l.setPod("c", pod("c", "default", "n2", "4", "1Gi"))
	l.setPod("c", nil)
	l.setPod("unknown", nil)
	l.setNode("n3", node("n3"))
	l.setNode("n3", nil)
	fresh := ledgerOf([]*corev1.Node{node("n1"), node("n2")}, resized, bound)
	if diff := cmp.Diff(fresh.byNode, l.byNode) + cmp.Diff(fresh.pods, l.pods, cmp.AllowUnexported(ledgerPod{})); diff != "" {
		t.Errorf("books (-fresh +kept):\n%s", diff)
	}
}

// TestLedger_Changed: only what changes an offer is worth looking at offers again.
func TestLedger_Changed(t *testing.T) {
	p, n := pod("a", "default", "n1", "1", "1Gi"), node("n1")
	l := ledgerOf([]*corev1.Node{n}, p)
	if !l.takeChanged() || l.takeChanged() {
		t.Error("a change must be told, once")
	}
	for name, row := range map[string]struct {
		change func()
		want   bool
	}{
		"the same pod again":  {func() { l.setPod(p.UID, p) }, false},
		"the same node again": {func() { l.setNode("n1", node("n1")) }, false},
		"a heartbeat": {func() {
			l.setNode("n1", node("n1", func(n *corev1.Node) { n.Annotations = map[string]string{"beat": "2"} }))
		}, false},
		"an unknown pod is gone":   {func() { l.setPod("unknown", nil) }, false},
		"an unknown node is gone":  {func() { l.setNode("unknown", nil) }, false},
		"a pod that ended at once": {func() { l.setPod("short", ended(pod("short", "default", "n1", "1", "1Gi"))) }, false},
		"a pod came and went":      {func() { l.setPod("b", pod("b", "default", "n1", "1", "1Gi")); l.setPod("b", nil) }, true},
		"the node is cordoned":     {func() { l.setNode("n1", node("n1", cordoned)); l.setNode("n1", n) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			row.change()
			if got := l.takeChanged(); got != row.want {
				t.Errorf("changed %t, want %t", got, row.want)
			}
		})
	}
}

func TestLedger_PodCountsAsTheSchedulerDoes(t *testing.T) {
	p := pod("a", "default", "n1", "1", "1Gi")
	p.Spec.InitContainers = []corev1.Container{{Name: "init", Resources: corev1.ResourceRequirements{Requests: list("4", "1Mi")}}}
	p.Spec.Overhead = list("250m", "10Mi")
	want := map[string]string{"cpu": "4250m", "memory": "1034Mi", "pods": "1"}
	if diff := cmp.Diff(want, texts(requestsOf(p))); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestQuotas_EachMayTakeWhatTheOthersLeave(t *testing.T) {
	cpu := func(n int64) amounts { return amounts{corev1.ResourceCPU: n * 1000} }
	for name, row := range map[string]struct {
		used map[string]amounts
		want map[string]amounts
	}{
		"nothing is used":            {want: map[string]amounts{"a": cpu(10), "b": cpu(10)}},
		"one uses some":              {used: map[string]amounts{"a": cpu(3)}, want: map[string]amounts{"a": cpu(10), "b": cpu(7)}},
		"both use some":              {used: map[string]amounts{"a": cpu(3), "b": cpu(5)}, want: map[string]amounts{"a": cpu(5), "b": cpu(7)}},
		"one uses more than offered": {used: map[string]amounts{"a": cpu(12)}, want: map[string]amounts{"a": cpu(10), "b": cpu(0)}},
		"a namespace that is going":  {used: map[string]amounts{"old": cpu(4)}, want: map[string]amounts{"a": cpu(6), "b": cpu(6)}},
		"a resource not offered":     {used: map[string]amounts{"a": {"example.org/gpu": 1000}}, want: map[string]amounts{"a": cpu(10), "b": cpu(10)}},
	} {
		t.Run(name, func(t *testing.T) {
			got := quotas(offer{total: cpu(10), used: row.used}, map[string]bool{"a": true, "b": true})
			if diff := cmp.Diff(row.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("quotas (-want +got):\n%s", diff)
			}
		})
	}
}
