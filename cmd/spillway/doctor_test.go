package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden files anew")
	flag.Parse()
	os.Exit(m.Run())
}

// healthy is a pair of clusters whose tunnel works: two nodes each, the first a gateway; both use 10.244.0.0/16.
func healthy() inspection {
	now := time.Unix(1_800_000_000, 0)
	network := func(of, endpoint, alias string) *v1alpha1.ClusterNetwork {
		return &v1alpha1.ClusterNetwork{
			Gateways:   []v1alpha1.GatewaySlot{{PublicKey: "key-of-" + of, Endpoints: []string{endpoint}}},
			Ranges:     []v1alpha1.NetworkRange{{CIDR: "10.244.0.0/16", Kind: v1alpha1.RangePods}},
			SeenRanges: []string{"10.244.0.0/16"},
			Aliases:    []v1alpha1.Alias{{Range: "10.244.0.0/16", As: alias}},
		}
	}
	home, cloud := network("home", "192.0.2.1:51820", "100.64.0.0/16"), network("cloud", "198.51.100.1:51820", "100.71.0.0/16")
	side := func(context, peer string, own, other *v1alpha1.ClusterNetwork) sideView {
		p := &v1alpha1.Peering{ObjectMeta: metav1.ObjectMeta{Name: peer}, Spec: v1alpha1.PeeringSpec{Borrow: &v1alpha1.Borrow{}}}
		p.Spec.Tunnel = &v1alpha1.Tunnel{Mode: v1alpha1.TunnelModeTunnel, Remote: other.DeepCopy(), Aliases: own.DeepCopy().Aliases}
		p.Status.Tunnel = &v1alpha1.TunnelStatus{Local: own.DeepCopy()}
		p.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionTunnelUp, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonTunnelUp}}
		s := sideView{context: context, peering: p, networks: []string{"kindnet"}}
		for i := range 2 {
			r := &nodeReport{Node: fmt.Sprintf("%s-%d", context, i), Gateway: i == 0, MTU: 1420,
				Samples: []pathReport{{Peer: peer, Remote: "100.99.0.1", Up: true}, {Peer: peer, Remote: "100.99.0.2", Up: true}, {Peer: "third", Remote: "100.98.0.1"}}}
			if i == 0 {
				r.Slots, r.Kernel = []int{0}, context == "home"
				r.Tunnel.Links = []string{"ip link add spillway0 type wireguard mtu 1420"}
				r.Tunnel.Peers = []peerReport{{Peer: peer, PublicKey: "key-of-" + peer}}
				r.Paths = []pathReport{{Peer: peer, Up: true, Ever: true, Transport: "UDP", Endpoint: other.Gateways[0].Endpoints[0], RTTMicros: 12300, MTU: 1420, RxBytes: 5000, TxBytes: 6000, HandshakeUnix: now.Unix() - 30}}
			}
			s.nodes = append(s.nodes, nodeView{name: r.Node, ready: true, gateway: i == 0, podCIDRs: []string{fmt.Sprintf("10.244.%d.0/24", i)}, report: r})
		}
		return s
	}
	return inspection{now: now, sides: []sideView{side("home", "cloud", home, cloud), side("cloud", "home", cloud, home)}}
}

// down makes the path of a side look dead: so many bytes in and out since somebody counts.
func (s *sideView) down(in, out uint64) {
	path := &s.nodes[0].report.Paths[0]
	path.Up, path.HandshakeUnix, path.RxBytes, path.TxBytes = false, 0, in, out
}

