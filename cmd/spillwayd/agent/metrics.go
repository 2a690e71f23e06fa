package agent

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics turns the agent's Report into metrics when somebody asks.
type metrics struct{ agent *Agent }

// Describe sends nothing: which peers there are is not known beforehand, as client_golang allows.
func (metrics) Describe(chan<- *prometheus.Desc) {}

// Collect sends one value per path and figure.
func (m metrics) Collect(out chan<- prometheus.Metric) {
	r := m.agent.Report()
	gauge := func(name, help string, value float64, labels []string, values ...string) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue, value, values...)
	}
	counter := func(name, help string, value float64, labels []string, values ...string) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue, value, values...)
	}
	gauge("spillway_gateway_slots", "Gateway slots this node holds.", float64(len(r.Slots)), nil)
	gauge("spillway_members", "Agents of the cluster that answer, this one included.", float64(len(r.Members)), nil)
	gauge("spillway_tunnel_device_mtu_bytes", "Largest packet inside the tunnel that this node's network allows.", float64(r.MTU), nil)
	counter("spillway_tunnel_repairs_total", "Times that kernel state differed from what is wanted and was put right.", float64(r.Tunnel.Repairs), nil)
	d := m.agent.names.server.Stats()
	for result, count := range map[string]uint64{"renamed": d.Renamed, "failed": d.Failed, "refused": d.Refused} {
		counter("spillway_dns_outcomes_total", "Questions of tenants' pods that were renamed, that upstream did not answer, and that were dropped as too many.",
			float64(count), []string{"outcome"}, result)
	}
	counter("spillway_dns_questions_total", "Questions of pods to this node's DNS forwarder.", float64(d.Asked), nil)
	path := []string{"peer", "slot"}
	for _, p := range r.Paths {
		slot := strconv.Itoa(p.Slot)
		gauge("spillway_tunnel_up", "1 while packets of the full size pass in both directions.", number(p.Up), path, p.Peer, slot)
		gauge("spillway_tunnel_rtt_seconds", "Median round trip of the last probes.", float64(p.RTTMicros)/1e6, path, p.Peer, slot)
		gauge("spillway_tunnel_loss_ratio", "Lost share of the last 100 probes.", float64(p.LossPercent)/100, path, p.Peer, slot)
		gauge("spillway_tunnel_mtu_bytes", "Largest packet that passes inside the tunnel.", float64(p.MTU), path, p.Peer, slot)
		counter("spillway_tunnel_received_bytes_total", "Bytes received from the peer.", float64(p.RxBytes), path, p.Peer, slot)
		counter("spillway_tunnel_sent_bytes_total", "Bytes sent to the peer.", float64(p.TxBytes), path, p.Peer, slot)
	}
	for _, p := range r.Samples {
		gauge("spillway_sample_up", "1 while this node reaches a node of the peer.", number(p.Up), []string{"peer"}, p.Peer)
		gauge("spillway_sample_rtt_seconds", "Median round trip from this node to a node of the peer.", float64(p.RTTMicros)/1e6, []string{"peer"}, p.Peer)
	}
	for _, c := range r.Tunnel.Refused {
		counter("spillway_refused_packets_total", "Packets from a peer that were refused.", float64(c.Packets),
			[]string{"peer", "reason"}, c.Peer, c.Reason)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
