package peering

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/oauth2"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// tokenSeconds is the life asked for a token; the API server may grant less.
	tokenSeconds = 3600
	// tokenTimeout bounds the request for one.
	tokenTimeout = 10 * time.Second
)

// tokens yields the short-lived token of this cluster at a peer and renews it before it ends: with the token itself
// while that is valid, with the long-lived renewal credential otherwise, so that an outage longer than a token's life
// locks nobody out. It implements transport.ResettableTokenSource. Safe for concurrent use.
type tokens struct {
	ctx       context.Context // of the link: oauth2.TokenSource has none of its own
	config    *rest.Config    // how to reach the peer, without credential
	namespace string          // of the identity there
	renewal   string          // the long-lived credential

	mu      sync.Mutex
	current *oauth2.Token // guarded by mu; nil before the first
	fetched time.Time     // guarded by mu
}

// Token returns a token that is valid now. The error is that of the peer's API server.
func (t *tokens) Token() (*oauth2.Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.current != nil && !renewalDue(t.fetched, t.current.Expiry, now) {
		return t.current, nil
	}
	fresh, err := t.renew(now)
	if err != nil {
		if t.current != nil && now.Before(t.current.Expiry) {
			return t.current, nil // still good; tried again with the next request
		}
		return nil, err
	}
	t.current, t.fetched = fresh, now
	return fresh, nil
}

// renewalDue says whether four fifths of a token's life have passed.
func renewalDue(fetched, expiry, now time.Time) bool {
	return now.Sub(fetched) >= expiry.Sub(fetched)*4/5
}

// renew asks for a new token, as the identity itself if possible. mu is held.
func (t *tokens) renew(now time.Time) (*oauth2.Token, error) {
	if t.current != nil && now.Before(t.current.Expiry) {
		fresh, err := t.request(t.current.AccessToken)
		if err == nil || !apierrors.IsUnauthorized(err) {
			return fresh, err
		}
	}
	return t.request(t.renewal)
}

// request asks for a token with the given credential (TokenRequest, KEP-1205).
func (t *tokens) request(credential string) (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(t.ctx, tokenTimeout)
	defer cancel()
	config := rest.CopyConfig(t.config)
	config.BearerToken = credential
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	seconds := int64(tokenSeconds)
	answer, err := client.CoreV1().ServiceAccounts(t.namespace).CreateToken(ctx, accountConsumer,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("request token for ServiceAccount %s/%s: %w", t.namespace, accountConsumer, err)
	}
	return &oauth2.Token{AccessToken: answer.Status.Token, Expiry: answer.Status.ExpirationTimestamp.Time}, nil
}

// ResetTokenOlderThan forgets a token that the peer refused.
func (t *tokens) ResetTokenOlderThan(moment time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fetched.Before(moment) {
		t.current = nil
	}
}
