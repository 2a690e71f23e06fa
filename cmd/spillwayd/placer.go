package main

import (
	"k8s.io/client-go/tools/record"

	"github.com/spillway-dev/spillway/peering"
	"github.com/spillway-dev/spillway/provider"
	"github.com/spillway-dev/spillway/provider/placer"
)

// newPlacer makes the loops that place pods: those of policies with when: Burst, and of Migrations.
func newPlacer(cfg peering.Config, nodes *provider.Nodes, events record.EventRecorder, steered bool) (*placer.Placer, error) {
	unsteered := ""
	if !steered {
		unsteered = "spillwayd answers no API server's questions about new pods, so that nobody would steer those of the workload: give it --webhook-address"
	}
	return placer.New(placer.Config{
		Unsteered: unsteered,
		Client:    cfg.Client, REST: cfg.REST, Policies: cfg.Policies, Events: events, Log: cfg.Log,
		Closed: func(namespace string) string {
			ns, ok := nodes.Namespace(namespace)
			if !ok {
				return "" // not known yet: what must not leave is refused where it arrives
			}
			return cfg.Policies.Set(namespace).Closed(ns)
		},
	})
}
