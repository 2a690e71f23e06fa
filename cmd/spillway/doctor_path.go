package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// freshHandshake is the longest a WireGuard session lives without a new handshake.
	freshHandshake = 3 * time.Minute
	// bearableLoss in percent is what TCP still makes do with.
	bearableLoss = 5
)

// checkKeys: what gateways use is what the other cluster publishes.
func checkKeys(in inspection) finding {
	const fix = "Restart the agent of that node; if it stays, run spillway peer again with the same contexts."
	seen := 0
	for _, s := range in.sides {
		for slot := range in.slots() {
			want := remoteOf(s.peering).Gateways[slot].PublicKey
			for _, holder := range s.holders(slot) {
				seen++
				peers := holder.report.Tunnel.Peers
				i := slices.IndexFunc(peers, func(p peerReport) bool { return p.Peer == s.peering.Name && p.Slot == slot })
				if i < 0 {
					return broken(fix, "%s: the device of gateway %s does not have the peer for slot %d", s.context, holder.name, slot)
				}
				if peers[i].PublicKey != want {
					return broken(fix, "%s: gateway %s has the key %s… for slot %d, and the peer's is %s…", s.context, holder.name,
						peers[i].PublicKey[:min(8, len(peers[i].PublicKey))], slot, want[:min(8, len(want))])
				}
			}
		}
	}
	if seen == 0 {
		return skipped("no gateway holds a slot")
	}
	return fine("gateways have the keys that the other cluster publishes")
}

// checkEndpoints tells from the bytes at both ends in which direction packets die.
func checkEndpoints(in inspection) finding {
	var words []string
	for slot := range in.slots() {
		if !reachable(localOf(in.sides[0].peering), slot) && !reachable(remoteOf(in.sides[0].peering), slot) {
			return broken("Give one of them an endpoint: spillway peer --endpoint or --remote-endpoint HOST:PORT.", "slot %d: neither cluster can be reached by the other", slot)
		}
		near := in.sides[0].path(slot)
		if near == nil {
			continue // nobody holds the slot
		}
		var far *pathReport
		if len(in.sides) == 2 {
			far = in.sides[1].path(slot)
		}
		if f := in.deadDirection(slot, near, far); f.outcome == hopFailed {
			return f
		}
		words = append(words, fmt.Sprintf("slot %d: %s over %s, %s in, %s out", slot, orDash(near.Endpoint), orDash(near.Transport), byteCount(int64(near.RxBytes)), byteCount(int64(near.TxBytes))))
	}
	if len(words) == 0 {
		return skipped("no gateway holds a slot")
	}
	return fine("%s", strings.Join(words, "; "))
}

func reachable(network *v1alpha1.ClusterNetwork, slot int) bool {
	return network != nil && slot < len(network.Gateways) && len(network.Gateways[slot].Endpoints)+len(network.Gateways[slot].TLSEndpoints) > 0
}

// deadDirection compares what one end sends with what the other receives. far is nil when only one end is seen.
func (in inspection) deadDirection(slot int, near, far *pathReport) finding {
	here, there := in.sides[0].context, "the peer"
	port := v1alpha1.TunnelPort + slot
	open := func(where, endpoint string) string {
		return fmt.Sprintf("Open UDP %d (or TCP %[1]d for TLS) towards the gateways of %s: firewall, security group, port forwarding to %s.", port, where, orDash(endpoint))
	}
	if near.Up || near.RxBytes > 0 && (far == nil || far.RxBytes > 0) {
		return fine("")
	}
	if far == nil {
		if near.TxBytes == 0 {
			return broken("Look from the other side too (--remote-context); this cluster waits for the peer to begin.", "slot %d: %s neither sends nor receives: it knows no endpoint of the peer, or the peer never reached it", slot, here)
		}
		return broken(open(there, near.Endpoint)+" --remote-context shows in which direction packets die.", "slot %d: %s sends to %s and nothing comes back", slot, here, orDash(near.Endpoint))
	}
	there = in.sides[1].context
	switch {
	case near.TxBytes == 0 && far.TxBytes == 0:
		return broken("Check the endpoints of both (spillway status -o yaml) and the agents' logs on the gateways.", "slot %d: neither %s nor %s sends anything", slot, here, there)
	case near.TxBytes > 0 && far.RxBytes == 0 && far.TxBytes > 0 && near.RxBytes == 0:
		return broken(open(there, near.Endpoint)+" "+open(here, far.Endpoint)+" One of the two is enough.", "slot %d: both clusters send and neither receives", slot)
	case near.TxBytes > 0 && far.RxBytes == 0:
		return in.notArriving(slot, in.sides[0], in.sides[1], open(there, near.Endpoint))
	case far.TxBytes > 0 && near.RxBytes == 0:
		return in.notArriving(slot, in.sides[1], in.sides[0], open(here, far.Endpoint))
	}
	return fine("")
}

