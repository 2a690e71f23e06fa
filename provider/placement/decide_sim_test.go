package placement

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// readyAfter is how long a pod of the simulation takes to get Ready once it is bound.
const readyAfter = 3 * time.Second

// simulation is a cluster in which a second takes no time. Its pods want 1 cpu each.
type simulation struct {
	t        *testing.T
	now      time.Time
	nodes    []*corev1.Node
	policies []Policy
	sets     []*replicaSet
	pods     []*Pod
	history  History
	next     time.Time
	changed  bool
	named    int
	sent     map[types.UID]int // how often a pod was sent to a peer
	cameHome []string
	shut     bool // the scheduler sees no room at home, whatever the figures say
	decided  int  // how often Decide was asked
}

// replicaSet has as many pods as it wants, and takes away those of the lowest deletion cost, of those the newest.
type replicaSet struct {
	name     string
	policy   int
	replicas int
}

func newSimulation(t *testing.T, homeCPU string, sets ...*replicaSet) *simulation {
	return &simulation{
		t: t, now: noon(), sets: sets, sent: map[types.UID]int{},
		nodes:    []*corev1.Node{ownNode("own-a", homeCPU), ownNode("own-b", homeCPU), virtualNode("west", "500"), virtualNode("east", "500")},
		policies: []Policy{policyOf(v1alpha1.Burst{}, "west", "east")},
	}
}

// run lets some time pass, second by second.
func (s *simulation) run(d time.Duration, each func()) {
	for end := s.now.Add(d); s.now.Before(end); s.now = s.now.Add(time.Second) {
		if each != nil {
			each()
		}
		for _, set := range s.sets {
			s.scale(set)
		}
		s.schedule()
		s.start()
		s.evict()
		if s.changed || !s.next.IsZero() && !s.now.Before(s.next) {
			s.changed = false
			s.decide()
		}
	}
}

// of are the pods of a ReplicaSet; released ones are not.
func (s *simulation) of(set *replicaSet) (out []*Pod) {
	for _, p := range s.pods {
		if len(p.OwnerReferences) > 0 && p.OwnerReferences[0].Name == set.name {
			out = append(out, p)
		}
	}
	return out
}

func (s *simulation) scale(set *replicaSet) {
	has := s.of(set)
	for range set.replicas - len(has) {
		s.named++
		p := newPod(fmt.Sprintf("%s-%04d", set.name, s.named))
		p.CreationTimestamp, p.Policy = metav1.NewTime(s.now), set.policy
		s.pods, s.changed = append(s.pods, &p), true
	}
	slices.SortFunc(has, func(a, b *Pod) int { return cmp.Or(cmp.Compare(cost(a), cost(b)), strings.Compare(b.Name, a.Name)) })
	for _, p := range has[:max(0, len(has)-set.replicas)] {
		s.remove(p)
	}
}

func cost(p *Pod) int {
	if p.Spec.NodeName == "" {
		return math.MinInt // a ReplicaSet takes those first that are not bound
	}
	if p.Annotations[corev1.PodDeletionCost] != "" {
		return -100
	}
	return 0
}

func (s *simulation) remove(p *Pod) {
	s.pods, s.changed = slices.DeleteFunc(s.pods, func(o *Pod) bool { return o == p }), true
}

// schedule binds pods to the node with the most room among those that they tolerate.
func (s *simulation) schedule() {
	free := map[string]int64{}
	for _, n := range s.nodes {
		free[n.Name] = n.Status.Allocatable.Cpu().Value()
	}
	for _, p := range s.pods {
		free[p.Spec.NodeName]--
	}
	for _, p := range s.pods {
		if p.Spec.NodeName != "" {
			continue
		}
		var best *corev1.Node
		for _, n := range s.nodes {
			peer := n.Labels[v1alpha1.LabelPeer]
			tolerated := peer == "" && !s.shut || peer != "" && strings.Contains(p.Annotations[v1alpha1.AnnotationBurst], peer+"=")
			if tolerated && free[n.Name] > 0 && (best == nil || free[n.Name] > free[best.Name]) {
				best = n
			}
		}
		if best != nil {
			free[best.Name]--
			s.change(p, func(p *corev1.Pod) {
				p.Spec.NodeName = best.Name
				p.Status.Conditions = []corev1.PodCondition{{
					Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(s.now)}}
			})
		} else if len(p.Status.Conditions) == 0 {
			s.change(p, func(p *corev1.Pod) {
				p.Status.Conditions = []corev1.PodCondition{{
					Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
					LastTransitionTime: metav1.NewTime(s.now), Message: "0/4 nodes are available: 4 Insufficient cpu."}}
			})
		}
	}
}

