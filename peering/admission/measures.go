package admission

import (
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/spillway-dev/spillway/internal/metrics"
)

var (
	reviews = metrics.NewCounter(metrics.Spec{
		Name: "spillway_webhook_reviews_total",
		Help: "Questions of the API server about new objects: pods are steered or left alone, policies are announced or left alone; not_ready " +
			"while policies are not known, invalid when it cannot be read.",
		In: metrics.Controller, Labels: []string{"resource", "decision"},
	})
	reviewDuration = metrics.NewHistogram(metrics.Spec{
		Name: "spillway_webhook_duration_seconds",
		Help: "How long an answer to the API server took. The first policy of a namespace takes as long as the API server needs to ask about its pods.",
		In:   metrics.Controller, Labels: []string{"resource"}, Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	})
)

// decided counts an answer.
func decided(request *admissionv1.AdmissionRequest, response *admissionv1.AdmissionResponse, began time.Time) {
	resource, decision := "other", "left_alone"
	switch request.Resource.Resource {
	case "pods", "offloadpolicies":
		resource = request.Resource.Resource
	}
	switch {
	case response == nil:
		decision = "invalid"
	case len(response.Patch) > 0:
		decision = "steered"
	case resource == "offloadpolicies":
		decision = "announced"
	}
	reviews.WithLabelValues(resource, decision).Inc()
	reviewDuration.WithLabelValues(resource).Observe(time.Since(began).Seconds())
}
