package main

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	"github.com/spillway-dev/spillway/internal/tracing"
	"github.com/spillway-dev/spillway/internal/version"
)

// flushWithin bounds how long the end of the process waits for spans to be sent.
const flushWithin = 2 * time.Second

// tracingOptions are the flags of tracing.
type tracingOptions struct {
	endpoint, protocol string
	insecure           bool
	ratio              float64
}

func (o *tracingOptions) addTo(f *pflag.FlagSet) {
	f.StringVar(&o.endpoint, "otlp-endpoint", "",
		"send traces of pods, from their binding until they are Ready at home, to this OpenTelemetry collector: host:port or a URL (default: no tracing)")
	f.StringVar(&o.protocol, "otlp-protocol", tracing.GRPC, "how the collector is spoken to: grpc (port 4317 as a rule) or http/protobuf (port 4318)")
	f.BoolVar(&o.insecure, "otlp-insecure", false, "speak to the collector without TLS; for one in the same pod or cluster")
	f.Float64Var(&o.ratio, "otlp-sample-ratio", 0.1, "share of pods that are traced, from 0 to 1; one pod is about ten spans")
}

// start begins to trace if that is asked for; flush sends what is left.
func (o *tracingOptions) start(ctx context.Context, identity, clusterID string) (flush func(), err error) {
	stop, err := tracing.Start(ctx, tracing.Config{
		Endpoint: o.endpoint, Protocol: o.protocol, Insecure: o.insecure, SampleRatio: o.ratio,
		Service: "spillwayd", Version: version.Version(), Instance: identity, Attributes: map[string]string{"k8s.cluster.uid": clusterID},
	})
	if err != nil {
		return nil, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWithin)
		defer cancel()
		_ = stop(ctx) // a collector that is away is no reason not to end
	}, nil
}