// sick are ways to spoil a healthy pair; the name says what is wrong.
func sick() map[string]func(*inspection) {
	home, cloud := 0, 1
	tunnel := func(in *inspection, side int) *v1alpha1.Tunnel { return in.sides[side].peering.Spec.Tunnel }
	return map[string]func(*inspection){
		"a healthy pair":          func(*inspection) {},
		"a healthy side":          func(in *inspection) { in.sides = in.sides[:1] },
		"no peering there":        func(in *inspection) { in.sides[cloud].peering = nil },
		"tunnel off":              func(in *inspection) { tunnel(in, home).Mode = v1alpha1.TunnelModeOff },
		"modes differ":            func(in *inspection) { tunnel(in, cloud).Mode = v1alpha1.TunnelModeExternal },
		"external":                func(in *inspection) { tunnel(in, home).Mode, tunnel(in, cloud).Mode = "External", "External" },
		"controller away":         func(in *inspection) { in.sides[cloud].idle = "there is no Lease spillway-system/spillwayd" },
		"network not published":   func(in *inspection) { in.sides[home].peering.Status.Tunnel = nil },
		"network not handed over": func(in *inspection) { tunnel(in, cloud).Remote = nil },
		"network out of date":     func(in *inspection) { tunnel(in, cloud).Remote.Gateways[0].PublicKey = "old" },
		"agent silent":            func(in *inspection) { n := &in.sides[home].nodes[1]; n.report, n.why = nil, "no answer within 5s" },
		"node down": func(in *inspection) {
			n := &in.sides[home].nodes[1]
			n.report, n.ready, n.why = nil, false, "no answer within 5s"
		},
		"no agent answers": func(in *inspection) {
			for _, s := range in.sides {
				for i := range s.nodes {
					s.nodes[i].report, s.nodes[i].why = nil, "dial tcp 192.0.2.1:9640: connect: connection refused"
				}
			}
		},
		"forwarding off": func(in *inspection) {
			in.sides[home].nodes[1].report.Problems = []string{"net.ipv4.ip_forward is 0 and cannot be set"}
		},
		"kernel refuses": func(in *inspection) {
			in.sides[home].nodes[0].report.Tunnel.LastError = "add link spillway-vx: vxlan not supported"
		},
		"no gateway":            func(in *inspection) { in.sides[cloud].nodes[0].gateway = false },
		"slot held by nobody":   func(in *inspection) { in.sides[cloud].nodes[0].report.Slots = nil },
		"slot held by two":      func(in *inspection) { in.sides[cloud].nodes[1].report.Slots = []int{0} },
		"holder not ready":      func(in *inspection) { in.sides[cloud].nodes[0].ready = false },
		"name unknown":          func(in *inspection) { in.sides[home].names = []nameView{{"vpn.example.org", "no such host"}} },
		"another key":           func(in *inspection) { in.sides[home].nodes[0].report.Tunnel.Peers[0].PublicKey = "key-of-nobody" },
		"nobody can be reached": func(in *inspection) { in.edit(func(n *v1alpha1.ClusterNetwork) { n.Gateways[0].Endpoints = nil }) },
		"packets from home die": func(in *inspection) { in.sides[home].down(0, 900); in.sides[cloud].down(0, 0) },
		"packets from home refused": func(in *inspection) {
			in.sides[home].down(0, 900)
			in.sides[cloud].down(0, 0)
			in.sides[cloud].nodes[0].report.Tunnel.Refused = []refusedReport{{"", refusedByHandshake, 5}}
		},
		"peer not on the device": func(in *inspection) { in.sides[home].nodes[0].report.Tunnel.Peers = nil },
		"route taken away": func(in *inspection) {
			in.sides[home].nodes[1].report.Tunnel.Missing = []string{"ip route add 100.64.0.0/16 via 192.0.2.1 dev spillway-vx onlink table 5380 proto 83"}
		},
		"packets from cloud die":       func(in *inspection) { in.sides[home].down(0, 900); in.sides[cloud].down(900, 500) },
		"packets die both ways":        func(in *inspection) { in.sides[home].down(0, 900); in.sides[cloud].down(0, 500) },
		"nobody sends":                 func(in *inspection) { in.sides[home].down(0, 0); in.sides[cloud].down(0, 0) },
		"nothing comes back, one side": func(in *inspection) { in.sides[home].down(0, 900); in.sides = in.sides[:1] },
		"never a handshake":            func(in *inspection) { in.sides[home].down(100, 900); in.sides[cloud].down(900, 100) },
		"handshake long ago": func(in *inspection) {
			p := &in.sides[home].nodes[0].report.Paths[0]
			p.Up, p.HandshakeUnix = false, 1_799_999_000
		},
		"range not judged here": func(in *inspection) { in.edit(func(n *v1alpha1.ClusterNetwork) { n.SeenRanges = nil }) },
		"large packets lost":    func(in *inspection) { p := &in.sides[home].nodes[0].report.Paths[0]; p.Up, p.LargeLost = false, true },
		"no device":             func(in *inspection) { in.sides[home].nodes[0].report.Tunnel.Links = nil },
		"repaired and refused": func(in *inspection) {
			r := in.sides[home].nodes[1].report
			r.Tunnel.Repairs, r.Tunnel.Refused = 3, []refusedReport{{"cloud", refusedByFilter, 17}, {"third", refusedByFilter, 1}, {"", refusedByHandshake, 2}}
		},
		"probes lost":           func(in *inspection) { in.sides[home].nodes[0].report.Paths[0].Up = false },
		"lossy":                 func(in *inspection) { in.sides[cloud].nodes[0].report.Paths[0].LossPercent = 20 },
		"condition disagrees":   func(in *inspection) { in.sides[cloud].peering.Status.Conditions = nil },
		"node cut off":          func(in *inspection) { s := in.sides[home].nodes[1].report.Samples; s[0].Up, s[1].Up = false, false },
		"node of peer cut off":  func(in *inspection) { in.sides[home].nodes[1].report.Samples[1].Up = false },
		"pods reach each other": func(in *inspection) { in.pods = &podTrips{thereRTTMicro: 12900} },
		"pods not made":         func(in *inspection) { in.pods = &podTrips{err: "no image"} },
		"pods: no way there":    func(in *inspection) { in.pods = &podTrips{there: "connect: i/o timeout"} },
		"pods: no way back":     func(in *inspection) { in.pods = &podTrips{back: "connect: i/o timeout"} },
	}
}

