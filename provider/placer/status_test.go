package placer

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/peering/v1alpha1/client"
	"github.com/spillway-dev/spillway/provider/placement"
)

func TestConditions(t *testing.T) {
	for name, row := range map[string]struct {
		state            placement.State
		closed           string
		bursting, coming string
	}{
		"all at home": {placement.State{Home: 8}, "",
			"False AtHome: 8 pods at home, none in peers", "False NothingToReturn: no pod of this policy is in a peer"},
		"some in peers": {placement.State{Home: 1, Peers: map[string]int{"west": 7, "east": 5, "far": 0}, Held: "there is no room at home"}, "",
			"True Overflowed: 1 pod at home, 12 in peers (east 5, west 7)", "False Held: there is no room at home"},
		"some have no place": {placement.State{Home: 8, Pending: 2, Waiting: "west is full"}, "",
			"False AtHome: 8 pods at home, none in peers; 2 without a place: west is full", "False NothingToReturn: no pod of this policy is in a peer"},
		"some have no place yet": {placement.State{Home: 8, Pending: 2}, "",
			"False AtHome: 8 pods at home, none in peers; 2 without a place", "False NothingToReturn: no pod of this policy is in a peer"},
		"the namespace is closed": {placement.State{Home: 8}, "it is closed",
			"False AtHome: 8 pods at home, none in peers: it is closed", "False NothingToReturn: no pod of this policy is in a peer"},
		"some come home": {placement.State{Peers: map[string]int{"west": 7}, Returning: 1, Returnable: 2}, "",
			"True Overflowed: 0 pods at home, 7 in peers (west 7)", "True Returning: 1 pod on their way home"},
		"some could": {placement.State{Peers: map[string]int{"west": 7}, Returnable: 2}, "",
			"True Overflowed: 0 pods at home, 7 in peers (west 7)", "True Returning: 2 pods can come home"},
		"none would be made anew": {placement.State{Peers: map[string]int{"west": 7}}, "",
			"True Overflowed: 0 pods at home, 7 in peers (west 7)",
			"False NothingToReturn: none of the pods in peers can come home: those can that overflowed, run, have no claim, and have a controller that makes others"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range conditions(row.state, row.closed) {
				got = append(got, string(c.Status)+" "+c.Reason+": "+c.Message)
			}
			if diff := cmp.Diff([]string{row.bursting, row.coming}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestStatuses_WriteWhatDiffers: one read after a start, a write per change, one a second at most; the time of a change is kept.
func TestStatuses_WriteWhatDiffers(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	since := metav1.NewTime(now.Add(-time.Hour))
	server := &fakeStatus{conditions: []metav1.Condition{
		{Type: v1alpha1.ConditionFits, Status: metav1.ConditionTrue},
		{Type: v1alpha1.ConditionBursting, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAtHome, LastTransitionTime: since},
	}}
	s := newStatuses(func(string) client.Policies { return server })
	p := burstPolicy()
	write := func(state placement.State, at time.Time) time.Time {
		again, err := s.write(t.Context(), p, conditions(state, ""), at)
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	write(placement.State{Home: 3}, now)
	write(placement.State{Home: 3}, now.Add(time.Minute))
	if len(server.applied) != 1 || server.gets != 1 || len(server.applied[0]) != 2 {
		t.Fatalf("%d reads; written: %v", server.gets, server.applied)
	}
	if c := server.applied[0][0]; !c.LastTransitionTime.Equal(&since) || c.ObservedGeneration != 3 {
		t.Errorf("the condition has been so since %s, not %s; generation %d", since, c.LastTransitionTime, c.ObservedGeneration)
	}
	write(placement.State{Home: 4}, now.Add(time.Minute))
	if again := write(placement.State{Home: 5}, now.Add(time.Minute+statusEvery/2)); !again.Equal(now.Add(time.Minute + statusEvery)) {
		t.Errorf("a change half a second later is to be written at %s", again)
	}
	if write(placement.State{Home: 5}, now.Add(time.Minute+statusEvery)); len(server.applied) != 3 {
		t.Errorf("%d writes, want 3", len(server.applied))
	}
	for range 2 { // it is a policy of another kind now
		if err := s.clear(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if len(server.applied) != 4 || len(server.applied[3]) != 0 {
		t.Errorf("the conditions are not taken away once: %v", server.applied[3:])
	}
	if s.keep(nil); len(s.written) != 0 {
		t.Error("a policy that is gone is not forgotten")
	}
	if err := s.clear(t.Context(), p); err != nil || len(server.applied) != 4 {
		t.Errorf("a policy that never burst is written: %v", err)
	}
	server.err = errRefused
	if _, err := s.write(t.Context(), p, conditions(placement.State{Home: 9}, ""), now); err == nil {
		t.Error("a write that fails is not said")
	}
}
