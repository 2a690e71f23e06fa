package v1alpha1

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestOffloadPolicy_Create has one row per rule. want are the refusals of the API server; none: accepted.
func TestOffloadPolicy_Create(t *testing.T) {
	schema := newSchema(t, policyCRD)
	after := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	for name, row := range map[string]struct {
		spec OffloadPolicySpec
		want []string
	}{
		"an empty policy is accepted":       {OffloadPolicySpec{}, nil},
		"a peer by name is accepted":        {OffloadPolicySpec{Peers: []PeerChoice{{Name: "cloud"}}}, nil},
		"any peer by selector is accepted":  {OffloadPolicySpec{Peers: []PeerChoice{{Selector: &metav1.LabelSelector{}}}}, nil},
		"no peer at all is refused":         {OffloadPolicySpec{Peers: []PeerChoice{{}}}, []string{"spec.peers[0]: name a peer, or select peers by the labels of their virtual nodes"}},
		"another time is refused":           {OffloadPolicySpec{When: "Sometimes"}, []string{`spec.when: supported values: "Always", "Allowed", "Burst", "Never"`}},
		"a chosen name is accepted":         {OffloadPolicySpec{Namespace: &RemoteNamespace{Naming: RemoteNamingChosen, Name: "shop"}}, nil},
		"chosen without name is refused":    {OffloadPolicySpec{Namespace: &RemoteNamespace{Naming: RemoteNamingChosen}}, []string{"spec.namespace: give a name with naming Chosen, and only then"}},
		"a name without chosen is refused":  {OffloadPolicySpec{Namespace: &RemoteNamespace{Naming: RemoteNamingSuffixed, Name: "shop"}}, []string{"spec.namespace: give a name with naming Chosen, and only then"}},
		"recreate after is accepted":        {OffloadPolicySpec{OnPeerLost: PeerLost{Action: PeerLostRecreateAfter, After: after(time.Minute)}}, nil},
		"after without recreate is refused": {OffloadPolicySpec{OnPeerLost: PeerLost{After: after(time.Minute)}}, []string{"spec.onPeerLost: after belongs to action RecreateAfter"}},
		"recreate at once is refused": {OffloadPolicySpec{OnPeerLost: PeerLost{Action: PeerLostRecreateAfter, After: after(time.Second)}},
			[]string{"spec.onPeerLost.after: after is at least 10s, which is what it takes to call a peer lost"}},
		"a burst by its defaults is accepted": {OffloadPolicySpec{When: OffloadBurst}, nil},
		"a burst with limits is accepted": {OffloadPolicySpec{When: OffloadBurst, Burst: &Burst{After: after(0)},
			Peers: []PeerChoice{{Name: "cloud", MaxPods: new(int32(3)), Weight: new(int32(2))}}}, nil},
		"burst with another time is refused": {OffloadPolicySpec{When: OffloadAllowed, Burst: &Burst{}}, []string{"spec: burst belongs to when: Burst"}},
		"limits without burst are refused": {OffloadPolicySpec{Peers: []PeerChoice{{Name: "cloud", MaxPods: new(int32(3))}}},
			[]string{"spec: weight, maxPods and maxRequests belong to when: Burst, since nobody else counts them"}},
		"a threshold of nothing is refused": {OffloadPolicySpec{When: OffloadBurst, Burst: &Burst{Threshold: &BurstThreshold{}}},
			[]string{"spec.burst.threshold: say how many pods, or what they may request"}},
		"a negative time is refused": {OffloadPolicySpec{When: OffloadBurst, Burst: &Burst{After: after(-time.Second)}},
			[]string{"spec.burst.after: after is not negative"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "shop"}, Spec: row.spec}
			if diff := cmp.Diff(row.want, schema.validate(t, schema.defaulted(t, p), nil)); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}
