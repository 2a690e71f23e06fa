package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// moveTime is when the rows of these tests happen.
func moveTime() time.Time { return time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC) }

// movePods reads pods from a line such as "a@west b@home,starting c@home,released": the name, the place, and how it differs from a
// Ready pod. Each is a minute younger than the one before.
func movePods(line string) []Member {
	var members []Member
	for i, word := range strings.Fields(line) {
		name, rest, _ := strings.Cut(word, "@")
		place, traits, _ := strings.Cut(rest, ",")
		if place == "home" {
			place = Home
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID(name), Labels: map[string]string{"pod-template-hash": "1a"},
			CreationTimestamp: metav1.NewTime(moveTime().Add(time.Duration(i-60) * time.Minute)),
			OwnerReferences:   []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-1a", UID: "rs", Controller: new(true)}},
		}}
		pod.Spec.NodeName = "node"
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		for trait := range strings.SplitSeq(traits, ",") {
			moveTrait(pod, trait)
		}
		members = append(members, Member{Pod: pod, Place: place})
	}
	return members
}

func moveTrait(pod *corev1.Pod, trait string) {
	switch trait {
	case "starting":
		pod.Status.Conditions = nil
	case "gated":
		pod.Status.Conditions, pod.Spec.NodeName = nil, ""
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.GatePlacement}}
	case "ending", "stuck":
		at := moveTime().Add(30 * time.Second)
		if trait == "stuck" {
			at = moveTime().Add(-time.Minute)
		}
		pod.DeletionTimestamp = new(metav1.NewTime(at))
	case "released":
		pod.Labels["pod-template-hash"] += MovingSuffix
		pod.Labels[v1alpha1.LabelMoving] = "rs"
		pod.OwnerReferences = nil
	case "new":
		pod.Labels["pod-template-hash"] = "2b" + strings.TrimPrefix(pod.Labels["pod-template-hash"], "1a")
	case "bare":
		delete(pod.Labels, "pod-template-hash")
	case "failed":
		pod.Status.Phase = corev1.PodFailed
	}
}

// moveText is what the moves are, for people: "Release a, Evict b".
func moveText(moves []Move, done bool) string {
	var words []string
	for _, m := range moves {
		word := fmt.Sprintf("%s %s", m.Kind, m.Pod.Name)
		if m.Instead != nil {
			word += " instead of " + m.Instead.Name
		}
		words = append(words, word)
	}
	if done {
		words = append(words, "done")
	}
	return strings.Join(words, ", ")
}

// moveRow is a workload, a wish, and what is to be done next. The replicas are those of the line unless said.
type moveRow struct {
	pods     string
	replicas int32
	to       string
	count    int
	only     []types.UID
	atOnce   int
	noSurge  bool
	want     string
}

func (r moveRow) check(t *testing.T, kind string) {
	t.Helper()
	w := Workload{Namespace: "shop", Kind: kind, Name: "web", Replicas: r.replicas, NoSurge: r.noSurge, Members: movePods(r.pods)}
	wish := Wish{To: r.to, Count: r.count, Only: r.only, AtOnce: r.atOnce, Why: "Step 1."}
	for range len(w.Members) + 1 { // in any order
		if diff := cmp.Diff(r.want, moveText(Next(w, wish, moveTime()))); diff != "" {
			t.Fatalf("moves (-want +got):\n%s", diff)
		}
		if len(w.Members) > 0 {
			w.Members = append(slices.Clone(w.Members[1:]), w.Members[0])
		}
	}
}

