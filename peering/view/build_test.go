package view

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func TestBuild(t *testing.T) {
	for name, row := range map[string]struct {
		edit func(*input)
		want func(*Snapshot)
	}{
		"everything is known":                    {func(*input) {}, func(*Snapshot) {}},
		"mode Off joins nothing":                 {func(in *input) { in.peerings[0].Spec.Tunnel.Mode = v1alpha1.TunnelModeOff }, onlyNodes},
		"mode External joins nothing":            {func(in *input) { in.peerings[0].Spec.Tunnel.Mode = v1alpha1.TunnelModeExternal }, onlyNodes},
		"no tunnel joins nothing":                {func(in *input) { in.peerings[0].Spec.Tunnel = nil }, onlyNodes},
		"our controller has not published yet":   {func(in *input) { in.peerings[0].Status.Tunnel = nil }, onlyNodes},
		"a Peering that goes keeps its tunnel":   {func(in *input) { in.peerings[0].DeletionTimestamp = ptr.To(metav1.Now()) }, func(*Snapshot) {}},
		"a range that we have not judged is out": {func(in *input) { in.peerings[0].Status.Tunnel.Local.SeenRanges = nil }, func(s *Snapshot) { s.Peers[0].Remote = nil }},
		"a range that the peer has not judged is out": {
			func(in *input) { in.peerings[0].Spec.Tunnel.Remote.SeenRanges = nil }, func(s *Snapshot) { s.Peers[0].Local = nil },
		},
		"a twin of another consumer is not opened": {
			func(in *input) { in.pods[0].Labels[v1alpha1.LabelOrigin] = "somebody" },
			func(s *Snapshot) { s.Peers[0].Reachable = s.Peers[0].Reachable[1:] },
		},
		"a twin on the host network is not opened": {
			func(in *input) { in.pods[0].Spec.HostNetwork = true },
			func(s *Snapshot) { s.Peers[0].Reachable = s.Peers[0].Reachable[1:] },
		},
		"an endpoint on another node is not opened here": {
			func(in *input) { in.slices[0].Endpoints[0].NodeName = ptr.To("worker-2") },
			func(s *Snapshot) { s.Peers[0].Reachable = s.Peers[0].Reachable[:1] },
		},
		"who does not borrow opens no endpoints": {
			func(in *input) { in.peerings[0].Spec.Borrow = nil },
			func(s *Snapshot) { s.Peers[0].Reachable = s.Peers[0].Reachable[:1] },
		},
		"a virtual node is no node": {
			func(in *input) { in.nodes[1].Labels = map[string]string{v1alpha1.LabelPeer: "west"} },
			func(s *Snapshot) { s.Nodes = s.Nodes[:1] },
		},
		"a node without address is no node": {
			func(in *input) { in.nodes[1].Status.Addresses = nil }, func(s *Snapshot) { s.Nodes = s.Nodes[:1] },
		},
		"no keys yet": {func(in *input) { in.secret = nil }, func(s *Snapshot) { s.Keys, s.Gossip = nil, nil }},
	} {
		t.Run(name, func(t *testing.T) {
			in, want := example(), exampleSnapshot()
			row.edit(&in)
			row.want(&want)
			compare := []cmp.Option{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
				cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}
			if diff := cmp.Diff(want, build(in), compare...); diff != "" {
				t.Errorf("snapshot (-want +got):\n%s", diff)
			}
		})
	}
}

func onlyNodes(s *Snapshot) { *s = Snapshot{Nodes: s.Nodes} }

