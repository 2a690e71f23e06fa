package metrics

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

func TestRequest_SaysWhatIsAsked(t *testing.T) {
	for row, want := range map[string]string{
		"GET /api/v1/namespaces/shop/pods":                       "list pods",
		"GET /api/v1/pods?fieldSelector=a&watch=true":            "watch pods",
		"GET /api/v1/namespaces/shop/pods/web":                   "get pods",
		"PATCH /api/v1/namespaces/shop/pods/web/status":          "patch pods/status",
		"POST /api/v1/namespaces/shop/pods/web/eviction":         "create pods/eviction",
		"GET /api/v1/namespaces/shop":                            "get namespaces",
		"GET /api/v1/namespaces":                                 "list namespaces",
		"PUT /api/v1/namespaces/shop/finalize":                   "update namespaces/finalize",
		"DELETE /api/v1/nodes/spillway-west":                     "delete nodes",
		"PUT /apis/coordination.k8s.io/v1/namespaces/a/leases/b": "update leases",
		"GET /apis/spillway.dev/v1alpha1/peerings/west":          "get peerings",
		"GET /k8s/clusters/c-1/api/v1/namespaces/shop/secrets/x": "get secrets",
		"GET /readyz":                     "get none",
		"GET /apis/spillway.dev/v1alpha1": "get none",
		"PATCH(apply) /apis/apps/v1/namespaces/shop/deployments/web":        "apply deployments",
		"POST /api/v1/namespaces/spillway-tenant-a/serviceaccounts/c/token": "create serviceaccounts/token",
	} {
		method, url, _ := strings.Cut(row, " ")
		method, applies := strings.CutSuffix(method, "(apply)")
		r := httptest.NewRequest(method, url, nil)
		if applies {
			r.Header.Set("Content-Type", "application/apply-patch+yaml")
		}
		if verb, resource := Request(r); verb+" "+resource != want {
			t.Errorf("%s is %q, want %q", row, verb+" "+resource, want)
		}
	}
}

type answers func(*http.Request) (*http.Response, error)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

// TestTransport_Counts also shows that nothing is left of a peer that is none any more.
func TestTransport_Counts(t *testing.T) {
	fail := true
	transport := Transport(Peer, "test-west")(answers(func(*http.Request) (*http.Response, error) {
		if fail {
			return nil, errors.New("no way")
		}
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(""))}, nil
	}))
	ask := func(url string) *http.Response {
		response, _ := transport.RoundTrip(httptest.NewRequest(http.MethodGet, url, nil)) // the failure is counted
		return response
	}
	ask("/api/v1/pods")
	fail = false
	watch := ask("/api/v1/pods?watch=true")
	expect := func(when string, want map[string]float64) {
		t.Helper()
		got := gathered(t, "test-west")
		for series, value := range want {
			if got[series] != value {
				t.Errorf("%s: %s is %v, want %v", when, series, got[series], value)
			}
		}
	}
	expect("a watch is open", map[string]float64{
		"spillway_api_requests_total list pods error": 1, "spillway_api_requests_total watch pods 200": 1, "spillway_api_watches pods": 1,
	})
	_, _ = watch.Body.Close(), watch.Body.Close() // nothing can go wrong, and twice counts once
	expect("the watch has ended", map[string]float64{"spillway_api_watches pods": 0})
	ForgetPeer("test-west")
	if left := gathered(t, "test-west"); len(left) > 0 {
		t.Errorf("%v is left of a peer that is gone", left)
	}
}

// gathered are counters and gauges of a peer, by name and the values of what other labels there are.
func gathered(t *testing.T, peer string) map[string]float64 {
	t.Helper()
	families, err := Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["peer"] != peer {
				continue
			}
			key := f.GetName()
			for _, name := range []string{"verb", "resource", "code"} {
				if labels[name] != "" {
					key += " " + labels[name]
				}
			}
			out[key] = valueOf(m)
		}
	}
	return out
}

func valueOf(m *dto.Metric) float64 {
	if m.Counter != nil {
		return m.Counter.GetValue()
	}
	return m.Gauge.GetValue()
}

// TestHandler_ServesItself: a scrape goes well with every collector of this process.
func TestHandler_ServesItself(t *testing.T) {
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, name := range []string{"spillway_build_info{", "go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(w.Body.String(), "\n"+name) {
			t.Errorf("no %s in a scrape", name)
		}
	}
}
