// Package metrics holds what Spillway's programs tell Prometheus: one registry, the list of all measures in it, and those that belong to no
// package of ours: requests to API servers and work queues. It does not know what else is measured: each package declares its own.
//
//	var steps = metrics.NewCounter(metrics.Spec{
//		Name: "spillway_pod_steps_total", Help: "Steps of the pod loop.", In: metrics.Controller, Labels: []string{"peer", "step"},
//	})
//
// Names begin with spillway_ and carry the unit, a base unit. Labels never hold the name of a pod: what they hold is bounded by the number
// of peers.
package metrics

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/spillway-dev/spillway/internal/version"
)

// Registry has all measures of this process.
var Registry = newRegistry()

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

var buildInfo = NewGauge(Spec{
	Name: "spillway_build_info", Help: "1, with what this program was built from as labels.", In: Both,
	Labels: []string{"version", "commit", "goversion"},
})

// Handler answers scrapes, as text or as protobuf, which has the native histograms.
func Handler() http.Handler {
	buildInfo.WithLabelValues(version.Version(), version.Commit(), runtime.Version()).Set(1)
	return promhttp.HandlerFor(Registry, promhttp.HandlerOpts{Registry: Registry})
}