// notArriving: what from sends in a slot does not come out at to, which may also be because to's device refuses it.
func (in inspection) notArriving(slot int, from, to sideView, open string) finding {
	endpoint := orDash(from.path(slot).Endpoint)
	if refused := to.refused(refusedByHandshake); refused > 0 {
		return broken("It may be the key, or somebody else's packets: run spillway peer again with the same contexts. If that does not help: "+open,
			"slot %d: packets from %s to %s (%s) do not arrive, and %s refused %d handshakes of a key it does not know", slot, from.context, to.context, endpoint, to.context, refused)
	}
	return broken(open, "slot %d: packets from %s to %s (%s) do not arrive", slot, from.context, to.context, endpoint)
}

func checkHandshakes(in inspection) finding {
	var oldest time.Duration
	seen := 0
	for slot := range in.slots() {
		for _, s := range in.sides {
			path := s.path(slot)
			if path == nil {
				continue
			}
			seen++
			if path.HandshakeUnix == 0 && !path.Up {
				return broken("Packets arrive but are not understood: the keys differ, or the clock of a gateway went backwards. Restart the agents of both gateways; then run spillway peer again.",
					"%s, slot %d: no handshake ever succeeded", s.context, slot)
			}
			if path.HandshakeUnix == 0 {
				continue
			}
			age := in.now.Sub(time.Unix(path.HandshakeUnix, 0))
			if age > freshHandshake && !path.Up {
				return broken("The path worked before: look for a changed firewall, a changed address, or NAT that forgot the flow.", "%s, slot %d: the last handshake was %s ago", s.context, slot, age.Round(time.Second))
			}
			oldest = max(oldest, age)
		}
	}
	if seen == 0 {
		return skipped("no gateway says anything about a path")
	}
	return fine("the oldest is %s old", oldest.Round(time.Second))
}

// checkAddresses: each cluster has judged all ranges of the other, and both see them under the same ones.
func checkAddresses(in inspection) finding {
	var words []string
	for _, s := range in.sides {
		local, remote := localOf(s.peering), remoteOf(s.peering)
		if local == nil || remote == nil {
			return skipped("they are not known yet")
		}
		for _, r := range remote.Ranges {
			if !slices.Contains(local.SeenRanges, r.CIDR) {
				return broken(fmt.Sprintf("The controller of %s has to find an address for it: see TunnelUp in spillway status, or set spec.tunnel.aliases by hand.", s.context), "%s has not judged the peer's range %s yet", s.context, r.CIDR)
			}
		}
		for _, r := range local.Ranges {
			if !slices.Contains(remote.SeenRanges, r.CIDR) {
				return broken("The peer's controller has to answer: run spillway peer again with the same contexts, which tells each cluster of the other.", "%s: the peer has not judged our range %s yet", s.context, r.CIDR)
			}
		}
		for _, a := range aliasesOf("peer", s.peering.Spec.Tunnel.Aliases) {
			words = append(words, fmt.Sprintf("%s sees %s as %s", s.context, a.Range, a.As))
		}
	}
	if len(words) == 0 {
		return fine("no range is seen as another")
	}
	return fine("%s", strings.Join(words, ", "))
}

// checkMTU: large packets pass as small ones do.
func checkMTU(in inspection) finding {
	var words []string
	for _, s := range in.sides {
		for slot := range in.slots() {
			path := s.path(slot)
			if path == nil {
				continue
			}
			if path.LargeLost {
				return broken("Something on the way drops large packets without a word: raise its MTU, let ICMP \"fragmentation needed\" pass, or lower the MTU of the gateways' network device.",
					"%s, slot %d: small packets pass and packets of %d bytes do not", s.context, slot, path.MTU)
			}
			if path.MTU > 0 {
				room := s.holders(slot)[0].report.MTU
				words = append(words, fmt.Sprintf("%s: %d of %d bytes pass", s.context, path.MTU, max(room, path.MTU)))
			}
		}
	}
	if len(words) == 0 {
		return skipped("no path was measured")
	}
	return fine("%s", strings.Join(words, ", "))
}

