package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Words for endpoints that are no address.
const (
	endpointNone = "none" // this cluster cannot be reached; it begins itself
	endpointAuto = "auto" // those that the controller finds
)

// parseMode reads a tunnel mode in any case.
func parseMode(text string) (v1alpha1.TunnelMode, error) {
	for _, mode := range []v1alpha1.TunnelMode{v1alpha1.TunnelModeTunnel, v1alpha1.TunnelModeExternal, v1alpha1.TunnelModeOff} {
		if strings.EqualFold(text, string(mode)) {
			return mode, nil
		}
	}
	return "", usagef("Use Tunnel, External or Off.", "--tunnel %q is not a mode", text)
}

// parseVia reads a way to the peer's API server.
func parseVia(text string) (v1alpha1.APIRoute, error) {
	for _, route := range []v1alpha1.APIRoute{v1alpha1.APIDirect, v1alpha1.APIViaTunnel} {
		if strings.EqualFold(text, string(route)) {
			return route, nil
		}
	}
	return "", usagef("Use direct or tunnel.", "--api-via %q is not a way to an API server", text)
}

// parseEndpoints reads where gateways are reached, one entry per slot: HOST:PORT; none or auto alone. Auto is the empty
// list, which is not nil.
func parseEndpoints(flag string, texts []string) ([]string, error) {
	if len(texts) == 1 && (texts[0] == endpointNone || texts[0] == endpointAuto) {
		return slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return s == endpointAuto }), nil
	}
	if len(texts) > v1alpha1.MaxSlots {
		return nil, usagef(fmt.Sprintf("Give at most %d, one per gateway slot.", v1alpha1.MaxSlots), "%s is given %d times", flag, len(texts))
	}
	for _, text := range texts {
		if !isEndpoint(text) {
			return nil, usagef(fmt.Sprintf("Give HOST:PORT, for example 203.0.113.7:%d, or none, or auto.", v1alpha1.TunnelPort), "%s %q is not an endpoint", flag, text)
		}
	}
	return texts, nil
}

func isEndpoint(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return len(validation.IsDNS1123Subdomain(strings.ToLower(host))) == 0
}

// joining is how the pod networks are to be joined, and why so.
type joining struct {
	mode v1alpha1.TunnelMode // empty: nothing is written, which means Off
	why  string
}

// String is for people.
func (j joining) String() string {
	mode := j.mode
	if mode == "" {
		mode = v1alpha1.TunnelModeOff
	}
	return fmt.Sprintf("%s (%s)", mode, j.why)
}

// joins says whether Spillway is to build a tunnel.
func (j joining) joins() bool { return j.mode == v1alpha1.TunnelModeTunnel }

// sighting is what could be seen of the gateways of one cluster.
type sighting struct {
	hidden   bool // the user may not list nodes
	gateways int  // labelled nodes
}

// chooseMode says how the networks are to be joined: as the user said, else as it is, else by a tunnel if both clusters
// have gateways. Off that nobody asked for is not written down, so that the next run can choose anew.
func chooseMode(said *v1alpha1.TunnelMode, atConsumer, atProvider *v1alpha1.Peering, consumer, provider sighting) joining {
	if said != nil {
		return joining{*said, "as you said"}
	}
	for _, p := range []*v1alpha1.Peering{atConsumer, atProvider} {
		if p != nil && p.Spec.Tunnel != nil {
			return joining{modeOf(p), "as it is"}
		}
	}
	for _, side := range []struct {
		role string
		sighting
	}{{"consumer", consumer}, {"provider", provider}} {
		switch {
		case side.hidden:
			return joining{"", "you may not list the nodes of the " + side.role + ", so its gateways cannot be seen"}
		case side.gateways == 0:
			return joining{"", "no node of the " + side.role + " is a gateway"}
		}
	}
	return joining{v1alpha1.TunnelModeTunnel, "both clusters have gateways"}
}

// modeOf is the tunnel mode of p.
func modeOf(p *v1alpha1.Peering) v1alpha1.TunnelMode {
	switch {
	case p == nil || p.Spec.Tunnel == nil:
		return v1alpha1.TunnelModeOff
	case p.Spec.Tunnel.Mode == "":
		return v1alpha1.TunnelModeTunnel
	}
	return p.Spec.Tunnel.Mode
}

// wantTunnel is what peer is to write of the tunnel into a Peering; nil: nothing. endpoints nil: those that are there.
func wantTunnel(existing *v1alpha1.Peering, j joining, endpoints []string) *v1alpha1.Tunnel {
	if j.mode == "" {
		return nil
	}
	if endpoints == nil && existing != nil && existing.Spec.Tunnel != nil {
		endpoints = existing.Spec.Tunnel.Endpoints
	}
	return &v1alpha1.Tunnel{Mode: j.mode, Endpoints: endpoints}
}

// wantVia is the way the consumer is to take to the provider's API server. Without a tunnel none leads through it.
func wantVia(existing *v1alpha1.Peering, j joining, said *v1alpha1.APIRoute) v1alpha1.APIRoute {
	var via v1alpha1.APIRoute
	if existing != nil && existing.Spec.API != nil {
		via = existing.Spec.API.Via
	}
	if said != nil {
		via = *said
	}
	if via == v1alpha1.APIViaTunnel && !j.joins() {
		return v1alpha1.APIDirect
	}
	return via
}

// checkTunnel refuses what cannot work together.
func checkTunnel(j joining, wish peerWish) error {
	switch {
	case j.joins():
	case wish.via != nil && *wish.via == v1alpha1.APIViaTunnel:
		return problemf("Ask for the tunnel with --tunnel Tunnel, or leave --api-via out.", "there is no tunnel for --api-via tunnel to go through: the tunnel is %s", j)
	case wish.endpoints != nil || wish.remoteEndpoints != nil:
		return problemf("Ask for the tunnel with --tunnel Tunnel, or leave the endpoints out.", "there is no tunnel for the endpoints: the tunnel is %s", j)
	}
	if slices.Contains(wish.endpoints, endpointNone) && slices.Contains(wish.remoteEndpoints, endpointNone) {
		return problemf("Give the endpoint of one of them; the other may stay none.", "neither cluster is to be reachable, and then no tunnel can begin")
	}
	return nil
}

// sameTunnel says whether what peer writes of a tunnel is there already. want nil: it writes nothing.
func sameTunnel(existing *v1alpha1.Peering, want *v1alpha1.Tunnel) bool {
	if want == nil {
		return true
	}
	return existing.Spec.Tunnel != nil && modeOf(existing) == want.Mode && equality.Semantic.DeepEqual(existing.Spec.Tunnel.Endpoints, want.Endpoints)
}

// localOf is what p's cluster says of its own network; nil: nothing yet.
func localOf(p *v1alpha1.Peering) *v1alpha1.ClusterNetwork {
	if p == nil || p.Status.Tunnel == nil {
		return nil
	}
	return p.Status.Tunnel.Local
}

// remoteOf is what p's cluster knows of the peer's network; nil: nothing yet.
func remoteOf(p *v1alpha1.Peering) *v1alpha1.ClusterNetwork {
	if p == nil || p.Spec.Tunnel == nil {
		return nil
	}
	return p.Spec.Tunnel.Remote
}

// knows says whether here knows what the other cluster says of its network.
func knows(here, there *v1alpha1.Peering) bool {
	return localOf(there) != nil && equality.Semantic.DeepEqual(remoteOf(here), localOf(there))
}