func example() input {
	node := func(name, ip, cidr string, labels map[string]string) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: corev1.NodeSpec{PodCIDRs: []string{cidr}},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: ip},
			}},
		}
	}
	return input{
		self: "worker-1",
		peerings: []*v1alpha1.Peering{{
			ObjectMeta: metav1.ObjectMeta{Name: "west"},
			Spec: v1alpha1.PeeringSpec{
				ClusterID: "id-west", Borrow: &v1alpha1.Borrow{}, Share: &v1alpha1.Share{},
				Tunnel: &v1alpha1.Tunnel{
					Mode:    v1alpha1.TunnelModeTunnel,
					Aliases: []v1alpha1.Alias{{Range: "10.1.0.0/16", As: "100.64.0.0/16"}},
					Remote: &v1alpha1.ClusterNetwork{
						Gateways:    []v1alpha1.GatewaySlot{{PublicKey: "west-0", Endpoints: []string{"203.0.113.1:51820"}}},
						Ranges:      []v1alpha1.NetworkRange{{CIDR: "10.1.0.0/16", Kind: v1alpha1.RangePods}},
						Aliases:     []v1alpha1.Alias{{Range: "10.1.0.0/16", As: "100.99.0.0/16"}},
						SeenRanges:  []string{"10.1.0.0/16", "10.96.0.1/32"},
						SampleNodes: []string{"192.0.2.200"},
					},
				},
			},
			Status: v1alpha1.PeeringStatus{ClusterID: "id-east", Tunnel: &v1alpha1.TunnelStatus{
				Local: &v1alpha1.ClusterNetwork{
					Gateways: []v1alpha1.GatewaySlot{{PublicKey: "east-0", Endpoints: []string{"198.51.100.1:51820"}}},
					Ranges: []v1alpha1.NetworkRange{
						{CIDR: "10.1.0.0/16", Kind: v1alpha1.RangePods}, {CIDR: "10.96.0.1/32", Kind: v1alpha1.RangeAPI},
					},
					SeenRanges: []string{"10.1.0.0/16"},
				},
				Paths: []v1alpha1.TunnelPath{{Slot: 0, Up: true, MTU: 1420}, {Slot: 1, Up: false, MTU: 1200}},
			}},
		}},
		nodes: []*corev1.Node{
			node("worker-1", "192.0.2.1", "10.1.1.0/24", map[string]string{LabelGateway: ""}), node("worker-2", "192.0.2.2", "10.1.2.0/24", nil),
		},
		secret: &corev1.Secret{Data: map[string][]byte{"slot-0": []byte("private"), "gossip": []byte("gossip")}},
		pods: []*corev1.Pod{{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelOrigin: "id-west"}},
			Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.1.1.5"}}},
		}},
		slices: []*discoveryv1.EndpointSlice{{Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.1.1.9"}, NodeName: ptr.To("worker-1")}, {Addresses: []string{"100.64.3.3"}, NodeName: ptr.To("spillway-west")},
		}}},
		apiSlices: []*discoveryv1.EndpointSlice{{
			Ports:     []discoveryv1.EndpointPort{{Port: ptr.To(int32(6443))}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"198.51.100.9"}}},
		}},
	}
}

func exampleSnapshot() Snapshot {
	pods, api := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.96.0.1/32")
	return Snapshot{
		ClusterID: "id-east",
		Nodes: []Node{
			{Name: "worker-1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24")}, Gateway: true},
			{Name: "worker-2", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")}},
		},
		Slots: 1, Keys: []string{"private"}, Gossip: []byte("gossip"), Pods: []netip.Prefix{pods},
		APIService:   netip.MustParseAddrPort("10.96.0.1:443"),
		APIEndpoints: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.9:6443")},
		Peers: []Peer{{
			Name: "west", ClusterID: "id-west", MTU: 1420, Shares: true,
			Slots:       []PeerSlot{{PublicKey: "west-0", UDP: []string{"203.0.113.1:51820"}, OurEndpoints: true}},
			Remote:      []Mapping{{pods, netip.MustParsePrefix("100.64.0.0/16")}},
			Local:       []Mapping{{pods, netip.MustParsePrefix("100.99.0.0/16")}, {api, api}},
			SampleNodes: []netip.Addr{netip.MustParseAddr("192.0.2.200")},
			Reachable:   []netip.Addr{netip.MustParseAddr("10.1.1.5"), netip.MustParseAddr("10.1.1.9")},
		}},
	}
}