// change replaces a pod, as caches do: Decide may have kept the one before.
func (s *simulation) change(p *Pod, how func(p *corev1.Pod)) {
	p.Pod = p.DeepCopy()
	how(p.Pod)
	s.changed = true
}

func (s *simulation) start() {
	for _, p := range s.pods {
		if c := p.Status.Conditions; len(c) == 1 && c[0].Status == corev1.ConditionTrue && s.now.Sub(c[0].LastTransitionTime.Time) >= readyAfter {
			s.change(p, func(p *corev1.Pod) {
				p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
			})
		}
	}
}

func (s *simulation) ready(set *replicaSet) (n int) {
	for _, p := range s.of(set) {
		if len(p.Status.Conditions) == 2 {
			n++
		}
	}
	return n
}

// evict ends released pods whose ReplicaSet has all its Ready pods again.
func (s *simulation) evict() {
	for _, set := range s.sets {
		for _, p := range slices.Clone(s.pods) {
			if p.Labels[v1alpha1.LabelMoving] == "uid-"+set.name && s.ready(set) >= set.replicas {
				s.remove(p)
			}
		}
	}
}

func (s *simulation) decide() {
	s.decided++
	in := Input{Now: s.now, Nodes: s.nodes, Policies: s.policies, History: s.history}
	for _, p := range s.pods {
		for _, set := range s.sets {
			if p.OwnerReferences != nil && p.OwnerReferences[0].Name == set.name {
				p.Settled = s.ready(set) >= set.replicas
			}
		}
		in.Pods = append(in.Pods, *p)
	}
	out := Decide(in)
	s.history, s.next = out.History, out.Next
	for _, d := range out.Decisions {
		p := s.pods[slices.IndexFunc(s.pods, func(p *Pod) bool { return p.Pod == d.Pod })]
		switch d.Action {
		case Overflow:
			s.sent[p.UID]++
			s.change(p, func(p *corev1.Pod) {
				p.Annotations[v1alpha1.AnnotationBurst] = AppendBurst(p.Annotations[v1alpha1.AnnotationBurst], d.Peer, s.now)
				p.Annotations[corev1.PodDeletionCost] = "-100"
			})
		case ComeHome:
			s.cameHome = append(s.cameHome, fmt.Sprintf("%s %s", s.now.Format(time.TimeOnly), d.Message))
			s.change(p, func(p *corev1.Pod) {
				moving, _ := json.Marshal(Moving{At: s.now})
				p.Annotations[v1alpha1.AnnotationMoving] = string(moving)
				p.Labels[v1alpha1.LabelMoving] = string(p.OwnerReferences[0].UID)
				p.OwnerReferences = nil
			})
		}
	}
}

// where counts the pods of a ReplicaSet, Ready and not, at home and elsewhere.
func (s *simulation) where(set *replicaSet) (home, away int) {
	for _, p := range s.of(set) {
		if strings.HasPrefix(p.Spec.NodeName, "own-") {
			home++
		} else if p.Spec.NodeName != "" {
			away++
		}
	}
	return home, away
}

func TestSimulation_TheLoadSwings(t *testing.T) {
	for _, period := range []time.Duration{30 * time.Second, time.Minute, 3 * time.Minute, 4 * time.Minute, 10 * time.Minute, 20 * time.Minute} {
		for name, foreign := range map[string]bool{"of the policy": false, "of others": true} {
			if foreign && period > 5*time.Minute {
				continue // there is room for longer than stabilization: it is right to come home
			}
			t.Run(fmt.Sprintf("%s, every %v", name, period), func(t *testing.T) {
				web, other := &replicaSet{name: "web", replicas: 55}, &replicaSet{name: "other", policy: -1, replicas: 45}
				s := newSimulation(t, "50", other, web)
				swinging, most := web, 0
				if foreign {
					swinging = other
				}
				middle := swinging.replicas
				if foreign { // others are there first, and at their most
					s.sets, other.replicas = []*replicaSet{other}, middle+10
					s.run(5*time.Second, nil)
					s.sets = append(s.sets, web)
					s.run(20*time.Second, nil)
				}
				began := s.now
				s.run(20*time.Minute, func() {
					swing := math.Cos(2 * math.Pi * float64(s.now.Sub(began)) / float64(period))
					swinging.replicas = middle + int(math.Round(10*swing))
					_, away := s.where(web)
					most = max(most, away)
				})
				if most == 0 {
					t.Error("nothing overflowed: nothing is tested")
				}
				if len(s.cameHome) > 0 {
					t.Errorf("%d pods came home: %s", len(s.cameHome), s.cameHome[0])
				}
				for uid, times := range s.sent {
					if times > 1 {
						t.Errorf("%s was sent %d times", uid, times)
					}
				}
			})
		}
	}
}