func TestNext_Deployment(t *testing.T) {
	for name, row := range map[string]moveRow{
		"the newest goes first":         {pods: "a@home b@home c@home", replicas: 3, to: "west", count: 2, atOnce: 1, want: "Release c"},
		"as many as may":                {pods: "a@home b@home c@home", replicas: 3, to: "west", count: 3, atOnce: 2, want: "Release c, Release b"},
		"as many as should":             {pods: "a@home b@home c@west", replicas: 3, to: "west", count: 2, atOnce: 5, want: "Release b"},
		"at least one":                  {pods: "a@home", replicas: 1, to: "west", count: 1, want: "Release a"},
		"in the order of those who may": {pods: "a@home b@home c@home", replicas: 3, to: "west", count: 3, only: []types.UID{"a", "b"}, atOnce: 1, want: "Release a"},
		"none of those who may is left": {pods: "a@home b@west", replicas: 2, to: "west", count: 2, only: []types.UID{"gone"}, atOnce: 1, want: "done"},
		"nobody may":                    {pods: "a@home", replicas: 1, to: "west", count: 1, only: []types.UID{}, atOnce: 1, want: "done"},
		"more than there are: all":      {pods: "a@west b@west", replicas: 2, to: "west", count: 9, atOnce: 1, want: "done"},
		"more there than needed stay":   {pods: "a@west b@west", replicas: 2, to: "west", count: 1, atOnce: 1, want: "done"},
		"another is not there yet":      {pods: "a@home b@home,released", replicas: 2, to: "west", count: 2, atOnce: 1, want: ""},
		"another is starting":           {pods: "a@home b@home,released c@west,starting", replicas: 2, to: "west", count: 2, atOnce: 1, want: ""},
		"another waits for its place":   {pods: "a@home b@home,released c@home,gated", replicas: 2, to: "west", count: 2, atOnce: 1, want: ""},
		"another is Ready":              {pods: "a@home b@home,released c@west", replicas: 2, to: "west", count: 2, atOnce: 1, want: "Evict b"},
		"two at once, one is Ready":     {pods: "a@home,released b@home,released c@west d@west,starting", replicas: 2, to: "west", count: 2, atOnce: 2, want: "Evict a"},
		"released, and serves nobody":   {pods: "a@home b@home,released,starting", replicas: 2, to: "west", count: 1, atOnce: 1, want: "Evict b"},
		"the old one is ending":         {pods: "a@home b@home,ending c@west", replicas: 2, to: "west", count: 2, atOnce: 1, want: ""},
		"the old one does not end":      {pods: "a@home b@home,stuck c@west", replicas: 2, to: "west", count: 2, atOnce: 1, want: "Release a"},
		"arrived, and not Ready":        {pods: "a@west b@west,starting", replicas: 2, to: "west", count: 2, atOnce: 1, want: ""},
		"another is not Ready at home":  {pods: "a@home b@home,starting", replicas: 2, to: "west", count: 1, atOnce: 1, want: "Evict b"},
		"room for one more on its way":  {pods: "a@home b@home c@home,released d@west,starting", replicas: 3, to: "west", count: 3, atOnce: 2, want: "Release b"},
		"ended ones do not count":       {pods: "a@west b@home,failed", replicas: 1, to: "west", count: 1, atOnce: 1, want: "done"},
		"scaled to nothing":             {pods: "a@home,released", replicas: 0, to: "west", count: 0, atOnce: 1, want: "Evict a"},
		"nothing":                       {replicas: 0, to: "west", count: 0, atOnce: 1, want: "done"},
		"two templates: wait":           {pods: "a@home b@home,new", replicas: 2, to: "west", count: 2, atOnce: 1, want: ""},
		"two templates: let finish":     {pods: "a@home b@home,new c@home,released", replicas: 2, to: "west", count: 2, atOnce: 1, want: "Evict c"},
		"no surge: away at once":        {pods: "a@home b@home", replicas: 2, to: "west", count: 2, atOnce: 1, noSurge: true, want: "Evict b"},
		"no surge: then wait":           {pods: "a@home b@home,ending c@west,starting", replicas: 2, to: "west", count: 2, atOnce: 1, noSurge: true, want: ""},
		"no hash: away at once":         {pods: "a@home,bare b@home,bare", replicas: 2, to: "west", count: 1, atOnce: 1, want: "Evict b"},
		"back: what is not Ready goes":  {pods: "a@home b@west,starting", replicas: 2, to: Home, count: 2, atOnce: 1, want: "Evict b"},
		"back: before it was replaced":  {pods: "a@home b@home,released", replicas: 2, to: Home, count: 2, atOnce: 1, want: "Restore b"},
		"back: before it was placed":    {pods: "a@home b@home,released c@home,gated", replicas: 2, to: Home, count: 2, atOnce: 1, want: "Restore b"},
		"back: before it was Ready":     {pods: "a@home b@home,released c@west,starting", replicas: 2, to: Home, count: 2, atOnce: 1, want: "Restore b instead of c"},
		"back: both are Ready":          {pods: "a@home b@home,released c@west", replicas: 2, to: Home, count: 2, atOnce: 1, want: "Restore b instead of c"},
		"back: another is starting": {pods: "a@home b@home,released c@home,starting", replicas: 2, to: Home, count: 2, atOnce: 1,
			want: "Restore b instead of c"},
		"back: a pod too many serves, another is starting": {pods: "a@home b@home,released c@home,starting d@west,starting", replicas: 3, to: Home,
			count: 3, atOnce: 1, want: "Restore b instead of d"},
		"back: of an old template":       {pods: "a@home,new b@home,released c@west,new", replicas: 2, to: Home, count: 2, atOnce: 1, want: "Evict b"},
		"back: another is there already": {pods: "a@home b@home,released c@home", replicas: 2, to: Home, count: 2, atOnce: 1, want: "Evict b"},
		"back: the others come by surge": {pods: "a@home b@west c@home,released d@west,starting", replicas: 3, to: Home, count: 3, atOnce: 1,
			want: "Restore c instead of d, Release b"},
	} {
		t.Run(name, func(t *testing.T) { row.check(t, "Deployment") })
	}
}

