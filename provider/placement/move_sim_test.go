package placement

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// moveCluster is one workload, its controller, a scheduler and a kubelet, all of which take their steps in any order.
type moveCluster struct {
	t        *testing.T
	dice     *rand.Rand
	kind     string
	replicas int
	to       string // where the webhook sends new pods, while fewer than share are there
	share    int
	broken   string // pods never become Ready at this place
	pods     []Member
	past     [][]Member        // what a cache that is late may show
	seen     int               // how much of past the cache has shown
	made     int               // since the last wish was made
	serial   int               // of all pods
	moved    map[types.UID]int // by the pod that was released, or evicted without
}

func newMoveCluster(t *testing.T, seed uint64, kind string, replicas int) *moveCluster {
	c := &moveCluster{t: t, dice: rand.New(rand.NewPCG(seed, 1)), kind: kind, replicas: replicas, to: Home, share: replicas, broken: "none",
		moved: map[types.UID]int{}}
	for c.at(Home) < replicas {
		c.control()
		c.kubelet()
	}
	c.made = 0
	return c
}

// control is one pass of the controller: a ReplicaSet lets go, takes back, makes or ends pods; a StatefulSet makes what is missing.
func (c *moveCluster) control() {
	if c.kind == kindStatefulSet {
		for i := range c.replicas {
			if name := fmt.Sprintf("db-%d", i); !slices.ContainsFunc(c.pods, func(m Member) bool { return m.Name == name }) {
				c.create(name, "")
				return
			}
		}
		return
	}
	var active []Member
	for i, m := range c.pods {
		matches := m.Labels["pod-template-hash"] == "1a"
		if matches == (len(m.OwnerReferences) == 0) && m.DeletionTimestamp == nil {
			c.pods[i] = changeMember(m, func(p *corev1.Pod) {
				p.OwnerReferences = nil
				if matches {
					p.OwnerReferences = []metav1.OwnerReference{{UID: "rs", Name: "web-1a", Controller: new(true)}}
				}
			})
		}
		if matches && m.DeletionTimestamp == nil {
			active = append(active, c.pods[i])
		}
	}
	for range c.replicas - len(active) {
		c.create(fmt.Sprintf("web-%d", c.serial), "1a")
	}
	c.dice.Shuffle(len(active), func(i, j int) { active[i], active[j] = active[j], active[i] })
	slices.SortStableFunc(active, func(a, b Member) int { return deletionRank(a) - deletionRank(b) })
	for _, m := range active[:max(0, len(active)-c.replicas)] {
		c.end(m.UID)
	}
}

// deletionRank is the order in which a ReplicaSet ends pods that it has too many.
func deletionRank(m Member) int {
	if !Ready(m.Pod) {
		return -1 << 40
	}
	cost, _ := strconv.Atoi(m.Annotations[corev1.PodDeletionCost])
	return cost
}

func (c *moveCluster) create(name, hash string) {
	place, there := c.to, 0
	for _, m := range c.pods {
		if m.DeletionTimestamp == nil && m.Labels[v1alpha1.LabelMoving] == "" && m.Place == c.to {
			there++
		}
	}
	if there >= c.share {
		place = map[string]string{Home: "west", "west": Home}[c.to]
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(fmt.Sprintf("%s-%d", name, c.serial)), Labels: map[string]string{}}}
	pod.OwnerReferences = []metav1.OwnerReference{{UID: "rs", Name: "web-1a", Controller: new(true)}}
	if hash != "" {
		pod.Labels["pod-template-hash"] = hash
	}
	c.made++
	c.serial++
	c.pods = append(c.pods, Member{Pod: pod, Place: place})
}

// kubelet starts one pod, or lets one that was deleted go.
func (c *moveCluster) kubelet() {
	if len(c.pods) == 0 {
		return
	}
	i := c.dice.IntN(len(c.pods))
	switch m := c.pods[i]; {
	case m.DeletionTimestamp != nil:
		c.pods = slices.Delete(slices.Clone(c.pods), i, i+1)
	case m.Place != c.broken:
		c.pods[i] = changeMember(m, func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		})
	}
}

// apply carries out one move as a Mover does: an eviction of a pod that is as it was seen, and nothing when it is done already.
func (c *moveCluster) apply(move Move) {
	i := slices.IndexFunc(c.pods, func(m Member) bool { return m.UID == move.Pod.UID })
	if i < 0 || c.pods[i].DeletionTimestamp != nil {
		return
	}
	asSeen := Ready(c.pods[i].Pod) == Ready(move.Pod) && c.pods[i].Labels[v1alpha1.LabelMoving] == move.Pod.Labels[v1alpha1.LabelMoving]
	if move.Kind == Evict && !asSeen {
		return
	}
	switch m := c.pods[i]; move.Kind {
	case Evict:
		if m.Labels[v1alpha1.LabelMoving] == "" {
			c.moved[m.UID]++
		}
		c.end(m.UID)
	case Release:
		if m.Labels[v1alpha1.LabelMoving] == "" {
			c.moved[m.UID]++
		}
		c.pods[i] = changeMember(m, func(p *corev1.Pod) {
			p.Labels["pod-template-hash"] = move.Moving.Hash + MovingSuffix
			p.Labels[v1alpha1.LabelMoving] = "rs"
		})
	case Restore:
		delete(c.moved, m.UID)
		for j, q := range c.pods {
			if move.Instead != nil && q.UID == move.Instead.UID {
				c.pods[j] = changeMember(q, func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "-1000000"} })
			}
		}
		c.pods[i] = changeMember(m, func(p *corev1.Pod) {
			p.Labels["pod-template-hash"] = "1a"
			delete(p.Labels, v1alpha1.LabelMoving)
		})
	}
}