func TestSimulation_HomeIsFreed(t *testing.T) {
	web, other := &replicaSet{name: "web", replicas: 20}, &replicaSet{name: "other", policy: -1, replicas: 24}
	s := newSimulation(t, "12", other) // 24 cpu: when other is gone, room for 20 and the headroom
	s.run(10*time.Second, nil)
	s.sets = append(s.sets, web)
	s.run(defaultAfter+15*time.Second, nil)
	if home, away := s.where(web); home != 0 || away != 20 || s.ready(web) != 20 {
		t.Fatalf("%d pods at home, %d in peers, %d Ready: want all 20 in peers", home, away, s.ready(web))
	}
	s.run(10*time.Minute, nil)
	if len(s.cameHome) > 0 {
		t.Fatalf("home is full, and yet: %s", s.cameHome[0])
	}
	before := s.decided
	s.run(time.Hour, nil)
	if s.decided != before {
		t.Errorf("asked %d times in an hour in which nothing happened", s.decided-before)
	}

	other.replicas = 0
	s.run(defaultStabilization-time.Second, nil)
	if len(s.cameHome) > 0 {
		t.Errorf("too early: %s", s.cameHome[0])
	}
	least, serving := 20, 0
	s.run(time.Minute, func() {
		serving = 0
		for _, p := range s.pods {
			if len(p.Status.Conditions) == 2 {
				serving++
			}
		}
		least = min(least, serving)
	})
	if home, away := s.where(web); home != 20 || away != 0 || len(s.pods) != 20 {
		t.Errorf("%d pods at home, %d in peers, %d pods: want all 20 at home\n%s", home, away, len(s.pods), strings.Join(s.cameHome, "\n"))
	}
	if len(s.cameHome) != 20 || least < 20 {
		t.Errorf("%d moves, want 20; at least %d pods were Ready, want 20", len(s.cameHome), least)
	}
}

// TestSimulation_TheFiguresPromiseTooMuch has a scheduler that sees no room at home for reasons of its own: pods come home ever less often.
func TestSimulation_TheFiguresPromiseTooMuch(t *testing.T) {
	web := &replicaSet{name: "web", replicas: 20}
	s := newSimulation(t, "50", web)
	s.shut = true
	s.run(6*time.Hour, nil)
	if n := len(s.cameHome); n == 0 || n > 6*defaultMaxConcurrent {
		t.Errorf("%d moves in 6 hours, want some, and %d at most:\n%s", n, 6*defaultMaxConcurrent, strings.Join(s.cameHome, "\n"))
	}
	if _, away := s.where(web); away != 20 || len(s.pods) != 20 {
		t.Errorf("%d of %d pods in peers, want 20 of 20", away, len(s.pods))
	}
	s.shut = false
	s.run(24*time.Hour, nil)
	if home, _ := s.where(web); home != 20 {
		t.Errorf("%d pods at home, want 20 once the scheduler sees room", home)
	}
	if returned := s.history.Returned["shop/burst"]; returned.Failed > 0 && returned.Last.IsZero() {
		t.Errorf("it is not forgotten: %+v", returned)
	}
}

// TestSimulation_ARestart forgets the history halfway: the pods come home later, and none of them twice.
func TestSimulation_ARestart(t *testing.T) {
	web, other := &replicaSet{name: "web", replicas: 10}, &replicaSet{name: "other", policy: -1, replicas: 24}
	s := newSimulation(t, "12", other)
	s.run(10*time.Second, nil)
	s.sets = append(s.sets, web)
	s.run(time.Minute, nil)
	other.replicas = 0
	s.run(defaultStabilization-time.Minute, nil)
	s.history, s.changed = History{}, true
	s.run(defaultStabilization-time.Second, nil)
	if len(s.cameHome) > 0 {
		t.Errorf("too early after a restart: %s", s.cameHome[0])
	}
	s.run(6*time.Second, nil)
	s.history, s.changed = History{}, true
	s.run(defaultStabilization+time.Minute, nil)
	if home, _ := s.where(web); home != 10 || len(s.cameHome) != 10 || len(s.pods) != 10 {
		t.Errorf("%d at home after %d moves, %d pods: want 10 after 10\n%s", home, len(s.cameHome), len(s.pods), strings.Join(s.cameHome, "\n"))
	}
}
