package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func policyOf(name string, spec v1alpha1.OffloadPolicySpec) *v1alpha1.OffloadPolicy {
	return &v1alpha1.OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}, Spec: spec}
}

func selector(kv ...string) metav1.LabelSelector {
	s := metav1.LabelSelector{MatchLabels: map[string]string{}}
	for i := 0; i < len(kv); i += 2 {
		s.MatchLabels[kv[i]] = kv[i+1]
	}
	return s
}

func namespace(label string) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	if label != "" {
		ns.Labels = map[string]string{v1alpha1.LabelOffload: label}
	}
	return ns
}

// places are the nodes of a cluster with two peers.
func places() map[string]map[string]string {
	return map[string]map[string]string{
		"worker": {"kubernetes.io/hostname": "worker"},
		"east":   {v1alpha1.LabelPeer: "east", "topology.kubernetes.io/region": "eu", "tier": "gold"},
		"west":   {v1alpha1.LabelPeer: "west", "topology.kubernetes.io/region": "us"},
	}
}

func byRegion(region string) *metav1.LabelSelector {
	s := selector("topology.kubernetes.io/region", region)
	return &s
}

// TestPlaces: where a pod may run is the same by admission (toleration and affinity, as the scheduler reads them) and by
// verdict.
func TestPlaces(t *testing.T) {
	always, allowed, never := v1alpha1.OffloadAlways, v1alpha1.OffloadAllowed, v1alpha1.OffloadNever
	unreadable := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
	notGold := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "tier", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"gold"}}}}
	for name, row := range map[string]struct {
		spec v1alpha1.OffloadPolicySpec
		pod  corev1.PodSpec
		want []string
	}{
		"always, anywhere":         {v1alpha1.OffloadPolicySpec{When: always}, corev1.PodSpec{}, []string{"east", "west"}},
		"always, by name":          {v1alpha1.OffloadPolicySpec{When: always, Peers: []v1alpha1.PeerChoice{{Name: "west"}}}, corev1.PodSpec{}, []string{"west"}},
		"always, by region":        {v1alpha1.OffloadPolicySpec{When: always, Peers: []v1alpha1.PeerChoice{{Selector: byRegion("eu")}}}, corev1.PodSpec{}, []string{"east"}},
		"always, name and region":  {v1alpha1.OffloadPolicySpec{When: always, Peers: []v1alpha1.PeerChoice{{Name: "west", Selector: byRegion("eu")}}}, corev1.PodSpec{}, nil},
		"always, one or the other": {v1alpha1.OffloadPolicySpec{When: always, Peers: []v1alpha1.PeerChoice{{Name: "west"}, {Selector: byRegion("eu")}}}, corev1.PodSpec{}, []string{"east", "west"}},
		"always, not gold":         {v1alpha1.OffloadPolicySpec{When: always, Peers: []v1alpha1.PeerChoice{{Selector: notGold}}}, corev1.PodSpec{}, []string{"west"}},
		"unreadable means no peer": {v1alpha1.OffloadPolicySpec{When: always, Peers: []v1alpha1.PeerChoice{{Selector: unreadable}}}, corev1.PodSpec{}, nil},
		"empty selector: any peer": {v1alpha1.OffloadPolicySpec{When: always, Peers: []v1alpha1.PeerChoice{{Selector: &metav1.LabelSelector{}}}}, corev1.PodSpec{}, []string{"east", "west"}},
		"allowed":                  {v1alpha1.OffloadPolicySpec{When: allowed}, corev1.PodSpec{}, []string{"east", "west", "worker"}},
		"allowed, one peer":        {v1alpha1.OffloadPolicySpec{When: allowed, Peers: []v1alpha1.PeerChoice{{Name: "east"}}}, corev1.PodSpec{}, []string{"east", "worker"}},
		"never":                    {v1alpha1.OffloadPolicySpec{When: never}, corev1.PodSpec{}, []string{"worker"}},
		"never, although it tolerates all": {v1alpha1.OffloadPolicySpec{When: never}, corev1.PodSpec{
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}, []string{"worker"}},
		"the pod's own wish stays": {v1alpha1.OffloadPolicySpec{When: always}, corev1.PodSpec{Affinity: required(
			term("tier", corev1.NodeSelectorOpExists), term("kubernetes.io/hostname", corev1.NodeSelectorOpExists))}, []string{"east"}},
		"an empty wish is no place": {v1alpha1.OffloadPolicySpec{When: always},
			corev1.PodSpec{Affinity: required(corev1.NodeSelectorTerm{})}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			set := NewSet([]*v1alpha1.OffloadPolicy{policyOf("p", row.spec)}, nil)
			pod := &corev1.Pod{Spec: row.pod}
			before := pod.DeepCopy()
			if s, ok := set.Steer(pod); ok {
				if diff := cmp.Diff(before, pod); diff != "" {
					t.Fatalf("the pod itself was changed: %s", diff)
				}
				pod.Spec.Tolerations, pod.Spec.Affinity = s.Tolerations, s.Affinity
			}
			if diff := cmp.Diff(row.want, schedulable(pod), cmp.Transformer("sort", sorted)); diff != "" {
				t.Errorf("by the scheduler: %s", diff)
			}
			if row.pod.Affinity != nil {
				return // the verdict is about policies only
			}
			var fit []string
			for peer, labels := range places() {
				if labels[v1alpha1.LabelPeer] == "" {
					continue
				}
				if set.Judge(namespace(""), pod, Place{peer, labels}).Refusal == "" {
					fit = append(fit, peer)
				}
			}
			if diff := cmp.Diff(peersOnly(row.want), fit, cmp.Transformer("sort", sorted)); diff != "" {
				t.Errorf("by verdict: %s", diff)
			}
		})
	}
}

