package metrics

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Sides of a pair of clusters, as the label cluster has them.
const (
	Home = "home" // the cluster that this process works for
	Peer = "peer"
)

var (
	apiRequests = NewCounter(Spec{
		Name: "spillway_api_requests_total",
		Help: "Requests to API servers. Writes are those whose verb is create, update, patch, apply or delete; code is that of HTTP, " +
			"or error when there was no answer.",
		In: Both, Labels: []string{"cluster", "peer", "verb", "resource", "code"},
	})
	apiDuration = NewHistogram(Spec{
		Name: "spillway_api_request_duration_seconds",
		Help: "How long an API server took until it began to answer. Watches are left out.",
		In:   Both, Labels: []string{"cluster", "peer", "verb"},
	})
	apiWatches = NewGauge(Spec{
		Name: "spillway_api_watches", Help: "Watches that are open.", In: Both, Labels: []string{"cluster", "peer", "resource"},
	})
)

// Transport counts the requests of a client of an API server: hand the result to rest.Config.Wrap. Cluster is Home or Peer; peer is the name
// of the peering, and empty with Home. client-go's own hooks know neither whose server is asked nor for what.
func Transport(cluster, peer string) func(http.RoundTripper) http.RoundTripper {
	of := prometheus.Labels{"cluster": cluster, "peer": peer}
	requests, durations, watches := apiRequests.MustCurryWith(of), apiDuration.MustCurryWith(of), apiWatches.MustCurryWith(of)
	return func(next http.RoundTripper) http.RoundTripper {
		return &counted{next: next, requests: requests, durations: durations, watches: watches}
	}
}

// ForgetPeer ends what is measured of a peer's API server, because it is no peer any more.
func ForgetPeer(peer string) {
	of := prometheus.Labels{"peer": peer}
	apiRequests.DeletePartialMatch(of)
	apiDuration.DeletePartialMatch(of)
	apiWatches.DeletePartialMatch(of)
}

// counted is a RoundTripper that counts.
type counted struct {
	next      http.RoundTripper
	requests  *prometheus.CounterVec
	durations prometheus.ObserverVec
	watches   *prometheus.GaugeVec
}

// RoundTrip implements http.RoundTripper.
func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	verb, resource := Request(r)
	began := time.Now()
	response, err := c.next.RoundTrip(r)
	code := "error"
	if err == nil {
		code = strconv.Itoa(response.StatusCode)
	}
	c.requests.WithLabelValues(verb, resource, code).Inc()
	if verb != verbWatch {
		c.durations.WithLabelValues(verb).Observe(time.Since(began).Seconds())
	} else if err == nil && response.StatusCode == http.StatusOK {
		open := c.watches.WithLabelValues(resource)
		open.Inc()
		response.Body = &watched{ReadCloser: response.Body, closed: sync.OnceFunc(open.Dec)}
	}
	return response, err
}

// WrappedRoundTripper lets client-go look through.
func (c *counted) WrappedRoundTripper() http.RoundTripper { return c.next }

// watched is the body of a watch.
type watched struct {
	io.ReadCloser
	closed func()
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.closed()
	return w.ReadCloser.Close()
}

const verbWatch = "watch"

// Request says what a request asks of an API server: get, list, watch, create, update, patch, apply or delete, and a resource as RBAC names
// it, for example pods/status. The resource is "none" where it is about no object, as /version is.
func Request(r *http.Request) (verb, resource string) {
	resource, named := resourceOf(r.URL.Path)
	switch r.Method {
	case http.MethodGet:
		switch {
		case strings.Contains(r.URL.RawQuery, "watch=true"):
			return verbWatch, resource
		case named || resource == "none":
			return "get", resource
		}
		return "list", resource
	case http.MethodPost:
		return "create", resource
	case http.MethodPut:
		return "update", resource
	case http.MethodPatch:
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/apply-patch") {
			return "apply", resource
		}
		return "patch", resource
	case http.MethodDelete:
		return "delete", resource
	}
	return "other", resource
}

// resourceOf reads the path of a request (k8s.io/apiserver/pkg/endpoints/request has all of its rules; clients need these). An API server
// may be behind a path of its own.
func resourceOf(path string) (resource string, named bool) {
	rest := ""
	if i := strings.Index(path, "/apis/"); i >= 0 {
		_, rest = cut(path[i+len("/apis/"):])
		_, rest = cut(rest)
	} else if i := strings.Index(path, "/api/v1/"); i >= 0 {
		rest = path[i+len("/api/v1/"):]
	}
	resource, rest = cut(rest)
	if resource == "" {
		return "none", false
	}
	name, rest := cut(rest)
	if resource == "namespaces" && rest != "" && rest != "status" && rest != "finalize" {
		resource, rest = cut(rest)
		name, rest = cut(rest)
	}
	if sub, _ := cut(rest); sub != "" {
		resource += "/" + sub
	}
	return resource, name != ""
}

// cut takes the first part of a path.
func cut(path string) (first, rest string) {
	first, rest, _ = strings.Cut(path, "/")
	return first, rest
}
