package placement

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const stuckFor10s = "no room at home for 10s: 0/2 nodes are available: 2 Insufficient cpu. "

func TestDecide_Overflow(t *testing.T) {
	full := newPod("full-1", on("spillway-west"), requesting("cpu", "4"))
	for name, row := range map[string]struct {
		burst  v1alpha1.Burst
		change func(in *Input)
		pods   []Pod
		want   string
		next   time.Duration // after noon; zero: none
	}{
		"after has passed": {
			pods: []Pod{newPod("web-1", stuck(10*time.Second))},
			want: "Overflow web-1 west: NoRoomAtHome: " + stuckFor10s + "Sent to west, the first of 2 peers with room\n",
		},
		"after has not passed": {
			pods: []Pod{newPod("web-1", stuck(9*time.Second))}, next: time.Second,
		},
		"after as the policy says": {
			burst: v1alpha1.Burst{After: lasting(time.Minute)}, pods: []Pod{newPod("web-1", stuck(50*time.Second))}, next: 10 * time.Second,
		},
		"nobody has looked at it yet": {pods: []Pod{newPod("web-1")}},
		"no policy":                   {pods: []Pod{newPod("web-1", stuck(time.Minute), func(p *Pod) { p.Policy = -1 })}},
		"another scheduler's":         {pods: []Pod{newPod("web-1", stuck(time.Minute), func(p *Pod) { p.Spec.SchedulerName = "batch" })}},
		"it ends":                     {pods: []Pod{newPod("web-1", stuck(time.Minute), ended)}},
		"a Migration places it":       {pods: []Pod{newPod("web-1", stuck(time.Minute), func(p *Pod) { p.Migrating = true })}},
		"it has ended":                {pods: []Pod{newPod("web-1", stuck(time.Minute), func(p *Pod) { p.Status.Phase = corev1.PodFailed })}},
		"the first is full": {
			pods: []Pod{full, newPod("web-1", stuck(10*time.Second))},
			want: "Overflow web-1 east: NoRoomAtHome: " + stuckFor10s + "Sent to east, the only peer with room\n",
		},
		"all are full": {
			pods: []Pod{full, newPod("web-1", stuck(10*time.Second), requesting("cpu", "4500m"))},
			want: "Wait web-1: NoPeerHasRoom: " + stuckFor10s +
				"No peer takes it: west has no room for cpu 4500m (cpu 0 free); east has no room for cpu 4500m (cpu 4 free)\n",
		},
		"one takes what the other would": {
			pods: []Pod{newPod("web-1", stuck(10*time.Second), requesting("cpu", "3")), newPod("web-2", stuck(10*time.Second), requesting("cpu", "3"))},
			want: "Overflow web-1 west: NoRoomAtHome: " + stuckFor10s + "Sent to west, the first of 2 peers with room\n" +
				"Overflow web-2 east: NoRoomAtHome: " + stuckFor10s + "Sent to east, the only peer with room\n",
		},
		"the important one first, then the older": {
			pods: []Pod{
				newPod("a-1", stuck(10*time.Second), requesting("cpu", "3"), created(time.Minute)),
				newPod("b-1", stuck(10*time.Second), requesting("cpu", "3"), created(2*time.Minute)),
				newPod("c-1", stuck(10*time.Second), requesting("cpu", "3"), created(time.Second), withPriority(7)),
			},
			want: "Overflow c-1 west: NoRoomAtHome: " + stuckFor10s + "Sent to west, the first of 2 peers with room\n" +
				"Overflow b-1 east: NoRoomAtHome: " + stuckFor10s + "Sent to east, the only peer with room\n" +
				"Wait a-1: NoPeerHasRoom: " + stuckFor10s +
				"No peer takes it: west has no room for cpu 3 (cpu 1 free); east has no room for cpu 3 (cpu 1 free)\n",
		},
		"cordoned and not Ready": {
			change: func(in *Input) {
				in.Nodes[1].Spec.Unschedulable = true
				in.Nodes[2].Status.Conditions[0].Status = corev1.ConditionUnknown
			},
			pods: []Pod{newPod("web-1", stuck(10*time.Second))},
			want: "Wait web-1: NoPeerHasRoom: " + stuckFor10s + "No peer takes it: west is cordoned; east is not Ready\n",
		},
		"its selector": {
			change: func(in *Input) { in.Nodes[2].Labels["disk"] = "ssd" },
			pods:   []Pod{newPod("web-1", stuck(10*time.Second), selecting("disk", "ssd"))},
			want:   "Overflow web-1 east: NoRoomAtHome: " + stuckFor10s + "Sent to east, the only peer with room\n",
		},
		"a taint": {
			change: func(in *Input) {
				in.Nodes[1].Spec.Taints = append(in.Nodes[1].Spec.Taints, corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoExecute})
				in.Nodes = in.Nodes[:2]
			},
			pods: []Pod{newPod("web-1", stuck(10*time.Second))},
			want: "Wait web-1: NoPeerHasRoom: " + stuckFor10s +
				"No peer takes it: west has the taint gpu, which the pod does not tolerate; east has no node here\n",
		},
		"a limit of pods": {
			change: func(in *Input) { in.Policies[0].Peers[0].MaxPods = pointer(int32(1)) },
			pods:   []Pod{newPod("web-0", on("spillway-west")), newPod("web-1", stuck(10*time.Second))},
			want:   "Overflow web-1 east: NoRoomAtHome: " + stuckFor10s + "Sent to east, the only peer with room\n",
		},
		"a limit of requests counts who is sent there": {
			change: func(in *Input) {
				in.Policies[0].Peers[0].MaxRequests = amounts("cpu", "1500m")
				in.Policies[0].Peers = in.Policies[0].Peers[:1]
			},
			pods: []Pod{newPod("web-0", sentTo("west", time.Second)), newPod("web-1", stuck(10*time.Second))},
			want: "Wait web-1: NoPeerHasRoom: " + stuckFor10s + "No peer takes it: west is at the policy's limit of cpu 1500m\n",
		},
		"the next peer once the first has not taken it": {
			pods: []Pod{newPod("web-1", stuck(20*time.Second), sentTo("west", 10*time.Second))},
			want: "Overflow web-1 east: NoRoomAtHome: no room at home for 20s: 0/2 nodes are available: 2 Insufficient cpu. " +
				"Sent to east, the only peer with room\n",
		},
		"not yet the next peer": {
			pods: []Pod{newPod("web-1", stuck(20*time.Second), sentTo("west", 4*time.Second))}, next: 6 * time.Second,
		},
		"the first again after all, later": {
			pods: []Pod{newPod("web-1", stuck(40*time.Second), sentTo("west", 30*time.Second), sentTo("east", 20*time.Second))},
			want: "Overflow web-1 west: NoRoomAtHome: no room at home for 40s: 0/2 nodes are available: 2 Insufficient cpu. " +
				"Sent to west, the only peer with room\n",
		},
		"the only one is not tried twice": {
			change: func(in *Input) { in.Policies[0].Peers = in.Policies[0].Peers[:1] },
			pods:   []Pod{newPod("web-1", stuck(time.Hour), sentTo("west", time.Hour))},
			want: "Wait web-1: NoPeerHasRoom: no room at home for 1h0m0s: 0/2 nodes are available: 2 Insufficient cpu. " +
				"It was sent to west, which has not taken it yet. No peer takes it: west was tried\n",
		},
		"the autoscaler first": {
			burst: v1alpha1.Burst{ClusterAutoscaler: v1alpha1.AutoscalerFirst},
			pods:  []Pod{newPod("web-1", stuck(time.Minute))}, next: time.Minute,
		},
		"the autoscaler refuses": {
			burst: v1alpha1.Burst{ClusterAutoscaler: v1alpha1.AutoscalerFirst},
			pods:  []Pod{newPod("web-1", stuck(10*time.Second), func(p *Pod) { p.ScaleUpRefused = true })},
			want:  "Overflow web-1 west: NoRoomAtHome: " + stuckFor10s + "Sent to west, the first of 2 peers with room\n",
		},
		"the autoscaler says nothing for long": {
			burst: v1alpha1.Burst{ClusterAutoscaler: v1alpha1.AutoscalerFirst, AutoscalerWait: lasting(10 * time.Second)},
			pods:  []Pod{newPod("web-1", stuck(10*time.Second))},
			want:  "Overflow web-1 west: NoRoomAtHome: " + stuckFor10s + "Sent to west, the first of 2 peers with room\n",
		},
		"the cheapest": {
			burst: v1alpha1.Burst{Choose: v1alpha1.BurstCheapest},
			change: func(in *Input) {
				in.Nodes[1].Labels[v1alpha1.LabelPrice] = "0.30"
				in.Nodes[2].Labels[v1alpha1.LabelPrice] = "0.04"
			},
			pods: []Pod{newPod("web-1", stuck(10*time.Second))},
			want: "Overflow web-1 east: NoRoomAtHome: " + stuckFor10s + "Sent to east, the cheapest (0.04) of 2 peers with room\n",
		},
		"by weight": {
			burst:  v1alpha1.Burst{Choose: v1alpha1.BurstWeighted},
			change: func(in *Input) { in.Policies[0].Peers[1].Weight = 3 },
			pods: []Pod{newPod("web-0", on("spillway-west")), newPod("web-1", on("spillway-east")), newPod("web-2", on("spillway-east")),
				newPod("web-3", stuck(10*time.Second))},
			want: "Overflow web-3 east: NoRoomAtHome: " + stuckFor10s +
				"Sent to east, the one with the fewest pods for its weight (2 pods, weight 3) of 2 peers with room\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{
				Now: noon(), Nodes: []*corev1.Node{ownNode("own", "1"), virtualNode("west", "4"), virtualNode("east", "4")},
				Policies: []Policy{policyOf(row.burst, "west", "east")}, Pods: row.pods,
			}
			// Nobody comes home here.
			in.Policies[0].Burst.ComeHome.When = v1alpha1.ComeHomeOnRequest
			if row.change != nil {
				row.change(&in)
			}
			out := Decide(in)
			if diff := cmp.Diff(row.want, words(out.Decisions)); diff != "" {
				t.Errorf("decisions (-want +got):\n%s", diff)
			}
			if len(out.History.Room) > 0 {
				return // and so Next is not about overflowing alone
			}
			if got := out.Next; row.next == 0 != got.IsZero() || row.next != 0 && !got.Equal(noon().Add(row.next)) {
				t.Errorf("next %v, want %v after noon", got, row.next)
			}
		})
	}
}