// checkRoutes: what every node is to have in its kernel is there.
func checkRoutes(in inspection) finding {
	if in.silent() {
		return skipped("no agent answered")
	}
	var repairs uint64
	for _, s := range in.sides {
		for _, n := range s.nodes {
			if n.report == nil {
				continue
			}
			t := n.report.Tunnel
			switch {
			case len(n.report.Slots) > 0 && len(t.Links) == 0:
				return broken("Look at the log of that node's agent; it tries again by itself.", "%s: node %s holds a slot and has no tunnel device", s.context, n.name)
			case len(t.Missing) > 0:
				return broken("The agent puts it back within seconds. If it goes again, something else on that node takes it away (a network manager, another CNI, a firewall service): let that leave Spillway's devices, tables and routes alone.",
					"%s: node %s lacks %s", s.context, n.name, inShort(t.Missing))
			}
			repairs += t.Repairs
		}
	}
	if repairs > 0 {
		return fine("as they should be; something else changed them %d times, which was repaired", repairs)
	}
	return fine("as they should be")
}

// checkTranslation tells what was refused: that is no failure, but may be what somebody looks for.
func checkTranslation(in inspection) finding {
	if in.silent() {
		return skipped("no agent answered")
	}
	var words []string
	for _, s := range in.sides {
		if n := s.refused(refusedByFilter); n > 0 {
			words = append(words, fmt.Sprintf("%s refused %d packets of the peer, which may reach only offloaded pods and the endpoints of Services they use", s.context, n))
		}
	}
	if len(words) == 0 {
		return fine("nothing was refused")
	}
	return fine("%s", strings.Join(words, "; "))
}

// checkPaths: probes from gateway to gateway, and what the controllers make of them.
func checkPaths(in inspection) finding {
	var words []string
	for _, s := range in.sides {
		for slot := range in.slots() {
			path := s.path(slot)
			switch {
			case path == nil:
				return broken("Look at the agents' logs on the gateways.", "%s: nobody measures slot %d", s.context, slot)
			case !path.Up:
				return broken("Packets arrive, but probes do not: look for a firewall inside the gateways that drops UDP 51899 on the devices spillway*.", "%s, slot %d: probes do not come back", s.context, slot)
			case path.LossPercent > bearableLoss:
				return broken("The path between the clusters loses packets: look at it with mtr from one gateway to the other's endpoint.", "%s, slot %d: %d%% of the probes are lost", s.context, slot, path.LossPercent)
			}
			words = append(words, fmt.Sprintf("%s: %s, %d%% lost", s.context, milliseconds(time.Duration(path.RTTMicros)*time.Microsecond), path.LossPercent))
		}
		up := meta.FindStatusCondition(s.peering.Status.Conditions, v1alpha1.ConditionTunnelUp)
		if up == nil || up.Status != "True" {
			words := "there is no condition TunnelUp"
			if up != nil {
				words = fmt.Sprintf("TunnelUp is %s (%s): %s", up.Status, up.Reason, up.Message)
			}
			return broken("Mend what the message names; if everything above is well, look at the controller's log.", "%s: %s", s.context, words)
		}
	}
	if len(words) == 0 {
		return skipped("there is no path yet")
	}
	return fine("%s", strings.Join(words, "; "))
}

// checkSamples: probes from every node to nodes of the peer, through everything that packets between nodes pass.
func checkSamples(in inspection) finding {
	total := 0
	for _, s := range in.sides {
		for _, n := range s.nodes {
			if n.report == nil {
				continue
			}
			var bad []string
			of := 0
			for _, sample := range n.report.Samples {
				if sample.Peer != s.peering.Name {
					continue
				}
				if of++; !sample.Up {
					bad = append(bad, sample.Remote)
				}
			}
			total += of
			switch {
			case of > 0 && len(bad) == of:
				return broken("The way from that node to its gateway is broken: let UDP 5380 (vxlan) pass between the nodes of that cluster: security group, host firewall, network policy of the CNI.",
					"%s: node %s reaches no node of the peer (%s)", s.context, n.name, inShort(bad))
			case len(bad) > 0:
				return broken("The way from the peer's gateway to that node is broken: let UDP 5380 (vxlan) pass between the nodes of the peer.",
					"%s: node %s does not reach node %s of the peer", s.context, n.name, inShort(bad))
			}
		}
	}
	if total == 0 {
		return skipped("no node measures nodes of the peer")
	}
	return fine("%s in all, every one came back", plural(total, "sample"))
}

func checkPods(in inspection) finding {
	const policy = "Look for NetworkPolicies, and for a CNI that drops packets from foreign addresses (its host firewall or its IP spoofing check)."
	switch p := in.pods; {
	case p == nil:
		return skipped("--pods tries it with two small pods")
	case p.err != "":
		return broken("Mend what the message names, or leave --pods out.", "the pods could not be made: %s", p.err)
	case p.there != "":
		return broken(policy, "a pod of the consumer does not reach one at the provider: %s", p.there)
	case p.back != "":
		return broken(policy, "a pod at the provider does not reach one of the consumer: %s", p.back)
	}
	return fine("both ways, %s there and back", milliseconds(time.Duration(in.pods.thereRTTMicro)*time.Microsecond))
}
