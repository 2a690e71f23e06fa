// Package metrics holds what Spillway's programs tell Prometheus: one registry, and the measures that more than one package touches.
// Names carry the unit, labels never the name of a pod.
package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Registry has all measures of this process.
var Registry = prometheus.NewRegistry()

// Handler answers scrapes.
func Handler() http.Handler {
	return promhttp.InstrumentMetricHandler(Registry, promhttp.HandlerFor(Registry, promhttp.HandlerOpts{}))
}
