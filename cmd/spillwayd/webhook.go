package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering"
	"github.com/spillway-dev/spillway/peering/admission"
	"github.com/spillway-dev/spillway/provider"
)

// inClusterAddress is where the webhook listens inside a cluster: what the Service leads to.
const inClusterAddress = ":9443"

// webhookOptions are the flags of the webhook that steers pods.
type webhookOptions struct {
	address, url string
}

func (o *webhookOptions) addTo(f *pflag.FlagSet) {
	f.StringVar(&o.address, "webhook-address", "",
		"answer the API server's questions about new pods on this address (default: "+inClusterAddress+" in a cluster; beside one, nowhere: OffloadPolicies then steer no pods)")
	f.StringVar(&o.url, "webhook-url", "",
		"how the API server reaches webhook-address, for example https://192.0.2.7:9443 (default: by the Service in a cluster; beside one, https://ADDRESS)")
}

// start follows the policies, and answers about new pods, until ctx ends; answering then waits for the end. Every replica does. The
// Server is nil where the API server could not reach it.
func (o *webhookOptions) start(ctx context.Context, cfg peering.Config, answering *sync.WaitGroup) (*peering.Policies, *admission.Server, error) {
	policies, err := peering.NewPolicies(cfg.REST)
	if err != nil {
		return nil, nil, err
	}
	answering.Go(func() { policies.Run(ctx) })
	address := o.address
	if address == "" && inCluster() {
		address = inClusterAddress
	}
	if address == "" {
		if o.url != "" {
			return nil, nil, fmt.Errorf("--webhook-url needs --webhook-address: where to listen")
		}
		cfg.Log.Warn("OffloadPolicies steer no pods: the API server needs to reach this process, give --webhook-address")
		return policies, nil, nil
	}
	server, err := admission.New(admission.Config{
		Client: cfg.Client, Policies: policies, Address: address, URL: o.url, InCluster: inCluster(), Log: cfg.Log,
	})
	if err != nil {
		return nil, nil, err
	}
	answering.Go(func() { server.Run(ctx) })
	return policies, server, nil
}

// rules hands what policies say to package provider.
type rules struct{ policies *peering.Policies }

func (r rules) Synced() bool { return r.policies.Synced() }

func (r rules) Namespace(ns *corev1.Namespace) provider.NamespaceRules {
	return provider.NamespaceRules(r.policies.Namespace(ns))
}

func (r rules) StorageClass(namespace, node string) string {
	return r.policies.StorageClass(namespace, node)
}

func (r rules) Pod(ns *corev1.Namespace, pod *corev1.Pod, node string) provider.PodRules {
	return provider.PodRules(r.policies.Pod(ns, pod, node))
}
