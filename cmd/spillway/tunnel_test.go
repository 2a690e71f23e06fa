package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// addGateways labels a node of each cluster.
func (p *pair) addGateways() {
	for _, s := range []*apiServer{p.home, p.cloud} {
		s.put("/api/v1/nodes/gate", map[string]any{"metadata": map[string]any{"name": "gate", "labels": map[string]any{v1alpha1.LabelGateway: ""}}})
	}
}

func (p *pair) peering(t *testing.T, context, name string) *v1alpha1.Peering {
	t.Helper()
	peering, err := p.open(t, context).peerings.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return peering
}

func TestPeer_JoinsNetworks(t *testing.T) {
	p := newPair(t)
	p.runControllers(t)
	p.addGateways()
	out := p.must(t, "peer", "--remote-context", "cloud", "--remote-endpoint", "vpn.example.org:51820", "--endpoint", "none")
	for _, want := range []string{"Tunnel (both clusters have gateways)", "✓ tunnel: the clusters know each other's network", "✓ tunnel: TunnelUp", "0.43 ms, MTU 1420, over UDP", "✓ consumer: Ready"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	atHome, atCloud := p.peering(t, "home", "cloud"), p.peering(t, "cloud", "home")
	for _, side := range []struct {
		here, there *v1alpha1.Peering
		endpoints   []string
	}{{atHome, atCloud, []string{"none"}}, {atCloud, atHome, []string{"vpn.example.org:51820"}}} {
		want := &v1alpha1.Tunnel{Mode: v1alpha1.TunnelModeTunnel, Endpoints: side.endpoints, Remote: side.there.Status.Tunnel.Local}
		if diff := cmp.Diff(want, side.here.Spec.Tunnel); diff != "" {
			t.Errorf("Peering %s (-want +got):\n%s", side.here.Name, diff)
		}
	}
	p.home.written()
	p.cloud.written()
	p.must(t, "peer", "--remote-context", "cloud")
	checkUnwritten(t, p)
	var result outcome
	if err := json.Unmarshal([]byte(p.must(t, "peer", "--remote-context", "cloud", "--endpoint", "auto", "--api-via", "tunnel", "-o", "json")), &result); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&joined{Mode: "Tunnel", Why: "as it is", Via: "Tunnel", Up: true}, result.Tunnel); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := p.peering(t, "home", "cloud").Spec.Tunnel.Endpoints; len(got) > 0 {
		t.Errorf("--endpoint auto left %v", got)
	}
	p.must(t, "peer", "--remote-context", "cloud", "--tunnel", "Off")
	off := p.peering(t, "home", "cloud")
	if modeOf(off) != v1alpha1.TunnelModeOff || off.Spec.API.Via != v1alpha1.APIDirect {
		t.Errorf("after --tunnel Off: mode %s, API via %s", modeOf(off), off.Spec.API.Via)
	}
}

