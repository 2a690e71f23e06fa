package placement

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// rounds is how many clusters are made up.
const rounds = 150

// madeUp is a random cluster. What it holds at first is within every limit, so that what is over one was decided.
type madeUp struct {
	*rand.Rand
	in    Input
	peers []string
	calm  bool // nobody waits for a place, and home has much room
}

func makeUp(seed uint64) Input {
	m := &madeUp{Rand: rand.New(rand.NewPCG(seed, 7)), in: Input{Now: noon()}}
	m.calm = m.IntN(2) == 0
	for i := range 1 + m.IntN(4) {
		cpu := 1 + m.IntN(16)
		if m.calm {
			cpu *= 8
		}
		m.in.Nodes = append(m.in.Nodes, m.vary(ownNode(fmt.Sprintf("own-%d", i), fmt.Sprint(cpu))))
	}
	for i := range 1 + m.IntN(5) {
		peer := fmt.Sprintf("peer-%d", i)
		m.peers = append(m.peers, peer)
		m.in.Nodes = append(m.in.Nodes, m.vary(virtualNode(peer, fmt.Sprint(m.IntN(20)))))
	}
	for i := range 1 + m.IntN(3) {
		m.in.Policies = append(m.in.Policies, m.policy(fmt.Sprintf("policy-%d", i)))
	}
	for i := range m.IntN(80) {
		m.in.Pods = append(m.in.Pods, m.pod(fmt.Sprintf("web%d-%d", m.IntN(5), i)))
	}
	m.in.History = History{Room: map[string][]Sample{}}
	for _, p := range m.in.Policies {
		m.in.History.Room["shop/"+p.Name] = []Sample{{noon().Add(-time.Duration(m.IntN(10)) * time.Minute), m.IntN(40)}}
	}
	return m.in
}

func (m *madeUp) vary(n *corev1.Node) *corev1.Node {
	n.Labels["disk"] = []string{"ssd", "hdd"}[m.IntN(2)]
	n.Labels[v1alpha1.LabelPrice] = []string{"", "free", "1", "0.5"}[m.IntN(4)]
	switch m.IntN(8) {
	case 0:
		n.Spec.Unschedulable = true
	case 1:
		n.Status.Conditions = nil
	case 2:
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "team", Value: "a", Effect: corev1.TaintEffectNoSchedule})
	}
	return n
}

func (m *madeUp) policy(name string) Policy {
	p := policyOf(v1alpha1.Burst{}, m.peers...)
	p.Name = name
	p.Burst.Choose = []v1alpha1.BurstChoice{"", v1alpha1.BurstInOrder, v1alpha1.BurstWeighted, v1alpha1.BurstCheapest}[m.IntN(4)]
	if m.IntN(3) == 0 {
		p.Burst.Threshold = &v1alpha1.BurstThreshold{Pods: pointer(int32(m.IntN(10)))}
	}
	if m.IntN(2) == 0 {
		p.Burst.ComeHome.MaxConcurrent = pointer(int32(1 + m.IntN(4)))
	}
	if m.IntN(4) == 0 {
		p.Repatriate = noon().Add(-time.Duration(m.IntN(3)) * time.Hour)
	}
	m.Shuffle(len(p.Peers), func(i, j int) { p.Peers[i], p.Peers[j] = p.Peers[j], p.Peers[i] })
	for i := range p.Peers {
		p.Peers[i].Weight = int32(1 + m.IntN(5))
		if m.IntN(3) == 0 {
			p.Peers[i].MaxPods = pointer(int32(m.IntN(6)))
		}
		if m.IntN(3) == 0 {
			p.Peers[i].MaxRequests = amounts("cpu", fmt.Sprint(m.IntN(8)))
		}
	}
	return p
}

func (m *madeUp) pod(name string) Pod {
	p := newPod(name, created(time.Duration(m.IntN(20))*time.Minute),
		requesting("cpu", fmt.Sprintf("%dm", m.IntN(3000)), "memory", fmt.Sprintf("%dMi", m.IntN(4000))))
	p.Policy = m.IntN(len(m.in.Policies)+1) - 1
	p.Movable, p.Settled, p.Migrating, p.ScaleUpRefused = m.IntN(8) > 0, m.IntN(8) > 0, m.IntN(20) == 0, m.IntN(2) == 0
	if m.IntN(3) == 0 {
		withPriority(int32(m.IntN(3)))(&p)
	}
	if m.IntN(4) == 0 {
		selecting("disk", "ssd")(&p)
	}
	if m.IntN(4) == 0 {
		p.Spec.Tolerations = []corev1.Toleration{{Key: "team", Operator: corev1.TolerationOpEqual, Value: "a"}}
	}
	what := m.IntN(6)
	if m.calm {
		what = 2 + m.IntN(10)
	}
	switch what {
	case 0, 1:
		stuck(time.Duration(m.IntN(40)) * time.Second)(&p)
		for range m.IntN(3) {
			sentTo(m.peers[m.IntN(len(m.peers))], time.Duration(m.IntN(40))*time.Second)(&p)
		}
	case 2:
		withGate(&p)
	case 3, 4, 6, 7, 8, 9, 10, 11:
		on(m.in.Nodes[m.IntN(len(m.in.Nodes))].Name)(&p)
		if m.IntN(6) == 0 {
			letGo(time.Second)(&p)
		}
	}
	if m.IntN(12) == 0 {
		ended(&p)
	}
	return p
}

