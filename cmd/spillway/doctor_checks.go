package main

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Outcomes of a check.
const (
	hopOK      = "ok"
	hopFailed  = "failed"
	hopSkipped = "skipped"
)

// finding is what a check says: a sentence and, when it failed, what to do.
type finding struct {
	outcome, what, fix string
}

// check is one hop of the path between two pod networks.
type check struct {
	name     string
	external bool // it makes sense without a tunnel of ours too
	judge    func(inspection) finding
}

// checks are the hops in the order in which they depend on each other: the first that fails is the cause.
func checks() []check {
	return []check{
		{"peering", true, checkPeerings},
		{"controllers", true, checkAlive},
		{"networks", false, checkNetworks},
		{"agents", false, checkAgents},
		{"kernel", false, checkKernels},
		{"pod network", false, checkCNI},
		{"gateways", false, checkGateways},
		{"names", false, checkNames},
		{"keys", false, checkKeys},
		{"endpoint and firewall", false, checkEndpoints},
		{"handshake", false, checkHandshakes},
		{"addresses", false, checkAddresses},
		{"packet size", false, checkMTU},
		{"routes", false, checkRoutes},
		{"translation", false, checkTranslation},
		{"gateway to gateway", false, checkPaths},
		{"node to node", false, checkSamples},
		{"pod to pod", true, checkPods},
	}
}

// hop is a check and what it said.
type hop struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"` // ok, failed or skipped
	What    string `json:"what,omitempty"`
	Fix     string `json:"fix,omitempty"`
}

// walk makes all checks. first is the first hop that failed; nil: none.
func walk(in inspection) (hops []hop, first *hop) {
	external := in.mode() == v1alpha1.TunnelModeExternal
	for _, c := range checks() {
		f := skipped("the networks are joined by others")
		if !external || c.external {
			f = c.judge(in)
		}
		hops = append(hops, hop{c.name, f.outcome, f.what, f.fix})
		if f.outcome == hopFailed && first == nil {
			first = &hop{c.name, f.outcome, f.what, f.fix}
		}
		if c.name == "peering" && f.outcome == hopFailed {
			return hops, first // nothing else has a meaning
		}
	}
	return hops, first
}

func fine(format string, args ...any) finding {
	return finding{outcome: hopOK, what: fmt.Sprintf(format, args...)}
}

func broken(fix, format string, args ...any) finding {
	return finding{outcome: hopFailed, what: fmt.Sprintf(format, args...), fix: fix}
}

func skipped(format string, args ...any) finding {
	return finding{outcome: hopSkipped, what: fmt.Sprintf(format, args...)}
}

func checkPeerings(in inspection) finding {
	for _, s := range in.sides {
		switch mode := modeOf(s.peering); {
		case s.peering == nil:
			return broken("Peer them: spillway peer with both contexts.", "%s has no Peering for the other cluster", s.context)
		case mode == v1alpha1.TunnelModeOff:
			return broken("Ask for one: spillway peer --tunnel Tunnel with both contexts (a node of each cluster must be labelled "+v1alpha1.LabelGateway+").",
				"%s: the tunnel is Off, so pods are not reached across clusters", s.context)
		case mode != in.mode():
			return broken("Choose one mode for both: spillway peer --tunnel with both contexts.", "the clusters do not agree: %s has mode %s, %s has %s",
				in.sides[0].context, in.mode(), s.context, mode)
		case s.peering.DeletionTimestamp != nil:
			return broken("Wait until it is gone, then peer again.", "%s: the Peering %s is being removed", s.context, s.peering.Name)
		}
	}
	if _, _, ok := in.pair(); !ok {
		return fine("mode %s (the other cluster was not looked at: name it with --remote-context)", in.mode())
	}
	return fine("mode %s in both clusters", in.mode())
}

func checkAlive(in inspection) finding {
	for _, s := range in.sides {
		if s.idle != "" {
			return broken(fmt.Sprintf("Look at it: kubectl --context %s -n %s get deploy,pods; logs deploy/spillway-controller.", s.context, v1alpha1.SystemNamespace),
				"%s: no spillwayd controller works: %s", s.context, s.idle)
		}
	}
	return fine("they work")
}

// checkNetworks: each cluster has said what the other must know, and the other knows it.
func checkNetworks(in inspection) finding {
	const again = "Run spillway peer again with the same contexts: it tells each cluster of the other."
	for _, s := range in.sides {
		up := meta.FindStatusCondition(s.peering.Status.Conditions, v1alpha1.ConditionTunnelUp)
		if localOf(s.peering) == nil {
			words := "its controller has not said why"
			if up != nil {
				words = fmt.Sprintf("%s: %s", up.Reason, up.Message)
			}
			return broken("Mend what the message names.", "%s has not said what its network is like (%s)", s.context, words)
		}
		if remoteOf(s.peering) == nil {
			return broken(again, "%s does not know the peer's network", s.context)
		}
		if up != nil && up.Reason == v1alpha1.ReasonRangesRefused {
			return broken("Correct the ranges of the peer, then run spillway peer again.", "%s refuses the peer's addresses: %s", s.context, up.Message)
		}
	}
	a, b, ok := in.pair()
	if !ok {
		return fine("%s knows the peer's network", in.sides[0].context)
	}
	for _, pair := range [][2]sideView{{a, b}, {b, a}} {
		if !knows(pair[0].peering, pair[1].peering) {
			return broken(again, "%s knows an older state of %s's network", pair[0].context, pair[1].context)
		}
	}
	return fine("each knows the other's")
}

