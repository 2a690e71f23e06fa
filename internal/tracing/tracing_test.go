package tracing

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

const uid = "3e8a0b5c-7d21-4f0e-9c4b-2f1d5a6b7c8d"

// tracer keeps spans in memory.
func tracer(t *testing.T, ratio float64) (*Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := newProvider(sdktrace.WithSyncer(spans), Config{Service: "spillwayd", SampleRatio: ratio})
	t.Cleanup(func() { _ = provider.Shutdown(context.WithoutCancel(t.Context())) })
	return &Tracer{provider.Tracer(scope)}, spans
}

func TestWay_IsOneTraceOfThePod(t *testing.T) {
	tr, spans := tracer(t, 1)
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	way := tr.Begin(t.Context(), uid, "offload pod", began, Text("spillway.peer", "west"))
	way.Step("create twin", began, began.Add(20*time.Millisecond))
	way.Step("never", time.Time{}, began)              // its beginning is not known
	way.Step("backwards", began.Add(time.Hour), began) // a clock was set
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	client := &http.Client{Transport: Transport("peer", "west")(http.DefaultTransport)}
	get(t, client, way.Into(t.Context()), server.URL+"/api/v1/namespaces/shop/pods/web/status")
	get(t, client, t.Context(), server.URL+"/version") // on no way
	way.End(began.Add(time.Second))

	var got []string
	var root tracetest.SpanStub
	for _, s := range spans.GetSpans() {
		got = append(got, s.Name)
		if id := s.SpanContext.TraceID().String(); id != strings.ReplaceAll(uid, "-", "") {
			t.Errorf("%s has trace id %s, want the pod's UID", s.Name, id)
		}
		if s.Name == "offload pod" {
			root = s
		}
	}
	if diff := cmp.Diff([]string{"create twin", "get pods/status", "offload pod"}, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if !root.StartTime.Equal(began) || root.EndTime.Sub(began) != time.Second || root.Status.Code != codes.Ok || root.Parent.IsValid() {
		t.Errorf("the way is %v–%v, %v, below %v", root.StartTime, root.EndTime, root.Status, root.Parent)
	}
}

func get(t *testing.T, client *http.Client, ctx context.Context, url string) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close() // nothing of it is read
}

// TestSampling_IsByTheWholeUID: the fixed bits of UUIDs must not decide.
func TestSampling_IsByTheWholeUID(t *testing.T) {
	const n = 4000
	for _, ratio := range []float64{0, 0.1, 0.5, 1} {
		tr, _ := tracer(t, ratio)
		var sampled []string
		for i := range n {
			id := "00000000-0000-4000-8000-" + leftPad(i)
			if way := tr.Begin(t.Context(), id, "offload pod", time.Now()); way != nil {
				sampled = append(sampled, id)
				way.End(time.Now())
			}
		}
		if share := float64(len(sampled)) / n; share < ratio-0.03 || share > ratio+0.03 {
			t.Errorf("ratio %v: %v of all pods are traced", ratio, share)
		}
	}
}

func leftPad(i int) string {
	const digits = "0123456789abcdef"
	out := []byte("000000000000")
	for at := len(out) - 1; i > 0; at, i = at-1, i/16 {
		out[at] = digits[i%16]
	}
	return string(out)
}

func TestOff_DoesNothing(t *testing.T) {
	stop, err := Start(t.Context(), Config{})
	if err != nil || stop(t.Context()) != nil {
		t.Fatalf("start without an endpoint: %v", err)
	}
	off := Current()
	if off != nil {
		t.Fatal("there is a tracer although nobody started one")
	}
	ctx := t.Context()
	if allocs := testing.AllocsPerRun(100, func() {
		way := off.Begin(ctx, uid, "offload pod", time.Time{})
		way.Step("create twin", time.Time{}, time.Time{})
		if way.Into(ctx) != ctx {
			t.Error("the context changed")
		}
		way.End(time.Time{})
	}); allocs > 0 {
		t.Errorf("%v allocations per pod although tracing is off", allocs)
	}
}

func TestStart_RefusesWhatCannotWork(t *testing.T) {
	for name, c := range map[string]Config{
		"a ratio above 1": {Endpoint: "collector:4317", SampleRatio: 2},
		"no protocol":     {Endpoint: "collector:4317", Protocol: "zipkin"},
	} {
		if _, err := Start(t.Context(), c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
	}
}

// TestStart_SendsOTLP receives what is sent, over HTTP, as a collector does.
func TestStart_SendsOTLP(t *testing.T) {
	received := make(chan *collector.ExportTraceServiceRequest, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" {
			t.Errorf("spans came to %s", r.URL.Path)
		}
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unzipped
		}
		text, err := io.ReadAll(body)
		var request collector.ExportTraceServiceRequest
		if err := errors.Join(err, proto.Unmarshal(text, &request)); err != nil {
			t.Error(err)
			return
		}
		received <- &request
	}))
	defer server.Close()
	before := otel.GetTracerProvider()
	defer otel.SetTracerProvider(before)
	stop, err := Start(t.Context(), Config{
		Endpoint: strings.TrimPrefix(server.URL, "http://"), Insecure: true, Protocol: HTTP, SampleRatio: 1,
		Service: "spillwayd", Version: "0.2.0", Instance: "replica-1", Attributes: map[string]string{"k8s.cluster.uid": "home"},
	})
	if err != nil {
		t.Fatal(err)
	}
	way := Current().Begin(t.Context(), uid, "offload pod", time.Now())
	way.Step("create twin", time.Now(), time.Now())
	way.Break(time.Now(), "gone")
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names, about []string
	for _, rs := range (<-received).ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			about = append(about, a.Key+"="+a.Value.GetStringValue())
		}
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				names = append(names, s.Name)
			}
		}
	}
	slices.Sort(about)
	if diff := cmp.Diff([]string{"create twin", "offload pod"}, names); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	want := []string{"k8s.cluster.uid=home", "service.instance.id=replica-1", "service.name=spillwayd", "service.version=0.2.0"}
	if diff := cmp.Diff(want, about); diff != "" {
		t.Errorf("the process says of itself (-want +got):\n%s", diff)
	}
}