// edit changes what both clusters say and know of their networks.
func (in *inspection) edit(change func(*v1alpha1.ClusterNetwork)) {
	for _, s := range in.sides {
		change(s.peering.Status.Tunnel.Local)
		change(s.peering.Spec.Tunnel.Remote)
	}
}

// diagnose is what doctor prints of in.
func diagnose(t *testing.T, in inspection) string {
	var d diagnosis
	d.Hops, d.Failed = walk(in)
	var text strings.Builder
	if err := d.print(&text, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.verdict(); err != nil {
		fmt.Fprintf(&text, "Error: %s\n", err)
	}
	return text.String()
}

// TestWalk compares what doctor says with testdata/doctor.txtar (-update writes it).
func TestWalk(t *testing.T) {
	const file = "testdata/doctor.txtar"
	cases := sick()
	got := &txtar.Archive{Comment: []byte("What spillway doctor says, case by case; after the first, only what differs from it. Written by go test -run TestWalk -update.\n")}
	usual := map[string]bool{}
	for line := range strings.Lines(diagnose(t, healthy())) {
		usual[line] = true
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		in := healthy()
		cases[name](&in)
		text := diagnose(t, in)
		if name != "a healthy pair" {
			var differing strings.Builder
			for line := range strings.Lines(text) {
				if !usual[line] {
					differing.WriteString(line)
				}
			}
			text = differing.String()
		}
		got.Files = append(got.Files, txtar.File{Name: name, Data: []byte(text)})
	}
	if updating() {
		if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(txtar.Format(got))); diff != "" {
		t.Errorf("-want +got (-update writes it):\n%s", diff)
	}
}

// report puts what the agent of a node says where the API server leads to it.
func (s *apiServer) report(t *testing.T, r nodeReport, ready bool, labels map[string]any) {
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatal(err)
	}
	object["metadata"] = map[string]any{"name": r.Node}
	s.put(fmt.Sprintf("/api/v1/nodes/%s:9640/proxy/report", r.Node), object)
	status := map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": map[bool]string{true: "True", false: "False"}[ready]}}}
	s.put("/api/v1/nodes/"+r.Node, map[string]any{"metadata": map[string]any{"name": r.Node, "labels": labels}, "status": status})
}

func TestDoctor_WalksBothClusters(t *testing.T) {
	p := newPair(t)
	p.runControllers(t)
	for _, side := range []struct {
		s    *apiServer
		peer string
	}{{p.home, "cloud"}, {p.cloud, "home"}} {
		side.s.report(t, nodeReport{Node: "gate", Slots: []int{0}, MTU: 1420, Paths: []pathReport{{Peer: side.peer, Up: true, MTU: 1420, HandshakeUnix: time.Now().Unix()}},
			Tunnel: tunnelReport{Links: []string{"spillway0"}, Peers: []peerReport{{Peer: side.peer, PublicKey: "key-of-" + side.peer}}}}, true, map[string]any{v1alpha1.LabelGateway: ""})
	}
	p.must(t, "peer", "--remote-context", "cloud", "--endpoint", "192.0.2.1:51820")
	out := p.must(t, "doctor", "--remote-context", "cloud")
	if !strings.Contains(out, "Every hop that was looked at is well.") || !strings.Contains(out, "✓ agents                 2 nodes answered") {
		t.Errorf("doctor says:\n%s", out)
	}
	p.cloud.deny("get proxy")
	code, out, errs := p.run(t, "doctor", "cloud", "--remote-context", "cloud", "-o", "json")
	var d diagnosis
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatal(err)
	}
	if code != exitFailed || d.OK || d.Failed == nil || d.Failed.Name != "agents" || !strings.Contains(errs, "user may not get proxy") {
		t.Errorf("exit %d: %+v\n%s", code, d.Failed, errs)
	}
}

func TestDoctor_NotPeered(t *testing.T) {
	p := newPair(t)
	code, _, errs := p.run(t, "doctor")
	if code != exitFailed || !strings.Contains(errs, "is not peered with any cluster") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
