package peering

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	nodeBits4, nodeBits6 = 24, 64 // a node's address stands for the range of this size around it
	podBits4, podBits6   = 16, 56 // pod ranges of nodes are parts of a range of this size, where that is possible
	mostEndpoints        = 8      // of a slot
	mostSamples          = 8      // nodes named for probes
)

// surroundings is what is known of this cluster and its network. Plain values; objects are shared and only read.
type surroundings struct {
	nodes    []*corev1.Node // real ones, by name
	gateways int            // that are to be active; 0: all
	pods     []netip.Prefix // as configured; nil: as the nodes say
	services []netip.Prefix
	api      []netip.Addr            // of Service default/kubernetes
	podNets  []netip.Prefix          // around the addresses of some pods
	service  map[int]*corev1.Service // by slot
	holder   map[int]string          // by slot: the node that holds it; absent: not known
}

// ownRanges are the ranges of a cluster.
type ownRanges struct {
	pods, nodes, api, services []netip.Prefix
}

// all is what no peer can be seen as.
func (r ownRanges) all() []netip.Prefix { return slices.Concat(r.pods, r.nodes, r.api, r.services) }

// announced is what the peer is told: Services are not reached by their ranges.
func (r ownRanges) announced() []v1alpha1.NetworkRange {
	var out []v1alpha1.NetworkRange
	for _, part := range []struct {
		kind   v1alpha1.RangeKind
		ranges []netip.Prefix
	}{{v1alpha1.RangePods, r.pods}, {v1alpha1.RangeNodes, r.nodes}, {v1alpha1.RangeAPI, r.api}} {
		for _, p := range part.ranges {
			out = append(out, v1alpha1.NetworkRange{CIDR: p.String(), Kind: part.kind})
		}
	}
	return out
}

// ranges finds this cluster's ranges. They do not overlap, the ranges of Services aside: where pods have addresses of the
// nodes' network, as with the CNIs of some clouds, that range counts as one of nodes.
func (s surroundings) ranges() ownRanges {
	var out ownRanges
	out.services = s.services
	for _, a := range s.api {
		out.api = append(out.api, single(a))
	}
	nodeAddrs := s.nodeAddrs()
	pods := s.pods
	if pods == nil {
		pods = s.nodesPods(slices.Concat(surround(nodeAddrs, nodeBits4, nodeBits6), out.services, out.api))
	}
	pods = address.Merge(usable(pods))
	for bits := nodeBits4; ; bits-- {
		out.nodes = address.Merge(surround(nodeAddrs, bits, bits-nodeBits4+nodeBits6))
		out.nodes, out.pods = absorb(out.nodes, pods)
		if len(out.nodes)+len(out.pods)+len(out.api) <= address.MaxRanges || bits <= podBits4 {
			break
		}
	}
	return out
}

// absorb makes ranges of nodes of those pod ranges that overlap one.
func absorb(nodes, pods []netip.Prefix) (allNodes, onlyPods []netip.Prefix) {
	for _, p := range pods {
		if address.Overlapping([]netip.Prefix{p}, nodes) {
			nodes = append(slices.Clone(nodes), p)
		} else {
			onlyPods = append(onlyPods, p)
		}
	}
	return address.Merge(nodes), onlyPods
}

func (s surroundings) nodeAddrs() []netip.Addr {
	var out []netip.Addr
	for _, n := range s.nodes {
		out = append(out, nodeAddresses(n, corev1.NodeInternalIP)...)
	}
	return out
}

// surround gives the ranges of a size around addresses.
func surround(list []netip.Addr, bits4, bits6 int) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range list {
		bits := bits4
		if a.Is6() {
			bits = bits6
		}
		out = append(out, address.Widen(single(a), bits))
	}
	return usable(out)
}

// usable leaves out what no cluster can have.
func usable(ranges []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(ranges), func(p netip.Prefix) bool { return address.Check([]netip.Prefix{p}) != nil })
}

// nodesPods makes the cluster's pod ranges from those of its nodes. The API does not tell the whole range; but ranges
// that change with every new node would not let flows last. So it is taken to be of the usual size, or as much of that
// as overlaps nothing else of ours.
func (s surroundings) nodesPods(others []netip.Prefix) []netip.Prefix {
	groups := map[netip.Prefix][]netip.Prefix{} // by wide range
	for _, n := range s.nodes {
		for _, p := range usable(prefixes(n.Spec.PodCIDRs)) {
			bits := podBits4
			if p.Addr().Is6() {
				bits = podBits6
			}
			wide := address.Widen(p, bits)
			groups[wide] = append(groups[wide], p)
		}
	}
	var out []netip.Prefix
	for wide, parts := range groups {
		switch cover := address.Cover(parts); {
		case !address.Overlapping([]netip.Prefix{wide}, others):
			out = append(out, wide)
		case !address.Overlapping([]netip.Prefix{cover}, others):
			out = append(out, cover)
		default:
			out = append(out, parts...)
		}
	}
	return address.Merge(out)
}

