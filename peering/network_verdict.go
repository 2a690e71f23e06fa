package peering

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// tunnelVerdict judges the condition TunnelUp.
func tunnelVerdict(o observation) verdict {
	no := func(reason, format string, args ...any) verdict {
		return verdict{metav1.ConditionFalse, reason, fmt.Sprintf(format, args...)}
	}
	a, remote := o.tunnel, o.spec.Tunnel.Remote
	switch {
	case a.starting:
		return verdict{metav1.ConditionUnknown, v1alpha1.ReasonStarting, "reading this cluster's nodes, Services and Leases"}
	case a.keysErr != nil:
		return no(v1alpha1.ReasonNoGateway, "%v", a.keysErr)
	case a.around.slots() == 0:
		return no(v1alpha1.ReasonNoGateway, "no node is a gateway: kubectl label node NAME %s=", v1alpha1.LabelGateway)
	case a.refused != nil:
		return no(v1alpha1.ReasonRangesRefused, "%v", a.refused)
	case remote == nil || len(remote.Ranges) == 0:
		return no(v1alpha1.ReasonNoNetwork, "the peer has not said yet what its network is: has its Peering a tunnel of mode Tunnel?")
	case len(remote.Gateways) == 0:
		return no(v1alpha1.ReasonNoGateway, "the peer has no gateway: kubectl label node NAME %s= there", v1alpha1.LabelGateway)
	case a.unseen != nil:
		return no(v1alpha1.ReasonRangesRefused, "a range of the peer cannot be seen here: %v", a.unseen)
	}
	if r, ok := notSeenThere(a.own.pods, remote); ok {
		return no(v1alpha1.ReasonAliasPending, "the peer has not said yet as what it sees our range %s", r)
	}
	return pathsVerdict(o)
}

// notSeenThere is one of our ranges that the peer has not judged.
func notSeenThere(own []netip.Prefix, remote *v1alpha1.ClusterNetwork) (netip.Prefix, bool) {
	i := slices.IndexFunc(own, func(p netip.Prefix) bool { return !slices.Contains(remote.SeenRanges, p.String()) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return own[i], true
}

// pathsVerdict judges by the paths that gateways have measured.
func pathsVerdict(o observation) verdict {
	usable := min(o.tunnel.around.slots(), len(o.spec.Tunnel.Remote.Gateways))
	up, down := 0, []verdict{}
	for _, path := range o.paths {
		if int(path.Slot) >= usable {
			continue // what only one side has carries nothing
		}
		if v := pathVerdict(path, o.tunnel.around); v.status == metav1.ConditionTrue {
			up++
		} else {
			down = append(down, v)
		}
	}
	switch {
	case up > 0 && up < usable:
		return verdict{metav1.ConditionTrue, v1alpha1.ReasonTunnelUp, withNotice(o, fmt.Sprintf("%d of %d paths carry packets of full size", up, usable))}
	case up > 0:
		return verdict{metav1.ConditionTrue, v1alpha1.ReasonTunnelUp, withNotice(o, "packets of full size pass in both directions")}
	case len(down) > 0:
		return down[0]
	}
	var names []string
	for _, n := range o.tunnel.around.gatewayNodes() {
		names = append(names, n.Name)
	}
	return verdict{metav1.ConditionUnknown, v1alpha1.ReasonStarting,
		"no gateway has measured yet: does spillwayd node run on " + strings.Join(names, ", ") + "?"}
}

// withNotice adds what the user should know of addresses that are not reached although the tunnel works.
func withNotice(o observation, message string) string {
	own := o.tunnel.own
	if notice := o.tunnel.around.noPodRange(own); notice != "" {
		return message + "; but " + notice
	}
	if r, ok := notSeenThere(slices.Concat(own.nodes, own.api), o.spec.Tunnel.Remote); ok {
		return message + "; but the peer does not reach " + r.String() + " yet: it has not said as what it sees that range"
	}
	return message
}

// pathVerdict judges one path. A gateway that has died cannot say so itself.
func pathVerdict(path v1alpha1.TunnelPath, around surroundings) verdict {
	no := func(reason, format string, args ...any) verdict {
		return verdict{metav1.ConditionFalse, reason, fmt.Sprintf(format, args...)}
	}
	node, holder := around.node(path.Node), around.holder[int(path.Slot)]
	switch {
	case node == nil:
		return no(v1alpha1.ReasonProbesLost, "gateway %s is gone, and no other has taken slot %d over yet", path.Node, path.Slot)
	case holder != "" && holder != path.Node:
		return no(v1alpha1.ReasonProbesLost, "gateway %s takes slot %d over from %s", holder, path.Slot, path.Node)
	case !ready(node):
		return no(v1alpha1.ReasonProbesLost, "gateway %s is not ready, and no other has taken slot %d over", path.Node, path.Slot)
	case path.Up:
		return verdict{status: metav1.ConditionTrue}
	}
	way := ""
	if path.Endpoint != "" {
		way = " at " + path.Endpoint
	}
	switch reason := downReason(path); reason {
	case v1alpha1.ReasonNoHandshake:
		return no(reason, "gateway %s has never had an answer from the peer%s: endpoint, firewall or key", path.Node, way)
	case v1alpha1.ReasonLargePacketsLost:
		return no(reason, "small packets from gateway %s pass, but large ones do not%s", path.Node, way)
	default:
		return no(v1alpha1.ReasonProbesLost, "no probe of gateway %s passes any more%s", path.Node, way)
	}
}

// downReason is why a path is not up. A gateway that does not say gets what its figures tell.
func downReason(path v1alpha1.TunnelPath) string {
	switch {
	case path.Reason != "":
		return path.Reason
	case path.RTT == nil:
		return v1alpha1.ReasonNoHandshake
	}
	return v1alpha1.ReasonProbesLost
}

// samePaths says whether two statuses give the same verdict: figures alone do not matter.
func samePaths(a, b *v1alpha1.TunnelStatus) bool {
	var listA, listB []v1alpha1.TunnelPath
	if a != nil {
		listA = a.Paths
	}
	if b != nil {
		listB = b.Paths
	}
	return slices.EqualFunc(listA, listB, func(x, y v1alpha1.TunnelPath) bool {
		return x.Slot == y.Slot && x.Node == y.Node && x.Up == y.Up && x.Endpoint == y.Endpoint && downReason(x) == downReason(y)
	})
}
