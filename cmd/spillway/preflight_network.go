package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	semver "k8s.io/apimachinery/pkg/util/version"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Versions of Linux: the agents' nftables sets and maps need the first; from the second on WireGuard is in the kernel, before that
// it runs in the agent and takes more of a core.
const (
	oldestKernel    = "5.10"
	wireGuardKernel = "5.6"
)

func judgeKernels(f facts) preflightFinding {
	const check = "kernels"
	var old, slow, unknown []string
	seen := map[string]bool{}
	for _, node := range realNodes(f.nodes) {
		text := node.Status.NodeInfo.KernelVersion
		v, err := semver.ParseGeneric(leadingNumbers(text))
		switch {
		case err != nil:
			unknown = append(unknown, node.Name)
		case v.LessThan(semver.MustParseGeneric(wireGuardKernel)):
			slow = append(slow, fmt.Sprintf("%s (%s)", node.Name, text))
		case v.LessThan(semver.MustParseGeneric(oldestKernel)):
			old = append(old, fmt.Sprintf("%s (%s)", node.Name, text))
		default:
			seen[leadingNumbers(text)] = true
		}
	}
	switch {
	case len(slow) > 0:
		return warn(check, "Upgrade these nodes to Linux "+oldestKernel+" or newer, or keep the agents off them with node.nodeSelector.",
			"Linux before %s has no WireGuard in the kernel, and maybe not all of nftables: %s", wireGuardKernel, inShort(slow))
	case len(old) > 0:
		return warn(check, "Upgrade these nodes, or keep the agents off them with node.nodeSelector.", "Linux before %s may lack what the agents need of nftables: %s", oldestKernel, inShort(old))
	case len(seen) == 0:
		return warn(check, "Spillway needs Linux "+oldestKernel+" or newer.", "%s", unsaid(len(unknown)))
	}
	versions := make([]string, 0, len(seen))
	for v := range seen {
		versions = append(versions, v)
	}
	slices.Sort(versions)
	return good(check, "Linux %s, with WireGuard", strings.Join(versions, ", "))
}

func unsaid(n int) string {
	if n == 1 {
		return "1 node does not say which kernel it has"
	}
	return fmt.Sprintf("%d nodes do not say which kernel they have", n)
}

