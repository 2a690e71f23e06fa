package peering

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func ranges(texts ...string) []netip.Prefix { return prefixes(texts) }

// netNode is a Ready node with these internal addresses.
func netNode(name string, internal []string, podCIDRs ...string) *corev1.Node {
	n := node(name)
	n.Spec.PodCIDRs = podCIDRs
	for _, a := range internal {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func gateway(n *corev1.Node, external ...string) *corev1.Node {
	n.Labels[v1alpha1.LabelGateway] = ""
	for _, a := range external {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: a})
	}
	return n
}

func TestSurroundings_Ranges(t *testing.T) {
	for name, row := range map[string]struct {
		seen surroundings
		want []string
	}{
		"nothing": {},
		"the usual cluster": {
			surroundings{
				nodes:    []*corev1.Node{netNode("a", []string{"192.168.1.10"}, "10.244.0.0/24"), netNode("b", []string{"192.168.1.11"}, "10.244.7.0/24")},
				services: ranges("10.96.0.0/12"), api: addrs([]string{"10.96.0.1"}),
			},
			[]string{"10.244.0.0/16 Pods", "192.168.1.0/24 Nodes", "10.96.0.1/32 API"},
		},
		"two families": {
			surroundings{nodes: []*corev1.Node{
				netNode("a", []string{"192.168.1.10", "fd00:a::10"}, "10.244.0.0/24", "fd00:b::/64"), netNode("b", []string{"192.168.2.10", "fd00:a:0:7::10"}, "10.244.1.0/24", "fd00:b:0:1::/64"),
			}, api: addrs([]string{"fd00:c::1"})},
			[]string{"10.244.0.0/16 Pods", "fd00:b::/56 Pods", "192.168.1.0/24 Nodes", "192.168.2.0/24 Nodes", "fd00:a::/64 Nodes", "fd00:a:0:7::/64 Nodes", "fd00:c::1/128 API"},
		},
		"nodes in the same /16 as their pods": {
			surroundings{nodes: []*corev1.Node{netNode("a", []string{"10.0.200.1"}, "10.0.0.0/24"), netNode("b", []string{"10.0.200.2"}, "10.0.2.0/24")}},
			[]string{"10.0.0.0/22 Pods", "10.0.200.0/24 Nodes"},
		},
		"nodes between their pods": {
			surroundings{nodes: []*corev1.Node{netNode("a", []string{"10.0.1.1"}, "10.0.0.0/24"), netNode("b", []string{"10.0.1.2"}, "10.0.2.0/24")}},
			[]string{"10.0.0.0/24 Pods", "10.0.2.0/24 Pods", "10.0.1.0/24 Nodes"},
		},
		"pods with addresses of the nodes' network": {
			surroundings{nodes: []*corev1.Node{netNode("a", []string{"10.0.1.1"})}, pods: ranges("10.0.0.0/20", "10.9.0.0/16")},
			[]string{"10.9.0.0/16 Pods", "10.0.0.0/20 Nodes"},
		},
		"configured": {
			surroundings{nodes: []*corev1.Node{netNode("a", []string{"192.168.1.10"}, "10.244.0.0/24")}, pods: ranges("10.128.0.0/10")},
			[]string{"10.128.0.0/10 Pods", "192.168.1.0/24 Nodes"},
		},
		"addresses that nobody else can reach": {
			surroundings{nodes: []*corev1.Node{netNode("a", []string{"127.0.0.1", "169.254.1.1", "fe80::1", "not an address"})}},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, r := range row.seen.ranges().announced() {
				got = append(got, r.CIDR+" "+string(r.Kind))
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSurroundings_ManyNodes: however many nodes there are, a peer accepts the ranges.
func TestSurroundings_ManyNodes(t *testing.T) {
	s := surroundings{api: addrs([]string{"10.96.0.1"})}
	for i := range 300 {
		s.nodes = append(s.nodes, netNode(fmt.Sprint("n", i), []string{fmt.Sprintf("172.%d.%d.1", 16+i%8*2, i)}, fmt.Sprintf("10.244.%d.0/24", i%256)))
	}
	n := &v1alpha1.ClusterNetwork{Ranges: s.ranges().announced()}
	if err := checkNetwork(n); err != nil || len(n.Ranges) < 3 {
		t.Errorf("%d ranges: %v", len(n.Ranges), err)
	}
}

func TestSurroundings_Endpoints(t *testing.T) {
	two := []*corev1.Node{
		gateway(netNode("a", []string{"192.168.1.10"}), "203.0.113.10"), gateway(netNode("b", []string{"192.168.1.11", "fd00:a::11"})), netNode("c", []string{"192.168.1.12"}),
	}
	service := func(kind corev1.ServiceType, ingress ...corev1.LoadBalancerIngress) map[int]*corev1.Service {
		return map[int]*corev1.Service{0: {
			Spec: corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{
				{Protocol: corev1.ProtocolUDP, Port: 4500, NodePort: 30500}, {Protocol: corev1.ProtocolTCP, Port: 443, NodePort: 30443},
			}},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: ingress}},
		}}
	}
	for name, row := range map[string]struct {
		seen     surroundings
		slot     int
		wanted   []string
		udp, tls string
	}{
		"the gateways' addresses": {
			surroundings{nodes: two}, 0, nil,
			"203.0.113.10:51820 192.168.1.10:51820 192.168.1.11:51820 [fd00:a::11]:51820", "203.0.113.10:51820 192.168.1.10:51820 192.168.1.11:51820 [fd00:a::11]:51820",
		},
		"the holder's come first": {
			surroundings{nodes: two[1:], holder: map[int]string{1: "b"}}, 1, nil,
			"192.168.1.11:51821 [fd00:a::11]:51821", "192.168.1.11:51821 [fd00:a::11]:51821",
		},
		"as the user says":              {surroundings{nodes: two}, 0, []string{"gw.example.org:4500"}, "gw.example.org:4500", "gw.example.org:4500"},
		"the user says none":            {surroundings{nodes: two}, 0, []string{"none"}, "", ""},
		"the user says one, slot 1":     {surroundings{nodes: two}, 1, []string{"gw.example.org:4500"}, "", ""},
		"a load balancer":               {surroundings{nodes: two, service: service(corev1.ServiceTypeLoadBalancer, corev1.LoadBalancerIngress{IP: "198.51.100.1"}, corev1.LoadBalancerIngress{Hostname: "lb.example.org"})}, 0, nil, "198.51.100.1:4500 lb.example.org:4500", "198.51.100.1:443 lb.example.org:443"},
		"a load balancer of another":    {surroundings{nodes: two[2:], service: service(corev1.ServiceTypeLoadBalancer, corev1.LoadBalancerIngress{IP: "198.51.100.1"})}, 1, nil, "", ""},
		"a load balancer not yet there": {surroundings{nodes: two[:1], service: service(corev1.ServiceTypeLoadBalancer)}, 0, nil, "203.0.113.10:51820 192.168.1.10:51820", "203.0.113.10:51820 192.168.1.10:51820"},
		"node ports":                    {surroundings{nodes: two[:1], service: service(corev1.ServiceTypeNodePort)}, 0, nil, "203.0.113.10:30500 192.168.1.10:30500", "203.0.113.10:30443 192.168.1.10:30443"},
	} {
		t.Run(name, func(t *testing.T) {
			udp, tls := row.seen.endpoints(row.slot, row.wanted)
			if diff := cmp.Diff([]string{row.udp, row.tls}, []string{strings.Join(udp, " "), strings.Join(tls, " ")}); diff != "" {
				t.Errorf("UDP and TLS (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSurroundings_SlotsAndSamples(t *testing.T) {
	var s surroundings
	if s.slots() != 0 {
		t.Error("slots without a gateway")
	}
	for i := range 12 {
		n := netNode(fmt.Sprint("n", i), []string{fmt.Sprintf("192.168.1.%d", i)})
		if i < 6 {
			n = gateway(n)
		}
		s.nodes = append(s.nodes, n)
	}
	for wanted, want := range map[int]int{0: 6, 1: 1, 3: 3, 8: 6} {
		if s.gateways = wanted; s.slots() != want {
			t.Errorf("%d of 6 gateways wanted: %d slots, want %d", wanted, s.slots(), want)
		}
	}
	want := []string{"192.168.1.0", "192.168.1.1", "192.168.1.2", "192.168.1.3", "192.168.1.6", "192.168.1.7", "192.168.1.8", "192.168.1.9"}
	if diff := cmp.Diff(want, s.samples()); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	s.nodes = s.nodes[:6]
	if got := s.samples(); len(got) != 6 {
		t.Errorf("samples of 6 gateways alone: %v", got)
	}
}

func TestSurroundings_NoPodRange(t *testing.T) {
	s := surroundings{nodes: []*corev1.Node{netNode("a", []string{"192.168.1.10"}, "10.244.0.0/24")}, podNets: ranges("10.244.3.0/24", "192.168.1.0/24")}
	if got := s.noPodRange(s.ranges()); got != "" {
		t.Errorf("all is known, yet %q", got)
	}
	s.podNets = append(s.podNets, ranges("10.7.0.0/24")...)
	if got := s.noPodRange(s.ranges()); !strings.Contains(got, "10.7.0.0/24") || !strings.Contains(got, "--pod-ranges") {
		t.Errorf("a pod outside: %q", got)
	}
	s = surroundings{nodes: []*corev1.Node{netNode("a", []string{"192.168.1.10"})}}
	if got := s.noPodRange(s.ranges()); !strings.Contains(got, "--pod-ranges") {
		t.Errorf("no node says its range: %q", got)
	}
}

func TestCompleteKeys(t *testing.T) {
	missing, public, err := completeKeys(nil)
	if err != nil || len(missing) != v1alpha1.MaxSlots+1 || public != nil || len(missing[keyGossip]) != gossipBytes {
		t.Fatalf("of an empty Secret %d keys are missing, %v public, error %v", len(missing), public, err)
	}
	again, public, err := completeKeys(missing)
	if err != nil || len(again) != 0 || len(public) != v1alpha1.MaxSlots {
		t.Fatalf("of a full Secret %d keys are missing, %v public, error %v", len(again), public, err)
	}
	delete(missing, "slot-3")
	if again, _, _ := completeKeys(missing); len(again) != 1 || again["slot-3"] == nil {
		t.Errorf("of a Secret without slot-3 %d keys are missing", len(again))
	}
	missing["slot-3"] = []byte("no key")
	if _, _, err := completeKeys(missing); err == nil || !strings.Contains(err.Error(), "slot-3") {
		t.Errorf("a key that is none: %v", err)
	}
}

// TestPublicKey checks against `wg pubkey` (RFC 7748, 6.1: Alice's keys).
func TestPublicKey(t *testing.T) {
	private := "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
	got, err := publicKey([]byte(private))
	if want := "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="; err != nil || got != want {
		t.Errorf("public key %s (%v), want %s", got, err, want)
	}
}

// theirs is what a peer says when all is well.
func theirs(change ...func(*v1alpha1.ClusterNetwork)) *v1alpha1.ClusterNetwork {
	n := &v1alpha1.ClusterNetwork{
		Gateways: []v1alpha1.GatewaySlot{{PublicKey: base64.StdEncoding.EncodeToString(make([]byte, 32)), Endpoints: []string{"203.0.113.7:51820"}}},
		Ranges: []v1alpha1.NetworkRange{
			{CIDR: "10.244.0.0/16", Kind: v1alpha1.RangePods}, {CIDR: "192.168.5.0/24", Kind: v1alpha1.RangeNodes}, {CIDR: "10.96.0.1/32", Kind: v1alpha1.RangeAPI},
		},
		Aliases:    []v1alpha1.Alias{{Range: "10.244.0.0/16", As: "100.64.0.0/16"}},
		SeenRanges: []string{"10.244.0.0/16", "192.168.1.0/24"}, SampleNodes: []string{"192.168.5.1"},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

// TestParseNetwork: the provider trusts nothing that a tenant writes.
func TestParseNetwork(t *testing.T) {
	type network = v1alpha1.ClusterNetwork
	for name, row := range map[string]struct {
		edit func(*network)
		want string // part of the error; empty: none
	}{
		"all is well":              {func(*network) {}, ""},
		"nothing in it":            {func(n *network) { *n = network{} }, ""},
		"the default route":        {func(n *network) { n.Ranges[0].CIDR = "0.0.0.0/0" }, "default route"},
		"multicast":                {func(n *network) { n.Ranges[0].CIDR = "224.0.0.0/8" }, "multicast"},
		"loopback":                 {func(n *network) { n.Ranges[0].CIDR = "127.0.0.0/8" }, "loopback"},
		"host bits":                {func(n *network) { n.Ranges[0].CIDR = "10.244.0.1/16" }, "not written"},
		"no range":                 {func(n *network) { n.Ranges[0].CIDR = "pods" }, "not written"},
		"an unknown kind":          {func(n *network) { n.Ranges[0].Kind = "Services" }, "unknown kind"},
		"a wide API":               {func(n *network) { n.Ranges[2].CIDR = "10.96.0.0/12" }, "more than one address"},
		"ranges that overlap":      {func(n *network) { n.Ranges[1].CIDR = "10.244.3.0/24" }, "overlap"},
		"a bad key":                {func(n *network) { n.Gateways[0].PublicKey = "x" }, "no key"},
		"too many gateways":        {func(n *network) { n.Gateways = make([]v1alpha1.GatewaySlot, 9) }, "more than 8"},
		"an endpoint without port": {func(n *network) { n.Gateways[0].Endpoints[0] = "203.0.113.7" }, "HOST:PORT"},
		"an endpoint with port 0":  {func(n *network) { n.Gateways[0].TLSEndpoints = []string{"x:0"} }, "HOST:PORT"},
		"an alias of another size": {func(n *network) { n.Aliases[0].As = "100.64.0.0/17" }, "one size"},
		"an alias that is none":    {func(n *network) { n.Aliases[0].As = "x" }, "alias of"},
		"two ranges seen as one": {func(n *network) {
			n.Aliases = append(n.Aliases, v1alpha1.Alias{Range: "10.1.0.0/16", As: "100.64.0.0/16"})
		}, "overlap"},
		"a range seen twice":             {func(n *network) { n.SeenRanges[1] = n.SeenRanges[0] }, "twice"},
		"a node that is no address":      {func(n *network) { n.SampleNodes[0] = "node-1" }, "node address"},
		"more bytes than anybody needs":  {func(n *network) { n.SeenRanges = []string{strings.Repeat("x", mostNetworkBytes)} }, "bytes"},
		"more ranges than anybody needs": {func(n *network) { n.SeenRanges = make([]string, 65) }, "more than 64"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := json.Marshal(theirs(row.edit))
			if err != nil {
				t.Fatal(err)
			}
			_, err = parseNetwork(string(text))
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q", err, row.want)
			}
		})
	}
	if n, err := parseNetwork(""); n != nil || err != nil {
		t.Errorf("nothing was written: %v, %v", n, err)
	}
	if _, err := parseNetwork("{"); err == nil {
		t.Error("broken JSON was accepted")
	}
}

// peeringWith has a tunnel to theirs, with the aliases, of which those of byHand are not ours and those of touched were.
func peeringWith(aliases []v1alpha1.Alias, byHand, touched []string) *v1alpha1.Peering {
	p := &v1alpha1.Peering{ObjectMeta: metav1.ObjectMeta{Name: "cloud", UID: types.UID("uid"), ResourceVersion: "7"}}
	p.Spec.ClusterID = "id-cloud"
	p.Spec.Tunnel = &v1alpha1.Tunnel{Remote: theirs(), Aliases: aliases}
	record := func(manager string, op metav1.ManagedFieldsOperationType, keys map[string]string) {
		entries := map[string]any{}
		for r, fields := range keys {
			entries[fmt.Sprintf(`k:{"range":%q}`, r)] = json.RawMessage(fields)
		}
		raw, err := json.Marshal(map[string]any{"f:spec": map[string]any{"f:tunnel": map[string]any{"f:aliases": entries}}})
		if err != nil {
			panic(err)
		}
		p.ManagedFields = append(p.ManagedFields, metav1.ManagedFieldsEntry{Manager: manager, Operation: op, FieldsV1: metav1.NewFieldsV1(string(raw))})
	}
	mine, hand := map[string]string{}, map[string]string{}
	for _, a := range aliases {
		mine[a.Range] = `{".":{},"f:as":{},"f:range":{}}`
	}
	for _, r := range byHand {
		delete(mine, r)
		hand[r] = `{".":{},"f:as":{},"f:range":{}}`
	}
	for _, r := range touched {
		mine[r], hand[r] = `{".":{},"f:range":{}}`, `{"f:as":{}}`
	}
	record(v1alpha1.FieldManagerAddress, metav1.ManagedFieldsOperationApply, mine)
	record("kubectl-edit", metav1.ManagedFieldsOperationUpdate, hand)
	return p
}

func TestAllocate_WhoseAliasItIs(t *testing.T) {
	own := ranges("10.244.0.0/16", "192.168.1.0/24")
	fresh := allocate(peeringWith(nil, nil, nil), occupied{own: own}, nil)
	if !fresh.write || fresh.err != nil || len(fresh.apply) != 3 {
		t.Fatalf("of a fresh Peering: %+v", fresh)
	}
	all := fresh.apply
	if again := allocate(peeringWith(all, nil, nil), occupied{own: own}, nil); again.write {
		t.Errorf("nothing changed, but %v is written", again.apply)
	}
	index := func(r string) int {
		for i, a := range all {
			if a.Range == r {
				return i
			}
		}
		t.Fatalf("%s has no alias", r)
		return 0
	}
	pods := index("10.244.0.0/16")
	edited := append([]v1alpha1.Alias{}, all...)
	edited[pods].As = "10.55.0.0/16"
	hand := allocate(peeringWith(edited, []string{"10.244.0.0/16"}, nil), occupied{own: own}, nil)
	if hand.write || len(hand.apply) != 2 || hand.all[0].As.String() != "10.55.0.0/16" && hand.all[1].As.String() != "10.55.0.0/16" {
		t.Errorf("what is set by hand: %+v", hand)
	}
	touched := allocate(peeringWith(edited, nil, []string{"10.244.0.0/16"}), occupied{own: own}, nil)
	if touched.write || len(touched.apply) != 3 || touched.apply[2].As != "10.55.0.0/16" {
		t.Errorf("an entry of ours that was edited is to be applied as edited, lest it goes: %+v", touched)
	}
	taken := allocate(peeringWith(edited, []string{"10.244.0.0/16"}, nil), occupied{own: append(own, ranges("10.55.7.0/24")...)}, nil)
	if taken.err == nil || len(taken.all) != 2 {
		t.Errorf("what is set by hand overlaps ours: %+v", taken)
	}
	patch, err := aliasPatch(peeringWith(nil, nil, nil), nil)
	if want := `{"apiVersion":"spillway.dev/v1alpha1","kind":"Peering","metadata":{"name":"cloud","resourceVersion":"7","uid":"uid"},"spec":{"tunnel":{"aliases":[]}}}`; err != nil || string(patch) != want {
		t.Errorf("patch %s (%v), want %s", patch, err, want)
	}
}

// TestAllocate_BothTookTheSame: where two clusters chose one alias for each other, exactly one of them moves.
func TestAllocate_BothTookTheSame(t *testing.T) {
	own := ranges("10.244.0.0/16", "192.168.1.0/24")
	all := allocate(peeringWith(nil, nil, nil), occupied{own: own}, nil).apply
	var pods v1alpha1.Alias
	for _, a := range all {
		if a.Range == "10.244.0.0/16" {
			pods = a
		}
	}
	same := ranges(pods.As)
	for name, row := range map[string]struct {
		before []v1alpha1.Alias
		o      occupied
		moves  bool
	}{
		"the one that gives way":             {all, occupied{seenAs: same, giveWay: true}, true},
		"the other":                          {all, occupied{seenAs: same}, false},
		"nothing is in force yet":            {nil, occupied{seenAs: same}, true},
		"a third cluster took it later":      {all, occupied{besides: same}, false},
		"a third cluster had taken it":       {nil, occupied{besides: same}, true},
		"the peer has it for another":        {all, occupied{taken: same}, true},
		"the peer took another":              {all, occupied{seenAs: ranges("100.127.0.0/24"), giveWay: true}, false},
		"it overlaps, and need not be equal": {all, occupied{seenAs: ranges(pods.As[:len(pods.As)-3] + "/20"), giveWay: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			row.o.own = own
			out := allocate(peeringWith(row.before, nil, nil), row.o, nil)
			if out.err != nil || len(out.all) != 3 {
				t.Fatalf("%+v", out)
			}
			moved := !slices.ContainsFunc(out.all, func(a address.Alias) bool { return a.As.String() == pods.As })
			if moved != row.moves {
				t.Errorf("%v, and was %v: moved %t, want %t", out.all, pods, moved, row.moves)
			}
			if again := allocate(peeringWith(out.apply, nil, nil), row.o, nil); again.write {
				t.Errorf("not settled: %v, then %v", out.apply, again.apply)
			}
		})
	}
	byHand := allocate(peeringWith(all, []string{pods.Range}, nil), occupied{own: own, seenAs: same, giveWay: true}, nil)
	if byHand.err == nil {
		t.Error("what is set by hand and taken by the peer is not complained of")
	}
}

// TestOccupied_Clash: what a peer sees us as may stand for nobody else here.
func TestOccupied_Clash(t *testing.T) {
	for name, row := range map[string]struct {
		o    occupied
		want bool
	}{
		"apart":               {occupied{seenAs: ranges("100.64.0.0/16"), used: ranges("100.65.0.0/16")}, false},
		"stands for another":  {occupied{seenAs: ranges("100.64.0.0/16"), used: ranges("100.64.0.0/16")}, true},
		"others see us alike": {occupied{seenAs: ranges("100.64.0.0/16"), besides: ranges("100.64.0.0/16")}, false},
	} {
		if err := row.o.clash(); (err != nil) != row.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrimPeering(t *testing.T) {
	p := peeringWith(nil, nil, nil)
	p.ManagedFields = append(p.ManagedFields, metav1.ManagedFieldsEntry{Manager: "spillway-gateway-0", Subresource: "status"})
	trimPeering(p)
	if len(p.ManagedFields) != 2 {
		t.Errorf("%d entries are kept, want the 2 about the spec", len(p.ManagedFields))
	}
}

func TestSeenAs(t *testing.T) {
	for name, row := range map[string]struct {
		edit func(*v1alpha1.Tunnel)
		pod  string // as what 10.244.1.2 is seen; empty: not at all
		api  string
	}{
		"by alias":                {func(*v1alpha1.Tunnel) {}, "100.70.1.2", "100.71.0.1:443"},
		"off":                     {func(tu *v1alpha1.Tunnel) { tu.Mode = v1alpha1.TunnelModeOff }, "10.244.1.2", ""},
		"external":                {func(tu *v1alpha1.Tunnel) { tu.Mode = v1alpha1.TunnelModeExternal }, "10.244.1.2", ""},
		"no alias yet":            {func(tu *v1alpha1.Tunnel) { tu.Aliases = nil }, "", ""},
		"nothing of the peer yet": {func(tu *v1alpha1.Tunnel) { tu.Remote = nil }, "", ""},
		"the range is gone":       {func(tu *v1alpha1.Tunnel) { tu.Remote.Ranges = tu.Remote.Ranges[1:] }, "", "100.71.0.1:443"},
	} {
		t.Run(name, func(t *testing.T) {
			p := peeringWith([]v1alpha1.Alias{{Range: "10.244.0.0/16", As: "100.70.0.0/16"}, {Range: "10.96.0.1/32", As: "100.71.0.1/32"}}, nil, nil)
			row.edit(p.Spec.Tunnel)
			got := "10.244.1.2"
			if table := seenAs(&p.Spec); table != nil {
				got = ""
				if here, ok := table.Map(netip.MustParseAddr("10.244.1.2")); ok {
					got = here.String()
				}
			}
			if diff := cmp.Diff([]string{row.pod, row.api}, []string{got, apiAddress(&p.Spec)}); diff != "" {
				t.Errorf("pod and API server (-want +got):\n%s", diff)
			}
		})
	}
	none := v1alpha1.PeeringSpec{}
	if seenAs(&none) != nil || apiAddress(&none) != "" {
		t.Error("a Peering without tunnel maps addresses")
	}
}
