package peering

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// tunnelled is an observation of a tunnel when all is well: two gateways, one slot, held by a.
func tunnelled(change ...func(*observation)) observation {
	around := surroundings{
		gateways: 1, holder: map[int]string{0: "a"},
		nodes: []*corev1.Node{gateway(netNode("a", []string{"192.168.1.10"}, "10.244.0.0/24")), gateway(netNode("b", []string{"192.168.1.11"}))},
	}
	o := observation{
		generation: 3, tunnel: agreement{around: around, own: around.ranges()},
		spec:  v1alpha1.PeeringSpec{Share: &v1alpha1.Share{}, Tunnel: &v1alpha1.Tunnel{Mode: v1alpha1.TunnelModeTunnel, Remote: theirs()}},
		paths: []v1alpha1.TunnelPath{{Slot: 0, Node: "a", Up: true, RTT: &metav1.Duration{Duration: time.Millisecond}, Endpoint: "203.0.113.7:51820"}},
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

func TestTunnelUp(t *testing.T) {
	down := func(reason string, rtt *metav1.Duration) func(*observation) {
		return func(o *observation) { o.paths[0].Up, o.paths[0].Reason, o.paths[0].RTT = false, reason, rtt }
	}
	second := func(up bool) func(*observation) {
		return func(o *observation) {
			o.tunnel.around.gateways, o.tunnel.around.holder[1] = 2, "b"
			o.spec.Tunnel.Remote.Gateways = append(o.spec.Tunnel.Remote.Gateways, o.spec.Tunnel.Remote.Gateways[0])
			o.paths = append(o.paths, v1alpha1.TunnelPath{Slot: 1, Node: "b", Up: up})
		}
	}
	for name, row := range map[string]struct {
		seen observation
		want string // status and reason; empty: the condition is absent
		says string
	}{
		"all is well":                 {tunnelled(), "True TunnelUp", "both directions"},
		"no tunnel":                   {tunnelled(func(o *observation) { o.spec.Tunnel = nil }), "", ""},
		"mode Off":                    {tunnelled(func(o *observation) { o.spec.Tunnel.Mode = v1alpha1.TunnelModeOff }), "", ""},
		"mode External":               {tunnelled(func(o *observation) { o.spec.Tunnel.Mode = v1alpha1.TunnelModeExternal }), "", ""},
		"just started":                {tunnelled(func(o *observation) { o.tunnel = agreement{starting: true} }), "Unknown Starting", "reading"},
		"no gateway":                  {tunnelled(func(o *observation) { o.tunnel.around.nodes = nil }), "False NoGateway", "kubectl label node NAME spillway.dev/gateway="},
		"no keys":                     {tunnelled(func(o *observation) { o.tunnel.keysErr = errors.New("secrets is forbidden") }), "False NoGateway", "forbidden"},
		"the peer says nothing":       {tunnelled(func(o *observation) { o.spec.Tunnel.Remote = nil }), "False NoNetwork", "mode Tunnel"},
		"the peer has no gateway":     {tunnelled(func(o *observation) { o.spec.Tunnel.Remote.Gateways = nil }), "False NoGateway", "there"},
		"the peer says nonsense":      {tunnelled(func(o *observation) { o.tunnel.refused = errNetwork }), "False RangesRefused", "not accepted"},
		"a range has no alias":        {tunnelled(func(o *observation) { o.tunnel.unseen = errors.New("every pool is full") }), "False RangesRefused", "pool"},
		"a pod range of ours is new":  {tunnelled(func(o *observation) { o.spec.Tunnel.Remote.SeenRanges = []string{"192.168.1.0/24"} }), "False AliasPending", "10.244.0.0/16"},
		"a node range of ours is new": {tunnelled(func(o *observation) { o.spec.Tunnel.Remote.SeenRanges = []string{"10.244.0.0/16"} }), "True TunnelUp", "192.168.1.0/24"},
		"nobody has measured":         {tunnelled(func(o *observation) { o.paths = nil }), "Unknown Starting", "a, b"},
		"never an answer":             {tunnelled(down(v1alpha1.ReasonNoHandshake, nil)), "False NoHandshake", "firewall"},
		"never an answer, unsaid":     {tunnelled(down("", nil)), "False NoHandshake", "203.0.113.7:51820"},
		"no longer an answer":         {tunnelled(down(v1alpha1.ReasonProbesLost, nil)), "False ProbesLost", "any more"},
		"no longer, unsaid":           {tunnelled(down("", &metav1.Duration{})), "False ProbesLost", "any more"},
		"small ones pass":             {tunnelled(down(v1alpha1.ReasonLargePacketsLost, nil)), "False LargePacketsLost", "small packets"},
		"another took the slot":       {tunnelled(func(o *observation) { o.tunnel.around.holder[0] = "b" }), "False ProbesLost", "takes slot 0 over from a"},
		"nobody knows the holder":     {tunnelled(func(o *observation) { o.tunnel.around.holder = nil }), "True TunnelUp", ""},
		"the gateway is gone":         {tunnelled(func(o *observation) { o.tunnel.around.nodes = o.tunnel.around.nodes[1:]; o.tunnel.around.holder = nil }), "False ProbesLost", "gone"},
		"the gateway is not ready":    {tunnelled(func(o *observation) { notReady(o.tunnel.around.nodes[0]) }), "False ProbesLost", "not ready"},
		"two paths":                   {tunnelled(second(true)), "True TunnelUp", "both directions"},
		"one of two paths":            {tunnelled(second(false)), "True TunnelUp", "1 of 2"},
		"the path that is up is of a slot that is not used": {
			tunnelled(second(true), down(v1alpha1.ReasonProbesLost, nil), func(o *observation) { o.tunnel.around.gateways = 1 }), "False ProbesLost", "",
		},
		"pods outside of all ranges": {tunnelled(func(o *observation) { o.tunnel.around.podNets = ranges("10.7.0.0/24") }), "True TunnelUp", "--pod-ranges"},
	} {
		t.Run(name, func(t *testing.T) {
			list := conditions(nil, row.seen)
			got, says := "", ""
			if c := meta.FindStatusCondition(list, v1alpha1.ConditionTunnelUp); c != nil {
				got, says = string(c.Status)+" "+c.Reason, c.Message
			}
			if got != row.want || !strings.Contains(says, row.says) {
				t.Errorf("TunnelUp is %q (%s), want %q (%s)", got, says, row.want, row.says)
			}
			ready := meta.IsStatusConditionTrue(list, v1alpha1.ConditionReady)
			if want := row.want == "" || strings.HasPrefix(row.want, "True"); ready != want {
				t.Errorf("Ready is %t, want %t", ready, want)
			}
		})
	}
}

// TestSameWish_Paths: a path that goes up or down is looked at at once, figures alone are not.
func TestSameWish_Paths(t *testing.T) {
	path := v1alpha1.TunnelPath{Slot: 0, Node: "a", Up: true, MTU: 1420, RTT: &metav1.Duration{Duration: time.Millisecond}}
	with := func(change func(*v1alpha1.TunnelPath)) *v1alpha1.Peering {
		p, changed := &v1alpha1.Peering{}, path
		change(&changed)
		p.Status.Tunnel = &v1alpha1.TunnelStatus{Paths: []v1alpha1.TunnelPath{changed}}
		return p
	}
	before := with(func(*v1alpha1.TunnelPath) {})
	for name, row := range map[string]struct {
		now  *v1alpha1.Peering
		same bool
	}{
		"nothing": {with(func(*v1alpha1.TunnelPath) {}), true},
		"figures": {with(func(p *v1alpha1.TunnelPath) {
			p.MTU, p.SentBytes, p.RTT = 1280, 9, &metav1.Duration{Duration: time.Second}
		}), true},
		"down":          {with(func(p *v1alpha1.TunnelPath) { p.Up = false }), false},
		"another node":  {with(func(p *v1alpha1.TunnelPath) { p.Node = "b" }), false},
		"another cause": {with(func(p *v1alpha1.TunnelPath) { p.Reason = v1alpha1.ReasonLargePacketsLost }), false},
		"gone":          {&v1alpha1.Peering{}, false},
	} {
		if got := sameWish(before, row.now); got != row.same {
			t.Errorf("%s: the same is %t, want %t", name, got, row.same)
		}
	}
}

// TestConditions_APIThroughTheTunnel: who reaches the peer's API server through the tunnel is told when that is down.
func TestConditions_APIThroughTheTunnel(t *testing.T) {
	seen := tunnelled(func(o *observation) {
		o.spec.Share, o.spec.Borrow = nil, &v1alpha1.Borrow{}
		o.spec.API = &v1alpha1.APIEndpoint{Server: "https://cloud:6443", Via: v1alpha1.APIViaTunnel}
		o.spec.Tunnel.Aliases = []v1alpha1.Alias{{Range: "10.96.0.1/32", As: "100.71.0.1/32"}}
		o.link = linkState{err: errors.New("i/o timeout")}
		o.paths[0].Up = false
	})
	got := meta.FindStatusCondition(conditions(nil, seen), v1alpha1.ConditionAuthenticated).Message
	for _, want := range []string{"through the tunnel at 100.71.0.1:443", "i/o timeout", "the tunnel that leads there is down: no probe"} {
		if !strings.Contains(got, want) {
			t.Errorf("Authenticated says %q, without %q", got, want)
		}
	}
	if strings.Contains(got, "https://cloud:6443") {
		t.Errorf("Authenticated speaks of a server that is not used: %q", got)
	}
}
