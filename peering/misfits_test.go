package peering

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestMisfitStatus: the status names the first fifty, and does not change while nothing does.
func TestMisfitStatus(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	g := governed{all: 80}
	for i := range 60 {
		g.wrong = append(g.wrong, misfit{&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%02d", i)}}, "no longer"})
	}
	p := &v1alpha1.OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
	p.Status = g.status(p, "", now)
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionFits)
	if c == nil || c.Reason != v1alpha1.ReasonMisfits || p.Status.MisfitCount != 60 || len(p.Status.Misfits) != v1alpha1.MaxMisfits || p.Status.RemotePods != 80 {
		t.Errorf("status: %+v", p.Status)
	}
	later := g.status(p, "", metav1.NewTime(now.Add(time.Hour)))
	if c := meta.FindStatusCondition(later.Conditions, v1alpha1.ConditionFits); !c.LastTransitionTime.Equal(&now) {
		t.Errorf("an hour later the condition has changed at %s", c.LastTransitionTime)
	}
	p.Status = governed{all: 80}.status(p, "", now)
	if !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionFits) || p.Status.Misfits != nil {
		t.Errorf("all fit: %+v", p.Status)
	}
	p.Status = governed{}.status(p, "spec.podSelector cannot be read", now)
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionFits); c.Reason != v1alpha1.ReasonSelectorInvalid {
		t.Errorf("a selector that cannot be read: %+v", c)
	}
}

func TestWishedName(t *testing.T) {
	for name, row := range map[string]struct {
		remote *v1alpha1.RemoteNamespace
		want   string
	}{
		"no wish":  {nil, "shop"},
		"suffixed": {&v1alpha1.RemoteNamespace{Naming: v1alpha1.RemoteNamingSuffixed}, ""},
		"the same": {&v1alpha1.RemoteNamespace{Naming: v1alpha1.RemoteNamingSameIfFree}, "shop"},
		"chosen":   {&v1alpha1.RemoteNamespace{Naming: v1alpha1.RemoteNamingChosen, Name: "acme-shop"}, "acme-shop"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := wishedName("shop", wish(row.remote)); got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
	if (tenant{share: v1alpha1.Share{NamespaceNames: v1alpha1.NamespaceNamesSameIfFree}}).mayShare(wishedName("shop", "Chosen/../x")) {
		t.Error("a wish that is no name is granted")
	}
}

// TestMisfits_NeedLabelsThatAreKnown: a provider that cordons all its nodes tells no labels; no pod that runs there is a misfit for that.
func TestMisfits_NeedLabelsThatAreKnown(t *testing.T) {
	region := metav1.LabelSelector{MatchLabels: map[string]string{"topology.kubernetes.io/region": "eu"}}
	p := &v1alpha1.OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "shop"}, Spec: v1alpha1.OffloadPolicySpec{
		When: v1alpha1.OffloadAlways, Peers: []v1alpha1.PeerChoice{{Selector: &region}}, Misfits: v1alpha1.MisfitsEvict}}
	policies := &Policies{
		sets: map[string]governance{"shop": {Set: policy.NewSet([]*v1alpha1.OffloadPolicy{p}, nil)}}, places: map[string]place{},
	}
	m := newMisfits(&Config{Policies: policies})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"}, Spec: corev1.PodSpec{NodeName: "far"}}
	shop := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	for name, row := range map[string]struct {
		prepare func()
		want    int
	}{
		"a node that is not known":  {func() { policies.dropPlace("far") }, 0},
		"a peer that tells nothing": {func() { policies.setPlace(Node{Peer: "far", NodeName: "far"}, false) }, 0},
		"a peer of another region": {func() {
			policies.setPlace(Node{Peer: "far", NodeName: "far", Labels: map[string]string{"topology.kubernetes.io/region": "us"}}, true)
		}, 1},
		"a peer of the right region": {func() { policies.setPlace(Node{Peer: "far", NodeName: "far", Labels: region.MatchLabels}, true) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			row.prepare()
			if g := m.count(p, shop, []*corev1.Pod{pod}); g.all != 1 || len(g.wrong) != row.want {
				t.Errorf("%d pods, %d misfits, want %d", g.all, len(g.wrong), row.want)
			}
		})
	}
}

// TestMisfits_NotWhatAMigrationMoves: a pod that a Migration has brought to a peer is no misfit of a policy that names another.
func TestMisfits_NotWhatAMigrationMoves(t *testing.T) {
	p := &v1alpha1.OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "shop"}, Spec: v1alpha1.OffloadPolicySpec{
		When: v1alpha1.OffloadAlways, Peers: []v1alpha1.PeerChoice{{Name: "east"}}, Misfits: v1alpha1.MisfitsEvict}}
	yes := true
	pods := []*corev1.Pod{
		{ObjectMeta: metav1.ObjectMeta{Name: "db-0", Namespace: "shop",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", Controller: &yes}}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "lone", Namespace: "shop"}},
	}
	for _, pod := range pods {
		pod.Spec.NodeName = "far"
	}
	shop := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	for to, want := range map[string][]string{"far": {"lone"}, "elsewhere": {"db-0", "lone"}} {
		m := begun("m", 50)
		m.Spec.To.Peer = to
		policies := &Policies{places: map[string]place{}, sets: map[string]governance{
			"shop": {Set: policy.NewSet([]*v1alpha1.OffloadPolicy{p}, []*v1alpha1.Migration{m})}}}
		policies.setPlace(Node{Peer: "far", NodeName: "far"}, true)
		g := newMisfits(&Config{Policies: policies}).count(p, shop, pods)
		var got []string
		for _, w := range g.wrong {
			got = append(got, w.pod.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" || g.all != len(pods) {
			t.Errorf("to %s, of %d pods: %s", to, g.all, diff)
		}
	}
}