func TestPeer_WithoutGatewaysSaysHow(t *testing.T) {
	p := newPair(t)
	p.runControllers(t)
	out := p.must(t, "peer", "--remote-context", "cloud")
	for _, want := range []string{"Off (no node of the consumer is a gateway)", "kubectl --context home label node NODE spillway.dev/gateway=", "kubectl --context cloud label node"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if got := p.peering(t, "home", "cloud").Spec.Tunnel; got != nil {
		t.Errorf("wrote %+v", got)
	}
	p.addGateways()
	if out := p.must(t, "peer", "--remote-context", "cloud"); !strings.Contains(out, "✓ tunnel: TunnelUp") {
		t.Errorf("gateways came, and the second run says:\n%s", out)
	}
}

func TestPeer_NothingPassesTheTunnel(t *testing.T) {
	p := newPair(t)
	runController(t, p.open(t, "home"), "")
	(&controller{c: p.open(t, "cloud"), deaf: true}).run(t)
	code, out, errs := p.run(t, "peer", "--remote-context", "cloud", "--tunnel", "tunnel", "--timeout", "1s")
	if code != exitFailed || !strings.Contains(out, "✗ tunnel: TunnelUp") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	for _, want := range []string{`in the provider (context "cloud") TunnelUp is False (NoHandshake)`, "Open UDP 51820", "`spillway doctor cloud --context home --remote-context cloud`"} {
		if !strings.Contains(errs, want) {
			t.Errorf("stderr lacks %q:\n%s", want, errs)
		}
	}
}

func TestUnpeer_SaysThatTheTunnelGoes(t *testing.T) {
	p := newPair(t)
	p.runControllers(t)
	p.addGateways()
	before := [][]string{p.home.paths(), p.cloud.paths()}
	p.must(t, "peer", "--remote-context", "cloud")
	if out := p.must(t, "unpeer", "cloud"); !strings.Contains(out, "The tunnel goes too") {
		t.Errorf("unpeer says:\n%s", out)
	}
	if diff := cmp.Diff(before, [][]string{p.home.paths(), p.cloud.paths()}); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

func TestChooseMode(t *testing.T) {
	with := func(mode v1alpha1.TunnelMode) *v1alpha1.Peering {
		return &v1alpha1.Peering{Spec: v1alpha1.PeeringSpec{Tunnel: &v1alpha1.Tunnel{Mode: mode}}}
	}
	external, gateways := v1alpha1.TunnelModeExternal, sighting{gateways: 1}
	for name, test := range map[string]struct {
		said               *v1alpha1.TunnelMode
		consumer, provider *v1alpha1.Peering
		atConsumer         sighting
		atProvider         sighting
		want               string
		mode               v1alpha1.TunnelMode
	}{
		"what is said counts most":      {&external, with("Tunnel"), nil, gateways, gateways, "External (as you said)", "External"},
		"what is there stays":           {nil, with("Off"), with("Off"), gateways, gateways, "Off (as it is)", "Off"},
		"the provider's, if only that":  {nil, &v1alpha1.Peering{}, with("External"), gateways, gateways, "External (as it is)", "External"},
		"an empty mode is Tunnel":       {nil, with(""), nil, sighting{}, sighting{}, "Tunnel (as it is)", "Tunnel"},
		"gateways in both":              {nil, nil, nil, gateways, gateways, "Tunnel (both clusters have gateways)", "Tunnel"},
		"gateways in one":               {nil, nil, nil, gateways, sighting{}, "Off (no node of the provider is a gateway)", ""},
		"nodes that are not to be seen": {nil, nil, nil, sighting{hidden: true}, gateways, "Off (you may not list the nodes of the consumer, so its gateways cannot be seen)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := chooseMode(test.said, test.consumer, test.provider, test.atConsumer, test.atProvider)
			if got.String() != test.want || got.mode != test.mode {
				t.Errorf("got %q %s, want %q %s", got.mode, got, test.mode, test.want)
			}
		})
	}
}

func TestParseEndpoints(t *testing.T) {
	for name, test := range map[string]struct {
		in, want []string
		bad      bool
	}{
		"address":        {[]string{"203.0.113.7:51820"}, []string{"203.0.113.7:51820"}, false},
		"IPv6":           {[]string{"[2001:db8::7]:51820"}, []string{"[2001:db8::7]:51820"}, false},
		"names":          {[]string{"a.example.org:1", "B.example.org:2"}, []string{"a.example.org:1", "B.example.org:2"}, false},
		"none":           {[]string{"none"}, []string{"none"}, false},
		"auto":           {[]string{"auto"}, []string{}, false},
		"no port":        {[]string{"203.0.113.7"}, nil, true},
		"port 0":         {[]string{"203.0.113.7:0"}, nil, true},
		"none of two":    {[]string{"none", "a:1"}, nil, true},
		"a URL":          {[]string{"https://a:1"}, nil, true},
		"too many":       {slices.Repeat([]string{"a:1"}, 9), nil, true},
		"spaces in name": {[]string{"a b:1"}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseEndpoints("--endpoint", test.in)
			if diff := cmp.Diff(test.want, got); diff != "" || (err != nil) != test.bad {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestWantVia(t *testing.T) {
	tunnel, direct := v1alpha1.APIViaTunnel, v1alpha1.APIDirect
	through := &v1alpha1.Peering{Spec: v1alpha1.PeeringSpec{API: &v1alpha1.APIEndpoint{Via: tunnel}}}
	on, off := joining{mode: v1alpha1.TunnelModeTunnel}, joining{}
	for name, test := range map[string]struct {
		existing *v1alpha1.Peering
		joining  joining
		said     *v1alpha1.APIRoute
		want     v1alpha1.APIRoute
	}{
		"first time":                  {nil, on, nil, ""},
		"said":                        {nil, on, &tunnel, tunnel},
		"stays":                       {through, on, nil, tunnel},
		"back":                        {through, on, &direct, direct},
		"without tunnel, not through": {through, off, nil, direct},
	} {
		if got := wantVia(test.existing, test.joining, test.said); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
