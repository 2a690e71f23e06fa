package main

import (
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/internal/metrics"
	"github.com/spillway-dev/spillway/internal/tracing"
)

var leads = metrics.NewGauge(metrics.Spec{
	Name: "spillway_leader", Help: "1 while this replica leads, 0 when it has stopped to. Absent before it first did.", In: metrics.Controller,
})

// leading says that this replica leads, until the result is called.
func leading() (stopped func()) {
	leads.WithLabelValues().Set(1)
	return func() { leads.WithLabelValues().Set(0) }
}

// measureHome counts and traces what this process asks of its own cluster's API server.
func measureHome(config *rest.Config) {
	config.Wrap(metrics.Transport(metrics.Home, ""))
	config.Wrap(tracing.Transport(metrics.Home, ""))
}