func sorted(in []string) map[string]bool {
	out := map[string]bool{}
	for _, s := range in {
		out[s] = true
	}
	return out
}

func peersOnly(in []string) []string {
	var out []string
	for _, s := range in {
		if s != "worker" {
			out = append(out, s)
		}
	}
	return out
}

func term(key string, op corev1.NodeSelectorOperator) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op}}}
}

func required(terms ...corev1.NodeSelectorTerm) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms}}}
}

// schedulable are the nodes that the scheduler's own rules allow.
func schedulable(pod *corev1.Pod) []string {
	var out []string
	for name, labels := range places() {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		fits, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node)
		peer := labels[v1alpha1.LabelPeer]
		if err != nil || !fits || peer != "" && !tolerates(pod, peer) {
			continue
		}
		out = append(out, name)
	}
	return out
}

func tolerates(pod *corev1.Pod, peer string) bool {
	taint := corev1.Taint{Key: v1alpha1.TaintVirtualNode, Value: peer, Effect: corev1.TaintEffectNoSchedule}
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool { return t.ToleratesTaint(logr.Discard(), &taint, false) })
}

func TestSteer_LeavesAlone(t *testing.T) {
	yes := true
	set := NewSet([]*v1alpha1.OffloadPolicy{policyOf("p", v1alpha1.OffloadPolicySpec{PodSelector: selector("app", "web")})}, nil)
	web := map[string]string{"app": "web"}
	for name, row := range map[string]struct {
		pod  corev1.Pod
		want bool
	}{
		"a pod it selects":      {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: web}}, true},
		"a pod it does not":     {corev1.Pod{}, false},
		"a pod that has a node": {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: web}, Spec: corev1.PodSpec{NodeName: "a"}}, false},
		"a pod of a DaemonSet": {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: web,
			OwnerReferences: []metav1.OwnerReference{{Kind: "DaemonSet", Controller: &yes}}}}, false},
		"a static pod's mirror": {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: web,
			Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := set.Steer(&row.pod); got != row.want {
				t.Errorf("steered: %v, want %v", got, row.want)
			}
		})
	}
}

func TestOrderIsAWish(t *testing.T) {
	set := NewSet([]*v1alpha1.OffloadPolicy{policyOf("p", v1alpha1.OffloadPolicySpec{
		Peers: []v1alpha1.PeerChoice{{Name: "west"}, {Name: "east"}, {Name: "far"}}})}, nil)
	s, _ := set.Steer(&corev1.Pod{})
	var last int32 = 101
	for _, p := range s.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
		if p.Weight >= last || p.Weight < 1 {
			t.Errorf("weight %d after %d", p.Weight, last)
		}
		last = p.Weight
	}
	if last == 101 {
		t.Error("no preference")
	}
}