func checkAgents(in inspection) finding {
	total, away := 0, 0
	for _, s := range in.sides {
		var silent []string
		for _, n := range s.nodes {
			switch {
			case n.report != nil:
				total++
			case n.ready:
				silent = append(silent, fmt.Sprintf("%s (%s)", n.name, n.why))
			default:
				away++ // the node is down, and nobody expects its agent to answer
			}
		}
		if len(silent) > 0 {
			return broken(fmt.Sprintf("Look at the DaemonSet: kubectl --context %s -n %s get pods -o wide. The API server must reach TCP %d of the nodes, and you need the right to get nodes/proxy.",
				s.context, nodeNamespace, agentPort), "%s: no answer from the agent of %s", s.context, inShort(silent))
		}
	}
	if away > 0 {
		return fine("%s answered, %d not Ready", plural(total, "node"), away)
	}
	return fine("%s answered", plural(total, "node"))
}

// checkKernels: what an agent itself complains about comes before everything that follows from it.
func checkKernels(in inspection) finding {
	var kinds []string
	for _, s := range in.sides {
		for _, n := range s.nodes {
			if n.report == nil {
				continue
			}
			words := n.report.Problems
			if n.report.Tunnel.LastError != "" {
				words = append(slices.Clone(words), n.report.Tunnel.LastError)
			}
			if len(words) > 0 {
				return broken(fixOfKernel(words, n), "%s, node %s: %s", s.context, n.name, inShort(words))
			}
			if len(n.report.Slots) > 0 {
				kind := "WireGuard in the agent"
				if n.report.Kernel {
					kind = "WireGuard in the kernel"
				}
				kinds = append(kinds, fmt.Sprintf("%s on %s", kind, n.name))
			}
		}
	}
	if len(kinds) == 0 {
		return skipped("no gateway says anything about it")
	}
	return fine("%s", strings.Join(kinds, ", "))
}

// fixOfKernel turns the words of an agent into advice.
func fixOfKernel(words []string, n nodeView) string {
	text := strings.ToLower(strings.Join(words, "\n"))
	for _, known := range []struct{ part, fix string }{
		{"forward", "Turn forwarding on at that node: sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1."},
		{"vxlan", "Load the module at that node: modprobe vxlan."},
		{"nft", "Load the modules at that node: modprobe -a nf_tables nft_ct nft_nat nft_masq; the kernel needs nftables (5.10 or newer)."},
		{"tun", "Load the module at that node: modprobe wireguard, or tun for WireGuard in the agent."},
		{"permit", "The agent needs the capability NET_ADMIN and the host network: compare the DaemonSet with the chart's."},
		{"address already in use", fmt.Sprintf("Another program has the agent's port at that node: ss -lunp | grep %d.", v1alpha1.TunnelPort)},
	} {
		if strings.Contains(text, known.part) {
			return known.fix
		}
	}
	return fmt.Sprintf("Mend what it names; the agent tries again by itself. Its log: kubectl -n %s logs on node %s.", v1alpha1.SystemNamespace, n.name)
}

func checkCNI(in inspection) finding {
	var words []string
	for _, s := range in.sides {
		what := strings.Join(s.networks, ", ")
		if what == "" {
			what = "unknown"
		}
		for _, n := range s.nodes {
			if len(n.podCIDRs) == 0 {
				what += ", its nodes do not say which pod addresses they have"
				break
			}
		}
		words = append(words, s.context+": "+what)
	}
	return fine("%s", strings.Join(words, "; "))
}

// checkGateways: every slot is held by exactly one node that may hold it.
func checkGateways(in inspection) finding {
	var words []string
	for _, s := range in.sides {
		gateways := s.gateways()
		if len(gateways) == 0 {
			return broken(fmt.Sprintf("Make one: kubectl --context %s label node NODE %s=", s.context, v1alpha1.LabelGateway), "%s: no node is labelled as a gateway", s.context)
		}
		for slot := range in.slots() {
			holders := s.holders(slot)
			switch {
			case len(holders) == 0:
				return broken(fmt.Sprintf("Check that a gateway (%s) is Ready and that its agent runs; its log says why it does not take the slot. The Lease is %s%d in %s.", strings.Join(gateways, ", "), v1alpha1.GatewayPrefix, slot, v1alpha1.SystemNamespace),
					"%s: no node holds gateway slot %d", s.context, slot)
			case len(holders) > 1:
				return broken("Check that the nodes of that cluster reach each other (the gateways' membership, TCP and UDP) and the API server; the Lease settles it.",
					"%s: slot %d is held by %s and %s", s.context, slot, holders[0].name, holders[1].name)
			case !holders[0].ready:
				return broken("Bring the node back, or label another as gateway.", "%s: node %s, which holds slot %d, is not Ready", s.context, holders[0].name, slot)
			}
			words = append(words, fmt.Sprintf("%s: slot %d on %s", s.context, slot, holders[0].name))
		}
	}
	if len(words) == 0 {
		return skipped("the clusters do not know yet which slots there are")
	}
	return fine("%s", strings.Join(words, ", "))
}

func checkNames(in inspection) finding {
	var good []string
	for _, s := range in.sides {
		for _, n := range s.names {
			if n.err != "" {
				return broken("Correct the name in the peer's endpoints (spillway peer --remote-endpoint), or the DNS that gateways use.", "the peer's endpoint %s does not resolve, seen from here: %s", n.name, n.err)
			}
			good = append(good, n.name)
		}
	}
	if len(good) == 0 {
		return skipped("endpoints are addresses")
	}
	return fine("%s", strings.Join(good, ", "))
}

// inShort joins at most three of words.
func inShort(words []string) string {
	if len(words) > 3 {
		return strings.Join(words[:3], "; ") + fmt.Sprintf(" and %d more", len(words)-3)
	}
	return strings.Join(words, "; ")
}