func (c *moveCluster) end(uid types.UID) {
	for i, m := range c.pods {
		if m.UID == uid {
			c.pods[i] = changeMember(m, func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.NewTime(moveTime())) })
		}
	}
}

func changeMember(m Member, how func(*corev1.Pod)) Member {
	m.Pod = m.DeepCopy()
	m.Labels = maps.Clone(m.Labels)
	how(m.Pod)
	return m
}

// step lets somebody do something, and the mover sometimes no more than begin with its moves, or go by what was true a while ago.
func (c *moveCluster) step(wish Wish) (done bool) {
	c.past = append(c.past, slices.Clone(c.pods))
	switch c.dice.IntN(4) {
	case 0:
		c.control()
	case 1, 2:
		c.kubelet()
	case 3:
		c.seen = max(c.seen, len(c.past)-1-c.dice.IntN(6))
		seen := c.past[c.seen]
		var moves []Move
		w := Workload{Kind: c.kind, Replicas: int32(c.replicas), Members: seen}
		moves, done = Next(w, wish, moveTime())
		if len(moves) > 0 {
			moves = moves[:c.dice.IntN(len(moves)+1)]
		}
		if c.dice.IntN(2) == 0 { // by somebody who knows of no wish
			moves = append(moves, Leftovers(w)...)
		}
		for _, m := range moves {
			c.apply(m)
			c.check()
		}
	}
	c.check()
	return done
}

// check is what must hold at every moment.
func (c *moveCluster) check() {
	c.t.Helper()
	ready := countReady(c.pods)
	names := map[string]bool{}
	for _, m := range c.pods {
		if names[m.Name] {
			c.t.Fatalf("two pods are %s:\n%s", m.Name, c)
		}
		names[m.Name] = true
	}
	least := c.replicas
	if c.kind == kindStatefulSet {
		least--
	}
	if ready < least {
		c.t.Fatalf("%d pods serve, of %d:\n%s", ready, c.replicas, c)
	}
}

func (c *moveCluster) String() string {
	var b strings.Builder
	for _, m := range c.pods {
		fmt.Fprintf(&b, "%s at %q ready %v ending %v labels %v\n", m.Name, m.Place, Ready(m.Pod), m.DeletionTimestamp != nil, m.Labels)
	}
	return b.String()
}

// until steps until the wish is fulfilled, or limit steps are over.
func (c *moveCluster) until(wish Wish, limit int) bool {
	c.to, c.share = wish.To, wish.Count
	c.past, c.seen = nil, 0
	for range limit {
		if c.step(wish) {
			return true
		}
	}
	return false
}

func (c *moveCluster) at(place string) int {
	n := 0
	for _, m := range c.pods {
		if m.Place == place && Ready(m.Pod) {
			n++
		}
	}
	return n
}

// TestNext_FollowedByControllers moves workloads there and back, with every step of controllers, kubelets and movers in any order.
func TestNext_FollowedByControllers(t *testing.T) {
	for seed := range uint64(300) {
		for _, kind := range []string{"Deployment", kindStatefulSet} {
			replicas, atOnce := 1+int(seed%7), 1+int(seed%3)
			t.Run(fmt.Sprintf("%s of %d, seed %d", kind, replicas, seed), func(t *testing.T) {
				c := newMoveCluster(t, seed, kind, replicas)
				for _, share := range []int{(replicas + 1) / 2, replicas} {
					if !c.until(Wish{To: "west", Count: share, AtOnce: atOnce}, 5000) || c.at("west") != share {
						t.Fatalf("%d of %d moved:\n%s", c.at("west"), share, c)
					}
				}
				c.movedOnce(replicas)
				c.moved, c.made = map[types.UID]int{}, 0
				back := Wish{To: Home, Count: replicas, AtOnce: atOnce}
				if !c.until(back, 5000) || c.at(Home) != replicas {
					t.Fatalf("%d of %d moved back:\n%s", c.at(Home), replicas, c)
				}
				c.movedOnce(replicas)
			})
		}
	}
}

// movedOnce says that there were as many moves as pods, each of another one.
func (c *moveCluster) movedOnce(want int) {
	c.t.Helper()
	if len(c.moved) != want || c.made != want {
		c.t.Errorf("%d pods moved and %d were made, want %d: %v", len(c.moved), c.made, want, c.moved)
	}
}

// TestNext_ComesBackHalfWay turns round at any moment, also from a peer where nothing becomes Ready. What never left stays.
func TestNext_ComesBackHalfWay(t *testing.T) {
	for seed := range uint64(300) {
		for _, kind := range []string{"Deployment", kindStatefulSet} {
			for _, broken := range []string{"none", "west"} {
				t.Run(fmt.Sprintf("%s, seed %d, broken %s", kind, seed, broken), func(t *testing.T) {
					replicas := 1 + int(seed%7)
					c := newMoveCluster(t, seed, kind, replicas)
					c.broken = broken
					c.until(Wish{To: "west", Count: replicas, AtOnce: 2}, int(seed%60))
					before := len(c.moved)
					c.moved = map[types.UID]int{}
					if !c.until(Wish{To: Home, Count: replicas, AtOnce: 2, Why: "Back."}, 5000) || c.at(Home) != replicas {
						t.Fatalf("%d of %d are back:\n%s", c.at(Home), replicas, c)
					}
					if len(c.moved) > before {
						t.Errorf("%d pods left, %d came back", before, len(c.moved))
					}
				})
			}
		}
	}
}
