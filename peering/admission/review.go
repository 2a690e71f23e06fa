package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// maxReview is the largest review that is read, in bytes: a pod may have 3 MiB at the API server.
const maxReview = 8 << 20

// Policies answers which policies and Migrations a namespace has.
type Policies interface {
	// Synced says whether all are known. Nothing is answered before.
	Synced() bool
	Set(namespace string) policy.Set
	// Governed returns those of all namespaces in which pods are steered.
	Governed() map[string]policy.Set
	// Notify calls changed when they have changed, until stop is called.
	Notify(changed func(namespace string)) (stop func())
}

// operation is one of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// handle answers AdmissionReviews of new pods and new policies.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	if !s.cfg.Policies.Synced() {
		reviews.WithLabelValues("other", "not_ready").Inc()
		http.Error(w, "the OffloadPolicies and Migrations are not known yet", http.StatusServiceUnavailable)
		return
	}
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(io.LimitReader(r.Body, maxReview)).Decode(&review); err != nil || review.Request == nil {
		http.Error(w, fmt.Sprintf("send an AdmissionReview (admission.k8s.io/v1): %v", err), http.StatusBadRequest)
		return
	}
	began := time.Now()
	response, err := s.respond(r.Context(), review.Request)
	decided(review.Request, response, began)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	review.Request, review.Response = nil, response
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // the API server that does not take it asks again
}

// respond allows everything: pods changed where a policy or a Migration says so, policies once pods of their namespace are steered.
func (s *Server) respond(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	response := &admissionv1.AdmissionResponse{UID: request.UID, Allowed: true}
	if request.Operation != admissionv1.Create || request.SubResource != "" {
		return response, nil
	}
	resource := schema.GroupResource{Group: request.Resource.Group, Resource: request.Resource.Resource}
	switch resource {
	case v1alpha1.OffloadPolicyResource.GroupResource():
		if request.DryRun == nil || !*request.DryRun {
			s.announce(ctx, request.Namespace)
		}
		return response, nil
	case corev1.Resource("pods"):
		s.awaitAnnounced(ctx, request.Namespace)
		return steer(s.cfg.Policies, request, response)
	}
	return response, nil
}

// steer changes a pod where a policy or a Migration says so.
func steer(policies Policies, request *admissionv1.AdmissionRequest, response *admissionv1.AdmissionResponse) (*admissionv1.AdmissionResponse, error) {
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return nil, fmt.Errorf("read the pod: %w", err)
	}
	steered, ok := policies.Set(request.Namespace).Steer(&pod)
	if !ok {
		return response, nil
	}
	patch, err := json.Marshal(operations(&pod, steered))
	if err != nil {
		return nil, fmt.Errorf("write the patch: %w", err)
	}
	kind := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = patch, &kind
	return response, nil
}

// operations turn the pod into the steered one.
func operations(pod *corev1.Pod, s policy.Steered) []operation {
	var out []operation
	if len(s.Tolerations) > 0 {
		out = append(out, operation{"add", "/spec/tolerations", s.Tolerations})
	}
	if s.Affinity != nil {
		out = append(out, operation{"add", "/spec/affinity", s.Affinity})
	}
	if s.Gates != nil {
		out = append(out, operation{"add", "/spec/schedulingGates", s.Gates})
	}
	annotations := map[string]string{}
	maps.Copy(annotations, pod.Annotations)
	maps.Copy(annotations, s.Annotations)
	if s.Policy != "" {
		annotations[v1alpha1.AnnotationPolicy] = s.Policy
	}
	return append(out, operation{"add", "/metadata/annotations", annotations})
}
