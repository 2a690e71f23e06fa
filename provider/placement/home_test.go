package placement

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// remembered is a history in which so many pods could have come home for some time.
func remembered(pods int, ago time.Duration) History {
	return History{Room: map[string][]Sample{"shop/burst": {{noon().Add(-ago), pods}}}}
}

func TestDecide_ComeHome(t *testing.T) {
	long := remembered(100, 5*time.Minute)
	for name, row := range map[string]struct {
		burst   v1alpha1.Burst
		history History
		change  func(in *Input)
		pods    []Pod
		want    string // who comes home, and from where
		state   State  // Home, Peers and Pending left out
		next    time.Duration
	}{
		"room for long enough": {
			history: long, pods: []Pod{newPod("web-1", on("spillway-west"))},
			want:  "ComeHome web-1 west: RoomAtHome: comes home from west: there has been room for 1 pod of policy shop/burst for 5m0s\n",
			state: State{Returning: 1, Returnable: 1},
		},
		"after a start": {
			pods: []Pod{newPod("web-1", on("spillway-west"))}, next: 5 * time.Minute,
			state: State{Held: "there is room at home for 1 pod since 2026-03-01T12:00:00Z: they come home at 2026-03-01T12:05:00Z if it stays"},
		},
		"not long enough": {
			history: remembered(1, 4*time.Minute), pods: []Pod{newPod("web-1", on("spillway-west"))}, next: time.Minute,
			state: State{Held: "there is room at home for 1 pod since 2026-03-01T11:56:00Z: they come home at 2026-03-01T12:01:00Z if it stays"},
		},
		"for one of two": {
			history: History{Room: map[string][]Sample{"shop/burst": {{noon().Add(-6 * time.Minute), 1}, {noon().Add(-2 * time.Minute), 2}}}},
			pods:    []Pod{newPod("web-1", on("spillway-west")), newPod("web-2", on("spillway-west"))}, next: 3 * time.Minute,
			want:  "ComeHome web-2 west: RoomAtHome: comes home from west: there has been room for 1 pod of policy shop/burst for 5m0s\n",
			state: State{Returning: 1, Returnable: 1},
		},
		"headroom": {
			history: long, pods: []Pod{newPod("web-1", on("spillway-west")), newPod("web-2", on("own-a")), newPod("db-1", on("own-a"), requesting("cpu", "6"))},
			state: State{Held: "there is no room at home: 10% of home's cpu has to stay free"},
		},
		"less headroom": {
			burst:   v1alpha1.Burst{ComeHome: v1alpha1.ComeHome{HeadroomPercent: pointer(int32(0))}},
			history: long, pods: []Pod{newPod("web-1", on("spillway-west")), newPod("web-2", on("own-a")), newPod("db-1", on("own-a"), requesting("cpu", "6"))},
			want:  "ComeHome web-1 west: RoomAtHome: comes home from west: there has been room for 1 pod of policy shop/burst for 5m0s\n",
			state: State{Returning: 1, Returnable: 1},
		},
		"who wants a place at home first": {
			history: long, pods: []Pod{newPod("web-1", on("spillway-west")), newPod("db-1", requesting("cpu", "8"), func(p *Pod) { p.Policy = -1 })},
			state: State{Held: "there is no room at home: no node has room for cpu 1"},
		},
		"who was turned away a short while ago": {
			history: long, pods: []Pod{newPod("web-1", on("spillway-west")), newPod("web-2", stuck(2*time.Second))},
			state: State{Held: "there is no room at home: web-2 found no room at home a short while ago"}, next: 8 * time.Second,
		},
		"its home is cordoned": {
			history: long, change: func(in *Input) { in.Nodes[0].Spec.Unschedulable = true },
			pods:  []Pod{newPod("web-1", on("spillway-west"))},
			state: State{Held: "there is no room at home: no node has room for cpu 1"},
		},
		"it selects a node that home has not": {
			history: long, pods: []Pod{newPod("web-1", on("spillway-west"), selecting("disk", "ssd"))},
			state: State{Held: "there is no room at home: no node has room for cpu 1"},
		},
		"it was gated, and bound to its peer": {
			burst:   v1alpha1.Burst{Threshold: &v1alpha1.BurstThreshold{Pods: pointer(int32(1))}},
			history: long, pods: []Pod{newPod("web-1", on("spillway-west"), sentTo("west", time.Hour), selecting(v1alpha1.LabelPeer, "west"))},
			want:  "ComeHome web-1 west: RoomAtHome: comes home from west: there has been room for 1 pod of policy shop/burst for 5m0s\n",
			state: State{Returning: 1, Returnable: 1},
		},
		"the threshold": {
			burst:   v1alpha1.Burst{Threshold: &v1alpha1.BurstThreshold{Pods: pointer(int32(1))}},
			history: long, pods: []Pod{newPod("web-1", on("spillway-west")), newPod("web-2", on("own-a"))},
			state: State{Held: "there is no room at home: the threshold of 1 pod is reached"},
		},
		"the last peer first, the newest first": {
			burst:   v1alpha1.Burst{ComeHome: v1alpha1.ComeHome{MaxConcurrent: pointer(int32(3))}},
			history: long, pods: []Pod{
				newPod("web-1", on("spillway-west"), created(time.Minute)), newPod("web-2", on("spillway-east"), created(3*time.Minute)),
				newPod("web-3", on("spillway-east"), created(2*time.Minute)), newPod("web-4", on("spillway-west"), created(4*time.Minute)),
			},
			want:  "ComeHome web-3 east\nComeHome web-2 east\nComeHome web-1 west\n",
			state: State{Returning: 3, Returnable: 4},
		},
		"the dearest first": {
			burst:   v1alpha1.Burst{Choose: v1alpha1.BurstCheapest, ComeHome: v1alpha1.ComeHome{MaxConcurrent: pointer(int32(1))}},
			history: long, change: func(in *Input) {
				in.Nodes[1].Labels[v1alpha1.LabelPrice], in.Nodes[2].Labels[v1alpha1.LabelPrice] = "2", "1"
			},
			pods:  []Pod{newPod("web-1", on("spillway-west")), newPod("web-2", on("spillway-east"))},
			want:  "ComeHome web-1 west\n",
			state: State{Returning: 1, Returnable: 2},
		},
		"some are on their way": {
			burst:   v1alpha1.Burst{ComeHome: v1alpha1.ComeHome{MaxConcurrent: pointer(int32(3))}},
			history: long, pods: []Pod{
				newPod("web-1", on("spillway-west"), letGo(time.Second)), newPod("api-1", on("spillway-west"), ended),
				newPod("web-2", on("spillway-east")), newPod("web-3", on("spillway-east")),
			},
			want:  "ComeHome web-3 east\n",
			state: State{Returning: 3, Returnable: 2},
		},
		"who left and who comes for it is one": {
			burst:   v1alpha1.Burst{ComeHome: v1alpha1.ComeHome{MaxConcurrent: pointer(int32(2))}},
			history: long, pods: []Pod{
				newPod("web-1", on("spillway-west"), letGo(2*time.Second)), newPod("web-2", created(time.Second)),
				newPod("api-1", on("spillway-east")),
			},
			want:  "ComeHome api-1 east\n",
			state: State{Returning: 2, Returnable: 1},
		},
		"new ones at home are not Ready": {
			burst:   v1alpha1.Burst{ComeHome: v1alpha1.ComeHome{MaxConcurrent: pointer(int32(1))}},
			history: long, pods: []Pod{newPod("web-1", on("spillway-west")), newPod("web-2", created(time.Minute))}, next: 4 * time.Minute,
			state: State{Returnable: 1, Held: "other pods of the policy are on their way, or not Ready at home yet"},
		},
		"its controller has not all its pods": {
			history: long, pods: []Pod{newPod("web-1", on("spillway-west"), func(p *Pod) { p.Settled = false })},
			state: State{Returnable: 1, Held: "the controller of web-1 has not all its pods Ready"},
		},
		"it is not Ready": {
			history: long, pods: []Pod{newPod("web-1", func(p *Pod) { p.Spec.NodeName = "spillway-west" })},
			state: State{Returnable: 1, Held: "1 pod in peers not Ready"},
		},
		"it stands none like itself beside it": {
			history: long, pods: []Pod{newPod("web-1", on("spillway-west"), alone), newPod("web-2", on("own-a"), alone)},
			state: State{Held: "there is no room at home: no node has room for cpu 1 and another pod of shop/app=web"},
		},
		"its host port is taken": {
			history: long, pods: []Pod{newPod("web-1", on("spillway-west"), withHostPort), newPod("db-1", on("own-a"), withHostPort)},
			state: State{Held: "there is no room at home: no node has room for cpu 1 and host port TCP/80"},
		},
		"home turned the last ones away": {
			history: History{
				Room:     map[string][]Sample{"shop/burst": {{noon().Add(-12 * time.Minute), 9}}},
				Returned: map[string]Return{"shop/burst": {Failed: 2}},
			},
			pods: []Pod{newPod("web-1", on("spillway-west"))}, next: 8 * time.Minute,
			state: State{Held: "there is room at home for 1 pod since 2026-03-01T11:48:00Z: they come home at 2026-03-01T12:08:00Z if it stays " +
				"(there has to be room for 20m0s, since home soon had no room again 2 times in a row)"},
		},
		"a Job's": {history: long, pods: []Pod{newPod("job-1", on("spillway-west"), func(p *Pod) { p.Movable = false })}},
		"on request": {
			burst:   v1alpha1.Burst{ComeHome: v1alpha1.ComeHome{When: v1alpha1.ComeHomeOnRequest}},
			history: long, pods: []Pod{newPod("web-1", on("spillway-west"))},
			state: State{Returnable: 1, Held: "comeHome.when is OnRequest: spillway repatriate has them come home"},
		},
		"it was asked for": {
			burst:  v1alpha1.Burst{ComeHome: v1alpha1.ComeHome{When: v1alpha1.ComeHomeOnRequest, HeadroomPercent: pointer(int32(90))}},
			change: func(in *Input) { in.Policies[0].Repatriate = noon().Add(-time.Minute) },
			pods:   []Pod{newPod("web-1", on("spillway-west")), newPod("web-2", on("spillway-west"), created(time.Second))},
			want:   "ComeHome web-1 west: Repatriated: comes home from west, as it was asked for\n",
			state:  State{Returning: 1},
		},
		"it was asked for, and there is no room": {
			change: func(in *Input) { in.Policies[0].Repatriate = noon() },
			pods:   []Pod{newPod("web-1", on("spillway-west")), newPod("db-1", on("own-a"), requesting("cpu", "8"))},
			state:  State{Held: "there is no room at home: no node has room for cpu 1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{
				Now: noon(), Nodes: []*corev1.Node{ownNode("own-a", "8"), virtualNode("west", "8"), virtualNode("east", "8")},
				Policies: []Policy{policyOf(row.burst, "west", "east")}, Pods: row.pods, History: row.history,
			}
			if row.change != nil {
				row.change(&in)
			}
			out := Decide(in)
			got := words(out.Decisions)
			if len(row.state.Held) == 0 && row.state.Returnable > 1 || row.state.Returning > 1 {
				got = ""
				for _, d := range out.Decisions {
					got += fmt.Sprintf("%s %s %s\n", d.Action, d.Pod.Name, d.Peer)
				}
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("decisions (-want +got):\n%s", diff)
			}
			state := out.Policies[0]
			state.Home, state.Peers, state.Pending = 0, nil, 0
			if diff := cmp.Diff(row.state, state); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			if got := out.Next; row.next == 0 != got.IsZero() || row.next != 0 && !got.Equal(noon().Add(row.next)) {
				t.Errorf("next %v, want %v after noon", got, row.next)
			}
		})
	}
}

func TestNote_KeepsWhatCountsOnly(t *testing.T) {
	at := func(second, n int) Sample { return Sample{noon().Add(time.Duration(second) * time.Second), n} }
	for name, row := range map[string]struct {
		before []Sample
		now    Sample
		want   []Sample
	}{
		"the first":         {nil, at(0, 3), []Sample{at(0, 3)}},
		"the same":          {[]Sample{at(0, 3)}, at(9, 3), []Sample{at(0, 3)}},
		"more":              {[]Sample{at(0, 3)}, at(9, 4), []Sample{at(0, 3), at(9, 4)}},
		"less than all":     {[]Sample{at(0, 3), at(9, 4)}, at(10, 2), []Sample{at(0, 2)}},
		"less than some":    {[]Sample{at(0, 1), at(5, 3), at(9, 4)}, at(10, 2), []Sample{at(0, 1), at(5, 2)}},
		"none, and no time": {[]Sample{at(0, 1), at(5, 3)}, at(10, 0), []Sample{at(0, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, note(row.before, row.now)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
