package kubelet

import (
	"net/http"

	"github.com/spillway-dev/spillway/internal/metrics"
)

var (
	streamsBegun = metrics.NewCounter(metrics.Spec{
		Name: "spillway_kubelet_streams_total",
		Help: "Streams of containers that were asked for at virtual nodes: logs, exec, attach, portforward. Result handed_over to the peer, or " +
			"refused: there is no such container, or no way to the peer.",
		In: metrics.Controller, Labels: []string{"peer", "stream", "result"},
	})
	streamsOpen = metrics.NewGauge(metrics.Spec{
		Name: "spillway_kubelet_streams_open", Help: "Streams of containers that are open.",
		In: metrics.Controller, Labels: []string{"peer", "stream"},
	})
)

// streaming counts a stream from when it is handed over until it ends.
func (s *streams) streaming(stream string, serve func()) {
	peer := s.node.Peer()
	streamsBegun.WithLabelValues(peer, stream, "handed_over").Inc()
	open := streamsOpen.WithLabelValues(peer, stream)
	open.Inc()
	defer open.Dec()
	serve()
}

// refuse tells a caller why there is no stream for him.
func (s *streams) refuse(w http.ResponseWriter, stream string, err error) {
	streamsBegun.WithLabelValues(s.node.Peer(), stream, "refused").Inc()
	answer(w, err)
}