func TestDecide_Threshold(t *testing.T) {
	two := v1alpha1.Burst{Threshold: &v1alpha1.BurstThreshold{Pods: pointer(int32(2))}}
	for name, row := range map[string]struct {
		burst v1alpha1.Burst
		west  string // its cpu
		pods  []Pod
		want  string
	}{
		"within": {
			burst: two, west: "4", pods: []Pod{newPod("web-1", on("own")), newPod("web-2", withGate)},
			want: "Admit web-2: WithinThreshold: stays at home, within the threshold of policy shop/burst\n",
		},
		"those admitted count": {
			burst: two, west: "4", pods: []Pod{newPod("web-1", withGate), newPod("web-2", withGate), newPod("web-3", withGate)},
			want: "Admit web-1: WithinThreshold: stays at home, within the threshold of policy shop/burst\n" +
				"Admit web-2: WithinThreshold: stays at home, within the threshold of policy shop/burst\n" +
				"Overflow web-3 west: OverThreshold: policy shop/burst has 2 pods at home, and its threshold is 2 pods. " +
				"Sent to west, the only peer with room\n",
		},
		"over, and no peer takes it": {
			burst: two, west: "500m", pods: []Pod{newPod("web-1", on("own")), newPod("web-2"), newPod("web-3", withGate)},
			want: "Wait web-3: NoPeerHasRoom: policy shop/burst has 2 pods at home, and its threshold is 2 pods. " +
				"No peer takes it: west has no room for cpu 1 (cpu 500m free)\n",
		},
		"by requests": {
			burst: v1alpha1.Burst{Threshold: &v1alpha1.BurstThreshold{Requests: amounts("cpu", "1500m")}}, west: "4",
			pods: []Pod{newPod("web-1", on("own")), newPod("web-2", withGate)},
			want: "Overflow web-2 west: OverThreshold: policy shop/burst has cpu 1 at home, and its threshold is cpu 1500m. " +
				"Sent to west, the only peer with room\n",
		},
		"no threshold any more": {
			west: "4", pods: []Pod{newPod("web-1", withGate)},
			want: "Admit web-1: NoThreshold: no policy with a threshold governs it: stays at home\n",
		},
		"no policy any more": {
			west: "4", pods: []Pod{newPod("web-1", withGate, func(p *Pod) { p.Policy = -1 })},
			want: "Admit web-1: NoThreshold: no policy with a threshold governs it: stays at home\n",
		},
		"a Migration's": {
			burst: two, west: "4", pods: []Pod{newPod("web-1", withGate, func(p *Pod) { p.Migrating = true })},
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := Decide(Input{
				Now: noon(), Nodes: []*corev1.Node{ownNode("own", "8"), virtualNode("west", row.west)},
				Policies: []Policy{policyOf(row.burst, "west")}, Pods: row.pods,
			})
			if diff := cmp.Diff(row.want, words(out.Decisions)); diff != "" {
				t.Errorf("decisions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecide_WeightsAreProportions(t *testing.T) {
	in := Input{
		Now: noon(), Nodes: []*corev1.Node{virtualNode("west", "100"), virtualNode("east", "100"), virtualNode("south", "2")},
		Policies: []Policy{policyOf(v1alpha1.Burst{Choose: v1alpha1.BurstWeighted}, "west", "east", "south")},
	}
	for i, weight := range []int32{1, 3, 2} {
		in.Policies[0].Peers[i].Weight = weight
	}
	for i := range 18 {
		in.Pods = append(in.Pods, newPod(fmt.Sprintf("web-%d", i), stuck(10*time.Second)))
	}
	// south has room for two of its six: the others are divided as one to three.
	if diff := cmp.Diff(map[string]int{"west": 4, "east": 12, "south": 2}, Decide(in).Policies[0].Peers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecide_NamesSomePeersOnly(t *testing.T) {
	out := Decide(Input{
		Now: noon(), Policies: []Policy{policyOf(v1alpha1.Burst{}, "a", "b", "c", "d", "e"), policyOf(v1alpha1.Burst{})},
		Pods: []Pod{newPod("web-1", stuck(10*time.Second)), newPod("web-2", stuck(10*time.Second), func(p *Pod) { p.Policy = 1 })},
	})
	want := "Wait web-1: NoPeerHasRoom: " + stuckFor10s +
		"No peer takes it: a has no node here; b has no node here; c has no node here; and 2 others\n" +
		"Wait web-2: NoPeerHasRoom: " + stuckFor10s + "The policy names no peer\n"
	if diff := cmp.Diff(want, words(out.Decisions)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecide_States(t *testing.T) {
	out := Decide(Input{
		Now: noon(), Nodes: []*corev1.Node{ownNode("own", "1"), virtualNode("west", "3")},
		Policies: []Policy{policyOf(v1alpha1.Burst{}, "west")},
		Pods: []Pod{
			newPod("web-1", on("own")), newPod("web-2", on("spillway-west")), newPod("web-3", sentTo("west", time.Second)),
			newPod("web-4", stuck(10*time.Second)), newPod("web-5", stuck(10*time.Second)), newPod("web-6", stuck(10*time.Second)),
			newPod("web-7"), newPod("web-8", on("gone")),
		},
	})
	want := []State{{
		Home: 1, Peers: map[string]int{"west": 3}, Pending: 3,
		Waiting: "2 pods wait. No peer takes it: west has no room for cpu 1 (cpu 0 free)",
		Held:    "there is no room at home: web-4 found no room at home a short while ago",
	}}
	if diff := cmp.Diff(want, out.Policies); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

func TestBurst_ReadsWhatItWrites(t *testing.T) {
	value := AppendBurst(AppendBurst("", "west", noon()), "east", noon().Add(time.Minute).In(time.FixedZone("", 7200)))
	if want := "west=2026-03-01T12:00:00Z,east=2026-03-01T12:01:00Z"; value != want {
		t.Fatalf("wrote %q, want %q", value, want)
	}
	if diff := cmp.Diff([]Sent{{"west", noon()}, {"east", noon().Add(time.Minute)}}, ParseBurst("nonsense, =,"+value)); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	for range 200 {
		value = AppendBurst(value, "west", metav1.NewTime(noon()).Time)
	}
	if got := len(ParseBurst(value)); got != maxSent {
		t.Errorf("%d entries are kept, want %d", got, maxSent)
	}
}