func TestNext_StatefulSet(t *testing.T) {
	for name, row := range map[string]moveRow{
		"the highest first":          {pods: "db-9@home db-10@home db-8@home", replicas: 3, to: "west", count: 3, atOnce: 3, want: "Evict db-10"},
		"the name is not free yet":   {pods: "db-0@home db-1@home,ending", replicas: 2, to: "west", count: 2, atOnce: 3, want: ""},
		"never free, peer is silent": {pods: "db-0@home db-1@home,stuck", replicas: 2, to: "west", count: 2, atOnce: 3, want: ""},
		"not made anew yet":          {pods: "db-0@home", replicas: 2, to: "west", count: 2, atOnce: 3, want: ""},
		"not placed yet":             {pods: "db-0@home db-1@home,gated", replicas: 2, to: "west", count: 2, atOnce: 3, want: ""},
		"not Ready yet":              {pods: "db-0@home db-1@west,starting", replicas: 2, to: "west", count: 2, atOnce: 3, want: ""},
		"the next one":               {pods: "db-0@home db-1@west", replicas: 2, to: "west", count: 2, atOnce: 3, want: "Evict db-0"},
		"its share":                  {pods: "db-0@home db-1@west", replicas: 2, to: "west", count: 1, atOnce: 3, want: "done"},
		"only the last is moved":     {pods: "db-0@home db-1@home", replicas: 2, to: "west", count: 2, only: []types.UID{"db-0"}, want: "Evict db-0"},
		"back: what is not Ready":    {pods: "db-0@west,starting", replicas: 3, to: Home, count: 3, atOnce: 1, want: "Evict db-0"},
		"back: not before its time":  {pods: "db-0@home db-1@west db-2@home,starting", replicas: 3, to: Home, count: 3, atOnce: 1, want: ""},
		"nothing":                    {replicas: 0, to: "west", atOnce: 1, want: "done"},
	} {
		t.Run(name, func(t *testing.T) { row.check(t, "StatefulSet") })
	}
}

// TestNext_SaysWhatToWrite is what a Release writes on the pod.
func TestNext_SaysWhatToWrite(t *testing.T) {
	w := Workload{Kind: "Deployment", Replicas: 1, Members: movePods("a@home")}
	moves, _ := Next(w, Wish{To: "west", Count: 1, AtOnce: 1, Why: "Step 1."}, moveTime())
	want := &Moving{Controller: "web-1a", Hash: "1a", To: "west", Why: "Step 1.", At: moveTime()}
	if diff := cmp.Diff(want, moves[0].Moving); diff != "" {
		t.Errorf("moving (-want +got):\n%s", diff)
	}
}

func TestLeftovers(t *testing.T) {
	for pods, want := range map[string]string{
		"a@home b@home,released":                                 "",
		"a@home b@home,released c@west":                          "Evict b",
		"a@home b@home,released c@west,starting":                 "",
		"a@home b@home,released,starting":                        "Evict b",
		"a@home,new c@west,new b@home,released":                  "Evict b",
		"a@home b@home,released c@home,released d@west":          "Evict b, Evict c",
		"a@home,starting b@home,released c@home,released d@west": "",
	} {
		w := Workload{Kind: "Deployment", Replicas: 2, Members: movePods(pods)}
		if diff := cmp.Diff(want, moveText(Leftovers(w), false)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", pods, diff)
		}
	}
}

func TestPlaceOf(t *testing.T) {
	toPeer := func(op corev1.NodeSelectorOperator, values ...string) *corev1.Affinity {
		return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: "zone", Operator: corev1.NodeSelectorOpExists}, {Key: v1alpha1.LabelPeer, Operator: op, Values: values},
			}}},
		}}}
	}
	sent := map[string]string{v1alpha1.AnnotationBurst: "north=2026-01-02T15:04:05Z,west=2026-01-02T15:05:05Z"}
	for name, row := range map[string]struct {
		spec        corev1.PodSpec
		annotations map[string]string
		want        string
	}{
		"on a virtual node":          {corev1.PodSpec{NodeName: "spillway-east"}, sent, "east"},
		"on a node of its own":       {corev1.PodSpec{NodeName: "node-1", NodeSelector: map[string]string{v1alpha1.LabelPeer: "no"}}, sent, Home},
		"sent by selector":           {corev1.PodSpec{NodeSelector: map[string]string{v1alpha1.LabelPeer: "west"}}, nil, "west"},
		"sent by affinity":           {corev1.PodSpec{Affinity: toPeer(corev1.NodeSelectorOpIn, "west")}, nil, "west"},
		"kept by affinity":           {corev1.PodSpec{Affinity: toPeer(corev1.NodeSelectorOpDoesNotExist)}, sent, Home},
		"two peers by affinity":      {corev1.PodSpec{Affinity: toPeer(corev1.NodeSelectorOpIn, "west", "east")}, nil, Home},
		"overflowed, the last entry": {corev1.PodSpec{}, sent, "west"},
		"nowhere":                    {corev1.PodSpec{}, nil, Home},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: row.annotations}, Spec: row.spec}
		got := PlaceOf(pod, func(node string) string {
			peer, _ := strings.CutPrefix(node, "spillway-")
			if peer == node {
				return Home
			}
			return peer
		})
		if got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}
