// Package tracing sends spans over OTLP: of the way of a pod from its binding to a virtual node until it is Ready at home, and of the API
// requests on that way. It is off unless Start was called, and then costs nothing. It knows neither pods nor peers: who takes the way says
// what its steps are.
//
//	stop, err := tracing.Start(ctx, tracing.Config{Endpoint: "collector:4317", SampleRatio: 0.1, Service: "spillwayd"})
//	...
//	tracer := tracing.Current()                       // nil when off; so is every Way of it
//	way := tracer.Begin(pod.UID, "offload pod", bound)
//	way.Step("create twin", seen, answered)
//	way.End(ready)
//
// The trace id is the UUID of the way, a pod's UID: who has the one has the other.
package tracing

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Protocols of OTLP, as OTEL_EXPORTER_OTLP_PROTOCOL names them.
const (
	GRPC = "grpc"
	HTTP = "http/protobuf"
)

// ErrInvalid is of every Config that cannot be used.
var ErrInvalid = errors.New("tracing cannot be set up")

// Config says where spans go.
type Config struct {
	// Endpoint of the collector: host:port, or a URL. Empty: nothing is traced.
	Endpoint string
	// Protocol is GRPC (the default) or HTTP.
	Protocol string
	// Insecure: without TLS. A URL says it by its scheme, whatever this says.
	Insecure bool
	// SampleRatio of pods is traced, from 0 to 1.
	SampleRatio float64
	// Service, Version, Instance and Attributes describe this process.
	Service, Version, Instance string
	Attributes                 map[string]string
}

// Start traces from now on, for the whole process. Spans are sent in the background; a collector that does not answer costs spans, and
// nothing else. shutdown sends what is left. With no Endpoint nothing happens and shutdown does nothing. The error is an ErrInvalid.
func Start(ctx context.Context, c Config) (shutdown func(context.Context) error, err error) {
	if c.Endpoint == "" {
		return func(context.Context) error { return nil }, nil
	}
	if c.SampleRatio < 0 || c.SampleRatio > 1 || math.IsNaN(c.SampleRatio) {
		return nil, fmt.Errorf("%w: the sample ratio is between 0 and 1, not %v", ErrInvalid, c.SampleRatio)
	}
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	provider := newProvider(sdktrace.WithBatcher(exporter), c)
	otel.SetTracerProvider(provider)
	return provider.Shutdown, nil
}

// newProvider traces for c; where spans go is an option.
func newProvider(to sdktrace.TracerProviderOption, c Config) *sdktrace.TracerProvider {
	about := []attribute.KeyValue{attribute.String("service.name", c.Service), attribute.String("service.version", c.Version)}
	if c.Instance != "" {
		about = append(about, attribute.String("service.instance.id", c.Instance))
	}
	for k, v := range c.Attributes {
		about = append(about, attribute.String(k, v))
	}
	return sdktrace.NewTracerProvider(to, sdktrace.WithResource(resource.NewSchemaless(about...)),
		sdktrace.WithSampler(byTrace(c.SampleRatio)), sdktrace.WithIDGenerator(ids{}))
}

func newClient(c Config) (otlptrace.Client, error) {
	url := strings.Contains(c.Endpoint, "://")
	switch c.Protocol {
	case GRPC, "":
		options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(c.Endpoint)}
		if url {
			options = []otlptracegrpc.Option{otlptracegrpc.WithEndpointURL(c.Endpoint)}
		}
		if c.Insecure && !url {
			options = append(options, otlptracegrpc.WithInsecure())
		}
		return otlptracegrpc.NewClient(options...), nil
	case HTTP:
		options := []otlptracehttp.Option{otlptracehttp.WithEndpoint(c.Endpoint)}
		if url {
			options = []otlptracehttp.Option{otlptracehttp.WithEndpointURL(c.Endpoint)}
		}
		if c.Insecure && !url {
			options = append(options, otlptracehttp.WithInsecure())
		}
		return otlptracehttp.NewClient(options...), nil
	}
	return nil, fmt.Errorf("%w: the protocol is %s or %s, not %q", ErrInvalid, GRPC, HTTP, c.Protocol)
}

// byTrace samples that share of all traces. The same trace is always judged alike. TraceIDRatioBased would not do: the fixed bits of a
// UUID are among those that it looks at.
type byTrace float64

// ShouldSample implements sdktrace.Sampler.
func (ratio byTrace) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	result := sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
	hash := fnv.New64a()
	_, _ = hash.Write(p.TraceID[:]) // a hash never fails
	if mixed(hash.Sum64()) < float64(ratio) {
		result.Decision = sdktrace.RecordAndSample
	}
	return result
}

// mixed spreads a hash over 0 to 1: the upper bits of FNV of a short text are not even (the finalizer of MurmurHash3).
func mixed(h uint64) float64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return float64(h>>11) / (1 << 53)
}

// Description implements sdktrace.Sampler.
func (ratio byTrace) Description() string { return fmt.Sprintf("ByTrace{%g}", float64(ratio)) }

// ids makes trace ids of what withTrace put into the context, and others at random.
type ids struct{}

type traceKey struct{}

func withTrace(ctx context.Context, uuid string) context.Context {
	var id trace.TraceID
	text := strings.ReplaceAll(uuid, "-", "")
	if n, err := hex.Decode(id[:], []byte(text[:min(len(text), 2*len(id))])); err != nil || n != len(id) || len(text) != 2*len(id) {
		_, _ = rand.Read(id[:]) // it never fails
	}
	return context.WithValue(ctx, traceKey{}, id)
}

// NewIDs implements sdktrace.IDGenerator.
func (g ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, ok := ctx.Value(traceKey{}).(trace.TraceID)
	if !ok {
		_, _ = rand.Read(id[:]) // it never fails
	}
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements sdktrace.IDGenerator.
func (ids) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}