// ledger is what pods have in peers, counted in another way than Decide does.
type ledger map[string]corev1.ResourceList

func (l ledger) add(key string, p Pod) {
	if l[key] == nil {
		l[key] = corev1.ResourceList{}
	}
	one := amounts("pods", "1")
	for _, list := range []corev1.ResourceList{p.Requests, one} {
		for name, q := range list {
			sum := l[key][name]
			sum.Add(q)
			l[key][name] = sum
		}
	}
}

// within says which limit is not kept, of those that a pod takes something of.
func (l ledger) within(key string, limit corev1.ResourceList, p Pod) string {
	for name, most := range limit {
		if q := p.Requests[name]; q.IsZero() && name != corev1.ResourcePods {
			continue
		}
		if has := l[key][name]; has.Cmp(most) > 0 {
			return fmt.Sprintf("%s has %s of %s, the most is %s", key, has.String(), name, most.String())
		}
	}
	return ""
}

func TestDecide_NeverOverALimitNorAgainstASelector(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	overflowed := 0
	for round := range uint64(rounds) {
		in := makeUp(seed + round)
		decided := map[*corev1.Pod]Decision{}
		for _, d := range Decide(in).Decisions {
			if _, twice := decided[d.Pod]; twice {
				t.Errorf("seed %d: two decisions about %s", seed+round, d.Pod.Name)
			}
			decided[d.Pod] = d
		}
		nodes, limits := ledger{}, ledger{}
		byPeer, byNode := map[string]*corev1.Node{}, map[string]string{}
		for _, n := range in.Nodes {
			if peer := n.Labels[v1alpha1.LabelPeer]; peer != "" {
				byPeer[peer], byNode[n.Name] = n, peer
			}
		}
		for _, p := range in.Pods {
			peer, counts := byNode[p.Spec.NodeName], map[string]bool{}
			for _, s := range ParseBurst(p.Annotations[v1alpha1.AnnotationBurst]) {
				counts[s.Peer] = p.Spec.NodeName == ""
			}
			if d := decided[p.Pod]; d.Action == Overflow {
				peer = d.Peer
			}
			if peer != "" {
				nodes.add(peer, p)
				counts[peer] = true
			}
			for at, here := range counts {
				if here {
					limits.add(fmt.Sprint(p.Policy, at), p)
				}
			}
		}
		for _, p := range in.Pods {
			d, ok := decided[p.Pod]
			if !ok || d.Action != Overflow {
				continue
			}
			overflowed++
			node := byPeer[d.Peer]
			if why := nodes.within(d.Peer, node.Status.Allocatable, p); why != "" {
				t.Errorf("seed %d: %s", seed+round, why)
			}
			for _, peer := range in.Policies[p.Policy].Peers {
				limit := peer.MaxRequests.DeepCopy()
				if limit == nil {
					limit = corev1.ResourceList{}
				}
				if peer.MaxPods != nil {
					limit[corev1.ResourcePods] = *resource.NewQuantity(int64(*peer.MaxPods), resource.DecimalSI)
				}
				if why := limits.within(fmt.Sprint(p.Policy, d.Peer), limit, p); peer.Name == d.Peer && why != "" {
					t.Errorf("seed %d: policy %s", seed+round, why)
				}
			}
			for _, complaint := range misplaced(p, node) {
				t.Errorf("seed %d: %s on %s, %s", seed+round, p.Name, node.Name, complaint)
			}
		}
	}
	if overflowed < rounds/4 {
		t.Errorf("only %d pods overflowed in %d clusters: nothing is tested", overflowed, rounds)
	}
}

// misplaced says what is wrong with a made-up pod on a made-up node.
func misplaced(p Pod, n *corev1.Node) (complaints []string) {
	if want := p.Spec.NodeSelector["disk"]; want != "" && n.Labels["disk"] != want {
		complaints = append(complaints, "which it does not select")
	}
	if len(n.Spec.Taints) > 1 && len(p.Spec.Tolerations) == 0 {
		complaints = append(complaints, "whose taint it does not tolerate")
	}
	if n.Spec.Unschedulable || len(n.Status.Conditions) == 0 {
		complaints = append(complaints, "which takes no pods")
	}
	return complaints
}