func TestVerdicts(t *testing.T) {
	gpu := "nvidia"
	patch := &v1alpha1.TwinPatch{RuntimeClassName: &gpu}
	set := NewSet([]*v1alpha1.OffloadPolicy{
		policyOf("b-rest", v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways,
			OnPeerLost: v1alpha1.PeerLost{Action: v1alpha1.PeerLostRecreateAfter, After: &metav1.Duration{Duration: time.Minute}},
			Peers:      []v1alpha1.PeerChoice{{Name: "west"}, {Name: "east", Patch: patch}, {Selector: &metav1.LabelSelector{}}}}),
		policyOf("a-db", v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadNever, PodSelector: selector("app", "db")}),
	}, nil)
	web, db := map[string]string{"app": "web"}, map[string]string{"app": "db"}
	east := Place{"east", places()["east"]}
	for name, row := range map[string]struct {
		set   Set
		label string
		pod   map[string]string
		want  Verdict
	}{
		"the first choice that means the peer": {set, "", web, Verdict{Policy: "b-rest", Patch: patch, RecreateAfter: time.Minute}},
		"the first policy that selects":        {set, "enabled", db, Verdict{Policy: "a-db", Refusal: "OffloadPolicy a-db keeps this pod at home"}},
		"a closed namespace": {set, "disabled", web, Verdict{Policy: "b-rest", RecreateAfter: time.Minute,
			Refusal: "namespace shop is closed for offloading by its label spillway.dev/offload=disabled"}},
		"no policy, open":   {Set{}, "enabled", web, Verdict{}},
		"no policy, closed": {Set{}, "", web, Verdict{Refusal: "namespace shop does not allow offloading: kubectl label namespace shop spillway.dev/offload=enabled, or make an OffloadPolicy in it"}},
		"not selected": {NewSet([]*v1alpha1.OffloadPolicy{policyOf("p", v1alpha1.OffloadPolicySpec{PodSelector: selector("app", "db")})}, nil), "", web,
			Verdict{Refusal: "no OffloadPolicy of namespace shop selects this pod: change a podSelector, or label the namespace spillway.dev/offload=enabled"}},
		"not selected, open by label": {NewSet([]*v1alpha1.OffloadPolicy{policyOf("p", v1alpha1.OffloadPolicySpec{PodSelector: selector("app", "db")})}, nil), "enabled", web, Verdict{}},
		"only Never": {NewSet([]*v1alpha1.OffloadPolicy{policyOf("p", v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadNever})}, nil), "", web,
			Verdict{Policy: "p", Refusal: "the OffloadPolicies of namespace shop keep its pods at home"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, row.set.Judge(namespace(row.label), &metav1.ObjectMeta{Labels: row.pod}, east)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReflect_WidestCounts(t *testing.T) {
	set := NewSet([]*v1alpha1.OffloadPolicy{
		policyOf("a", v1alpha1.OffloadPolicySpec{Reflect: v1alpha1.Reflect{Secrets: v1alpha1.ReflectAll, Services: v1alpha1.ReflectNone}}),
		policyOf("b", v1alpha1.OffloadPolicySpec{Reflect: v1alpha1.Reflect{Services: v1alpha1.ReflectNone, Ingresses: v1alpha1.ReflectNone}}),
	}, nil)
	want := v1alpha1.Reflect{ConfigMaps: "Used", Secrets: "All", Services: "None", Ingresses: "All", NetworkPolicies: "All"}
	if diff := cmp.Diff(want, set.Reflect()); diff != "" {
		t.Error(diff)
	}
	want = v1alpha1.Reflect{ConfigMaps: "Used", Secrets: "Used", Services: "All", Ingresses: "All", NetworkPolicies: "All"}
	if diff := cmp.Diff(want, NewSet(nil, nil).Reflect()); diff != "" {
		t.Error(diff)
	}
}
