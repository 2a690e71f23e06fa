package agent

import (
	"strconv"
	"strings"

	"github.com/spillway-dev/spillway/internal/metrics"
)

var (
	byPath   = []string{"peer", "slot"}
	byPeer   = []string{"peer"}
	byReason = []string{"peer", "reason"}

	scrape = metrics.NewScraped()

	gatewaySlots = gauge("spillway_gateway_slots", "Gateway slots this node holds.")
	failovers    = metrics.NewCounter(metrics.Spec{
		Name: "spillway_gateway_failovers_total", Help: "Times that a gateway slot went from one node to another, as this node saw it.",
		In: metrics.Node, Labels: []string{"slot"},
	})
	members      = gauge("spillway_members", "Agents of the cluster that answer, this one included.")
	problems     = gauge("spillway_agent_problems", "Problems that this node's agent has now, as its /report words them.")
	offline      = gauge("spillway_agent_offline", "1 while the API server has not been read since the start and the last known view is used.")
	deviceMTU    = gauge("spillway_tunnel_device_mtu_bytes", "Largest packet inside the tunnel that this node's network allows.")
	repairs      = counter("spillway_tunnel_repairs_total", "Times that kernel state differed from what is wanted and was put right.")
	roundAt      = gauge("spillway_tunnel_last_round_timestamp_seconds", "When kernel state was last compared with what is wanted.")
	roundTook    = gauge("spillway_tunnel_last_round_duration_seconds", "How long that took.")
	dnsOutcomes  = counter("spillway_dns_outcomes_total", "Questions of tenants' pods that were renamed, that upstream did not answer (failed), and that were dropped as too many (refused).", "outcome")
	dnsQuestions = counter("spillway_dns_questions_total", "Questions of pods to this node's DNS forwarder.")

	tunnelUp        = gauge("spillway_tunnel_up", "1 while packets of the full size pass in both directions.", byPath...)
	tunnelRTT       = gauge("spillway_tunnel_rtt_seconds", "Median round trip of the last probes.", byPath...)
	tunnelLoss      = gauge("spillway_tunnel_loss_ratio", "Lost share of the last 100 probes.", byPath...)
	tunnelMTU       = gauge("spillway_tunnel_mtu_bytes", "Largest packet that passes inside the tunnel.", byPath...)
	tunnelReceived  = counter("spillway_tunnel_received_bytes_total", "Bytes received from the peer.", byPath...)
	tunnelSent      = counter("spillway_tunnel_sent_bytes_total", "Bytes sent to the peer.", byPath...)
	tunnelHandshake = gauge("spillway_tunnel_last_handshake_timestamp_seconds", "When WireGuard last agreed on keys with the peer; absent before the first time.", byPath...)
	tunnelTransport = gauge("spillway_tunnel_transport", "1 for the transport that packets take: udp, or tls where UDP does not pass.", "peer", "slot", "transport")

	sampleUp  = gauge("spillway_sample_up", "1 while this node reaches a node of the peer.", byPeer...)
	sampleRTT = gauge("spillway_sample_rtt_seconds", "Median round trip from this node to a node of the peer.", byPeer...)
	refused   = counter("spillway_refused_packets_total", "Packets from a peer that were refused, by the filter or by WireGuard; the peer is empty where it is not known.", byReason...)

	scraped = scrape.Registered() // after all of the above are declared
)

func gauge(name, help string, labels ...string) metrics.Value {
	return scrape.Gauge(metrics.Spec{Name: name, Help: help, In: metrics.Node, Labels: labels})
}

func counter(name, help string, labels ...string) metrics.Value {
	return scrape.Counter(metrics.Spec{Name: name, Help: help, In: metrics.Node, Labels: labels})
}

// tell turns the agent's Report into metrics when somebody asks.
func (a *Agent) tell(s *metrics.Sink) {
	r := a.Report()
	s.Set(gatewaySlots, float64(len(r.Slots)))
	s.Set(members, float64(len(r.Members)))
	s.Set(problems, float64(len(r.Problems)))
	s.Set(offline, metrics.Is(r.Offline))
	s.Set(deviceMTU, float64(r.MTU))
	s.Set(repairs, float64(r.Tunnel.Repairs))
	s.Set(roundAt, float64(max(r.Tunnel.LastRoundUnix, 0)))
	s.Set(roundTook, float64(r.Tunnel.TookMicros)/1e6)
	d := a.names.server.Stats()
	s.Set(dnsOutcomes, float64(d.Renamed), "renamed")
	s.Set(dnsOutcomes, float64(d.Failed), "failed")
	s.Set(dnsOutcomes, float64(d.Refused), "refused")
	s.Set(dnsQuestions, float64(d.Asked))
	for _, p := range r.Paths {
		p.tell(s)
	}
	for _, p := range r.Samples {
		s.Set(sampleUp, metrics.Is(p.Up), p.Peer)
		s.Set(sampleRTT, float64(p.RTTMicros)/1e6, p.Peer)
	}
	for _, c := range r.Tunnel.Refused {
		s.Set(refused, float64(c.Packets), c.Peer, c.Reason)
	}
}

// tell says what a gateway measures of a tunnel.
func (p PathReport) tell(s *metrics.Sink) {
	slot := strconv.Itoa(p.Slot)
	s.Set(tunnelUp, metrics.Is(p.Up), p.Peer, slot)
	s.Set(tunnelRTT, float64(p.RTTMicros)/1e6, p.Peer, slot)
	s.Set(tunnelLoss, float64(p.LossPercent)/100, p.Peer, slot)
	s.Set(tunnelMTU, float64(p.MTU), p.Peer, slot)
	s.Set(tunnelReceived, float64(p.RxBytes), p.Peer, slot)
	s.Set(tunnelSent, float64(p.TxBytes), p.Peer, slot)
	if p.HandshakeUnix > 0 {
		s.Set(tunnelHandshake, float64(p.HandshakeUnix), p.Peer, slot)
	}
	if p.Transport != "" {
		s.Set(tunnelTransport, 1, p.Peer, slot, strings.ToLower(p.Transport))
	}
}

// countFailovers counts the slots that went from one node to another.
func countFailovers(before, now []string) {
	for k := range min(len(before), len(now)) {
		if before[k] != "" && now[k] != "" && before[k] != now[k] {
			failovers.WithLabelValues(strconv.Itoa(k)).Inc()
		}
	}
}