func TestDecide_TheSameInAnyOrder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for round := range uint64(rounds) {
		in := makeUp(seed + round)
		want := Decide(in)
		if diff := cmp.Diff(makeUp(seed+round), in); diff != "" {
			t.Fatalf("seed %d: the input was changed (-before +after):\n%s", seed+round, diff)
		}
		again := rand.New(rand.NewPCG(seed, round))
		in.Nodes, in.Pods = append([]*corev1.Node{}, in.Nodes...), append([]Pod{}, in.Pods...)
		again.Shuffle(len(in.Nodes), reflect.Swapper(in.Nodes))
		again.Shuffle(len(in.Pods), reflect.Swapper(in.Pods))
		order := again.Perm(len(in.Policies))
		policies, states := make([]Policy, len(order)), make([]State, len(order))
		for before, after := range order {
			policies[after], states[after] = in.Policies[before], want.Policies[before]
		}
		for i := range in.Pods {
			if in.Pods[i].Policy >= 0 {
				in.Pods[i].Policy = order[in.Pods[i].Policy]
			}
		}
		in.Policies, want.Policies = policies, states
		if diff := cmp.Diff(want, Decide(in)); diff != "" {
			t.Fatalf("seed %d (-first +shuffled):\n%s", seed+round, diff)
		}
	}
}

func TestDecide_NeverMoreOnTheWay(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	came := 0
	for round := range uint64(rounds) {
		in := makeUp(seed + round)
		out := Decide(in)
		virtual := map[string]bool{}
		for _, n := range in.Nodes {
			virtual[n.Name] = n.Labels[v1alpha1.LabelPeer] != ""
		}
		coming, leaving := map[int]int{}, map[int]int{}
		for _, p := range in.Pods {
			for _, d := range out.Decisions {
				if d.Pod == p.Pod && d.Action == ComeHome {
					coming[p.Policy]++
					came++
					if !p.Movable || !p.Settled || p.Migrating || p.DeletionTimestamp != nil || !virtual[p.Spec.NodeName] {
						t.Errorf("seed %d: %s may not come home", seed+round, p.Name)
					}
				}
			}
			if virtual[p.Spec.NodeName] && (p.DeletionTimestamp != nil || p.Labels[v1alpha1.LabelMoving] != "") {
				leaving[p.Policy]++
			}
		}
		for i, policy := range in.Policies {
			most := defaultMaxConcurrent
			if n := policy.Burst.ComeHome.MaxConcurrent; n != nil {
				most = int(*n)
			}
			if coming[i] > 0 && coming[i]+leaving[i] > most {
				t.Errorf("seed %d: %d come home and %d are on their way, the most is %d", seed+round, coming[i], leaving[i], most)
			}
		}
	}
	if came < rounds/10 {
		t.Errorf("only %d pods came home in %d clusters: nothing is tested", came, rounds)
	}
}

// big is the largest cluster that Decide has to be quick for: 10 000 pods, a half of which overflow, over 50 peers.
func big() Input {
	in := Input{Now: noon()}
	for i := range 200 {
		in.Nodes = append(in.Nodes, ownNode(fmt.Sprintf("own-%03d", i), "25"))
	}
	var peers []string
	for i := range 50 {
		peer := fmt.Sprintf("peer-%02d", i)
		peers = append(peers, peer)
		in.Nodes = append(in.Nodes, virtualNode(peer, fmt.Sprint(40+i)))
	}
	for i := range 20 {
		p := policyOf(v1alpha1.Burst{}, peers...)
		p.Name, p.Burst.Choose = fmt.Sprintf("policy-%d", i), []v1alpha1.BurstChoice{v1alpha1.BurstWeighted, v1alpha1.BurstInOrder}[i%2]
		for k := range p.Peers {
			p.Peers[k].MaxPods = pointer(int32(100))
		}
		in.Policies = append(in.Policies, p)
	}
	for i := range 10000 {
		p := newPod(fmt.Sprintf("web%d-%d", i%200, i), requesting("cpu", fmt.Sprintf("%dm", 900+i%7*50), "memory", "1Gi"))
		p.Policy = i % 20
		p.CreationTimestamp = metav1.NewTime(noon().Add(-time.Duration(i%3600) * time.Second))
		switch {
		case i%10 < 4:
			on(fmt.Sprintf("own-%03d", i/10%200))(&p)
		case i%10 == 4:
			on(fmt.Sprintf("spillway-peer-%02d", i/10%50))(&p)
		default:
			stuck(time.Minute)(&p)
			if i%10 > 7 {
				sentTo(peers[i%50], 50*time.Second)(&p)
			}
		}
		in.Pods = append(in.Pods, p)
	}
	return in
}

func BenchmarkDecide(b *testing.B) {
	in := big()
	b.ReportAllocs()
	for b.Loop() {
		if out := Decide(in); len(out.Decisions) == 0 {
			b.Fatal("nothing was decided")
		}
	}
}