// stray is a range in which pods have addresses although it is not known to be one of pods, if there is one.
func (s surroundings) stray(own ownRanges) (netip.Prefix, bool) {
	known := slices.Concat(own.pods, own.nodes)
	i := slices.IndexFunc(s.podNets, func(p netip.Prefix) bool { return !address.Overlapping([]netip.Prefix{p}, known) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return s.podNets[i], true
}

func (s surroundings) gatewayNodes() []*corev1.Node {
	return slices.DeleteFunc(slices.Clone(s.nodes), func(n *corev1.Node) bool { return !isGateway(n) })
}

// slots is how many gateways are active at a time.
func (s surroundings) slots() int {
	n := min(len(s.gatewayNodes()), v1alpha1.MaxSlots)
	if s.gateways > 0 {
		n = min(n, s.gateways)
	}
	return n
}

// node is the real node of that name, or nil.
func (s surroundings) node(name string) *corev1.Node {
	i := slices.IndexFunc(s.nodes, func(n *corev1.Node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return s.nodes[i]
}

// local is what the peer of a Peering must know of this cluster; without what it is seen as.
func (s surroundings) local(tunnel *v1alpha1.Tunnel, own ownRanges, publicKeys []string) *v1alpha1.ClusterNetwork {
	out := &v1alpha1.ClusterNetwork{Ranges: own.announced(), SampleNodes: s.samples()}
	for slot := range min(s.slots(), len(publicKeys)) {
		gateway := v1alpha1.GatewaySlot{PublicKey: publicKeys[slot]}
		gateway.Endpoints, gateway.TLSEndpoints = s.endpoints(slot, tunnel.Endpoints)
		out.Gateways = append(out.Gateways, gateway)
	}
	return out
}

// endpoints of a slot for UDP and for TLS on TCP: as the user says, else those of its Service, else those of the gateway
// nodes, that of the holder first.
func (s surroundings) endpoints(slot int, wanted []string) (udp, tls []string) {
	if len(wanted) > 0 {
		if wanted[0] == "none" || slot >= len(wanted) {
			return nil, nil
		}
		return wanted[slot : slot+1], wanted[slot : slot+1]
	}
	hosts := s.gatewayHosts(slot)
	if svc := s.service[slot]; svc != nil {
		udp, tls = serviceEndpoints(svc, corev1.ProtocolUDP, hosts), serviceEndpoints(svc, corev1.ProtocolTCP, hosts)
		if len(udp)+len(tls) > 0 {
			return udp, tls
		}
	}
	list := endpointsAt(hosts, v1alpha1.TunnelPort+slot)
	return list, list
}

// gatewayHosts are the addresses of the gateway nodes: the external ones before the internal, and among each the
// holder's first.
func (s surroundings) gatewayHosts(slot int) []string {
	nodes := s.gatewayNodes()
	slices.SortStableFunc(nodes, func(a, b *corev1.Node) int {
		return before(a.Name == s.holder[slot], b.Name == s.holder[slot])
	})
	var out []string
	for _, kind := range []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP} {
		for _, n := range nodes {
			for _, a := range nodeAddresses(n, kind) {
				if !slices.Contains(out, a.String()) {
					out = append(out, a.String())
				}
			}
		}
	}
	return out
}

func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// serviceEndpoints are those of a Service of type LoadBalancer or NodePort; none while it has no address.
func serviceEndpoints(svc *corev1.Service, protocol corev1.Protocol, hosts []string) []string {
	i := slices.IndexFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool {
		return p.Protocol == protocol || p.Protocol == "" && protocol == corev1.ProtocolTCP
	})
	switch {
	case i < 0:
		return nil
	case svc.Spec.Type == corev1.ServiceTypeLoadBalancer:
		var at []string
		for _, in := range svc.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				at = append(at, in.IP)
			} else if in.Hostname != "" {
				at = append(at, in.Hostname)
			}
		}
		return endpointsAt(at, int(svc.Spec.Ports[i].Port))
	case svc.Spec.Type == corev1.ServiceTypeNodePort && svc.Spec.Ports[i].NodePort > 0:
		return endpointsAt(hosts, int(svc.Spec.Ports[i].NodePort))
	}
	return nil
}

func endpointsAt(hosts []string, port int) []string {
	var out []string
	for _, h := range hosts[:min(len(hosts), mostEndpoints)] {
		out = append(out, net.JoinHostPort(h, strconv.Itoa(port)))
	}
	return out
}

// samples names nodes for probes: some gateways, and of the others as many as there is room for.
func (s surroundings) samples() []string {
	var gateways, others []string
	for _, n := range s.nodes {
		at := nodeAddresses(n, corev1.NodeInternalIP)
		switch {
		case len(at) == 0:
		case isGateway(n):
			gateways = append(gateways, at[0].String())
		default:
			others = append(others, at[0].String())
		}
	}
	out := gateways[:min(len(gateways), max(mostSamples/2, mostSamples-len(others)))]
	return append(slices.Clip(out), others[:min(len(others), mostSamples-len(out))]...)
}

// nodeAddresses are the addresses of a kind that other machines can reach.
func nodeAddresses(n *corev1.Node, kind corev1.NodeAddressType) []netip.Addr {
	var texts []string
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			texts = append(texts, a.Address)
		}
	}
	return slices.DeleteFunc(addrs(texts), func(a netip.Addr) bool { return address.Check([]netip.Prefix{single(a)}) != nil })
}

func podAddrs(pod *corev1.Pod) []netip.Addr {
	var texts []string
	for _, ip := range pod.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	return addrs(texts)
}

// addrs parses addresses and passes over what is none.
func addrs(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a.Unmap().WithZone(""))
		}
	}
	return out
}

// prefixes parses ranges and passes over what is none.
func prefixes(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// single is the range of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// noPodRange says what to do when no range of pods was found, or pods have addresses outside of them; else it is empty.
func (s surroundings) noPodRange(own ownRanges) string {
	const how = "say which ranges pods have: spillwayd controller --pod-ranges"
	if p, ok := s.stray(own); ok {
		return fmt.Sprintf("pods with addresses in %s cannot be reached from the peer: they are in no known range; %s", p, how)
	}
	if len(own.pods) == 0 && len(s.nodes) > 0 {
		return "no node says which range its pods have (spec.podCIDRs); " + how
	}
	return ""
}