// leadingNumbers is the part of a kernel's version before anything that is no number: 6.8.0 of 6.8.0-45-generic.
func leadingNumbers(text string) string {
	end := strings.IndexFunc(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end >= 0 {
		text = text[:end]
	}
	return strings.Trim(text, ".")
}

// knownNetwork is what is known about a CNI.
type knownNetwork struct {
	part  string // of the name of a DaemonSet or of an API group
	name  string
	level string
	words string // what is known; empty: nothing special
	do    string
}

// knownNetworks are the CNIs that are recognised, the most special first: GKE's Dataplane V2 is a Cilium.
func knownNetworks() []knownNetwork {
	const ownRanges = "gives nodes pods from ranges of its own, so that the tunnel may not know which pod is on which node"
	const useHostLocal = "If condition TunnelUp names pods outside the known ranges, give them (network.podRanges), or let the CNI use the nodes' podCIDRs."
	return []knownNetwork{
		{"anetd", "GKE Dataplane V2", levelWarning, "is not tested yet", "Please tell how it goes; spillway doctor checks the path hop by hop."},
		{"aws-node", "the AWS VPC CNI", levelWarning, "gives pods addresses of the VPC rather than of the nodes' podCIDRs, which the tunnel does not support yet", "Join the networks yourself (VPC peering) and peer with --tunnel External, or use another CNI."},
		{"azure-cns", "the Azure CNI", levelWarning, "gives pods addresses of the virtual network in some of its modes", "Use its overlay mode, or join the networks yourself and peer with --tunnel External."},
		{"cilium", "Cilium", levelWarning, ownRanges + "; with host routing in eBPF it passes by the node's tables", useHostLocal + " Cilium: ipam.mode=kubernetes, bpf.hostLegacyRouting=true."},
		{"calico", "Calico", levelWarning, ownRanges, useHostLocal + " Calico: host-local IPAM."},
		{"antrea", "Antrea", levelOK, "", ""},
		{"canal", "Canal", levelOK, "", ""},
		{"flannel", "Flannel", levelOK, "", ""},
		{"kindnet", "kindnet", levelOK, "", ""},
		{"kube-router", "kube-router", levelOK, "", ""},
		{"weave", "Weave", levelWarning, ownRanges, useHostLocal},
		{"ovnkube", "OVN-Kubernetes", levelWarning, "is not tested yet", "spillway doctor checks the path hop by hop."},
		{"netd", "GKE's network", levelOK, "", ""},
	}
}

func judgeNetwork(f facts) preflightFinding {
	const check = "pod network"
	for _, known := range knownNetworks() {
		if !slices.ContainsFunc(f.networks, func(n string) bool { return strings.Contains(strings.ToLower(n), known.part) }) {
			continue
		}
		if known.level != levelOK {
			return warn(check, known.do, "%s %s", known.name, known.words)
		}
		return good(check, "%s", known.name)
	}
	return warn(check, "Spillway needs pods whose addresses are in the podCIDRs of their nodes, or of the ranges given; spillway doctor checks the path.", "no known CNI was recognised")
}

func judgeRanges(f facts) preflightFinding {
	const check = "ranges"
	if len(f.podRanges) == 0 {
		return warn(check, "Say them: --set network.podRanges={10.244.0.0/16}; or join the networks yourself.", "the nodes do not say which pod addresses they have (spec.podCIDRs)")
	}
	for _, pod := range f.podRanges {
		for _, service := range f.services {
			if pod.Overlaps(service) {
				return stop(check, "Change one of them in the cluster's configuration: no route can tell them apart.", "the pod range %s overlaps with the Service range %s", pod, service)
			}
		}
	}
	for _, own := range slices.Concat(f.podRanges, f.services) {
		for _, pool := range f.aliasPools {
			if own.Overlaps(pool) {
				return warn(check, "Give other pools (network.aliasPools) if peers will overlap; aliases are taken from what is free.", "the range %s overlaps with %s, from which peers with overlapping ranges get an alias", own, pool)
			}
		}
	}
	if len(f.services) == 0 {
		return warn(check, "Spillway asks the API server for ServiceCIDRs; else say the range: network.serviceRanges.", "the Service range was not found")
	}
	return good(check, "pods %s; Services %s", joinPrefixes(summary(f.podRanges)), joinPrefixes(f.services))
}

// summary leaves the first few of ranges.
func summary(ranges []netip.Prefix) []netip.Prefix { return ranges[:min(len(ranges), 4)] }

func joinPrefixes(ranges []netip.Prefix) string {
	words := make([]string, len(ranges))
	for i, r := range ranges {
		words[i] = r.String()
	}
	return strings.Join(words, ", ")
}

// Ports of nodes on which the agents listen unless the values say otherwise, beside those of the gateway slots.
const (
	vxlanPort  = 5380
	gossipPort = 7947
)

const forTunnel = "the tunnel"

// agentPorts are the ports of a node that the agents need with these values, with what for.
func agentPorts(values map[string]any) map[int32]string {
	first := portOf(values, "network", "port", v1alpha1.TunnelPort)
	ports := map[int32]string{
		portOf(values, "node", "httpPort", agentPort):       "health, metrics and reports",
		portOf(values, "network", "gossipPort", gossipPort): "the membership of the agents",
		vxlanPort: "the way between nodes and gateways",
		first:     forTunnel,
	}
	if gateways := portOf(values, "network", "gateways", 1); gateways > 1 && gateways <= v1alpha1.MaxSlots {
		for slot := range gateways {
			ports[first+slot] = forTunnel
		}
	}
	return ports
}

// portOf is a number of the values.
func portOf(values map[string]any, part, name string, otherwise int32) int32 {
	within, _ := values[part].(map[string]any)
	switch n := within[name].(type) {
	case int64:
		return int32(n)
	case int:
		return int32(n)
	case float64:
		return int32(n)
	}
	return otherwise
}

func judgePorts(f facts) preflightFinding {
	const check = "ports"
	var taken []string
	for _, port := range slices.Concat(f.hostPorts, f.nodePorts) {
		if what, needed := f.ports[port.number]; needed {
			taken = append(taken, fmt.Sprintf("%s has %d/%s (%s)", port.holder, port.number, orTCP(port.protocol), what))
		}
	}
	if len(taken) > 0 {
		return stop(check, "Move one of them: network.port, network.gossipPort and node.httpPort move Spillway's.", "ports of the nodes that the agents need are taken: %s", inShort(taken))
	}
	var numbers []string
	for _, number := range slices.Sorted(maps.Keys(f.ports)) {
		numbers = append(numbers, fmt.Sprint(number))
	}
	return good(check, "%s of the nodes are not taken by pods or Services", strings.Join(numbers, ", "))
}

func orTCP(p corev1.Protocol) string {
	if p == "" {
		return string(corev1.ProtocolTCP)
	}
	return string(p)
}
