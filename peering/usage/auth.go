package usage

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/token/cache"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/webhook"
	"k8s.io/client-go/kubernetes"
)

const (
	// tokenHeader carries what Authorization would: the API server takes that away from requests that it hands on.
	tokenHeader = "Spillway-Authorization"
	// account is the ServiceAccount that a tenant acts as, in the namespace of its identity.
	account = "consumer"

	// reviewTimeout bounds one TokenReview; a good token is reviewed again after goodFor, a bad one after badFor.
	reviewTimeout = 3 * time.Second
	goodFor       = time.Minute
	badFor        = 10 * time.Second
)

// newAuthenticator reviews tokens at the API server, and remembers what it said.
func newAuthenticator(client kubernetes.Interface) (authenticator.Token, error) {
	review, err := webhook.NewFromInterface(client.AuthenticationV1(), nil,
		wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 2}, reviewTimeout, webhook.AuthenticatorMetrics{
			RecordRequestTotal:   func(context.Context, string) {},
			RecordRequestLatency: func(context.Context, string, float64) {},
		})
	if err != nil {
		return nil, err
	}
	return cache.New(review, false, goodFor, badFor), nil
}

// refusal is an answer to somebody who gets nothing.
type refusal struct {
	status  int
	message string
}

// tenantOf gives the namespaces of the tenant that asks, or says why there are none.
func (s *Server) tenantOf(r *http.Request) (map[string]bool, *refusal) {
	token, ok := bearer(r.Header)
	if !ok {
		return nil, &refusal{http.StatusUnauthorized, "give a tenant's token: the header " + tokenHeader + " must be Bearer and the token, once"}
	}
	if !s.scraper.source.Synced() {
		return nil, &refusal{http.StatusServiceUnavailable, "spillwayd is still reading what is in its cluster"}
	}
	answer, ok, err := s.tokens.AuthenticateToken(r.Context(), token)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, &refusal{http.StatusServiceUnavailable, "the API server did not review the token in time"}
	case err != nil || !ok:
		return nil, &refusal{http.StatusUnauthorized, "the API server does not know this token, or it has expired"}
	}
	namespace, name, err := serviceaccount.SplitUsername(answer.User.GetName())
	if err == nil && name == account {
		if namespaces, ok := s.scraper.source.Tenant(namespace); ok {
			return namespaces, nil
		}
	}
	return nil, &refusal{http.StatusForbidden, answer.User.GetName() + " is no tenant of this cluster"}
}

// bearer reads the token.
func bearer(h http.Header) (string, bool) {
	values := h.Values(tokenHeader)
	if len(values) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}
