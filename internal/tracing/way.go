package tracing

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/spillway-dev/spillway/internal/metrics"
)

// scope is the name under which spans are sent.
const scope = "github.com/spillway-dev/spillway"

// Tracer begins ways. Nil: nothing is traced; all its methods may be called.
type Tracer struct{ tracer trace.Tracer }

// Current is the Tracer of this process; nil unless Start was called before.
func Current() *Tracer {
	provider, ok := otel.GetTracerProvider().(*sdktrace.TracerProvider)
	if !ok {
		return nil
	}
	return &Tracer{provider.Tracer(scope)}
}

// Attr is a key and its value.
type Attr = attribute.KeyValue

// Text is an Attr.
func Text(key, value string) Attr { return attribute.String(key, value) }

// Begin begins a way, whose trace id is uuid. Nil when it is not sampled.
func (t *Tracer) Begin(ctx context.Context, uuid, name string, at time.Time, attrs ...Attr) *Way {
	if t == nil {
		return nil
	}
	ctx, root := t.tracer.Start(withTrace(ctx, uuid), name, trace.WithTimestamp(at), trace.WithNewRoot(), trace.WithAttributes(attrs...))
	if !root.IsRecording() {
		root.End()
		return nil
	}
	return &Way{tracer: t.tracer, root: root, span: trace.ContextWithSpan(context.WithoutCancel(ctx), root)}
}

// Way is one trace. Nil: it is not traced; all its methods may be called. Safe for concurrent use.
type Way struct {
	tracer trace.Tracer
	root   trace.Span
	span   context.Context // has root, and nothing else that matters
}

// Step adds a step that has been taken.
func (w *Way) Step(name string, from, to time.Time, attrs ...Attr) {
	if w == nil || from.IsZero() || to.Before(from) {
		return
	}
	_, span := w.tracer.Start(w.span, name, trace.WithTimestamp(from), trace.WithAttributes(attrs...))
	span.End(trace.WithTimestamp(to))
}

// Note adds what happened at one moment.
func (w *Way) Note(name string, at time.Time, attrs ...Attr) {
	if w != nil {
		w.root.AddEvent(name, trace.WithTimestamp(at), trace.WithAttributes(attrs...))
	}
}

// End ends the way at its goal.
func (w *Way) End(at time.Time) {
	if w != nil {
		w.root.SetStatus(codes.Ok, "")
		w.root.End(trace.WithTimestamp(at))
	}
}

// Break ends the way before its goal, and says why.
func (w *Way) Break(at time.Time, why string) {
	if w != nil {
		w.root.SetStatus(codes.Error, why)
		w.root.End(trace.WithTimestamp(at))
	}
}

// Into makes API requests with the context be steps of the way, where their client has a Transport.
func (w *Way) Into(ctx context.Context) context.Context {
	if w == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, w.root)
}

// Transport makes requests steps of the way that their context is of; others pass. Cluster and peer are those of metrics.Transport.
func Transport(cluster, peer string) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper { return &traced{next, cluster, peer} }
}

type traced struct {
	next          http.RoundTripper
	cluster, peer string
}

// RoundTrip implements http.RoundTripper.
func (t *traced) RoundTrip(r *http.Request) (*http.Response, error) {
	way := trace.SpanFromContext(r.Context())
	if !way.IsRecording() {
		return t.next.RoundTrip(r)
	}
	verb, resource := metrics.Request(r)
	ctx, span := way.TracerProvider().Tracer(scope).Start(r.Context(), verb+" "+resource, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(Text("http.request.method", r.Method), Text("server.address", r.URL.Host), Text("url.path", r.URL.Path),
			Text("spillway.cluster", t.cluster), Text("spillway.peer", t.peer)))
	defer span.End()
	response, err := t.next.RoundTrip(r.WithContext(ctx))
	switch {
	case err != nil:
		span.SetStatus(codes.Error, err.Error())
	default:
		span.SetAttributes(attribute.Int("http.response.status_code", response.StatusCode))
		if response.StatusCode >= http.StatusBadRequest {
			span.SetStatus(codes.Error, http.StatusText(response.StatusCode))
		}
	}
	return response, err
}

// WrappedRoundTripper lets client-go look through.
func (t *traced) WrappedRoundTripper() http.RoundTripper { return t.next }
