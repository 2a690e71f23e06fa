package kubelet

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
)

// How long answers of the API server are kept: the defaults of a kubelet.
const (
	tokenTTL   = 2 * time.Minute
	allowedTTL = 5 * time.Minute
	deniedTTL  = 30 * time.Second
	// reviewTimeout is what a review may take; the caller waits meanwhile.
	reviewTimeout = 10 * time.Second
)

// Access says who a caller of a node's kubelet API is and what he may do. virtual-kubelet's nodeutil.Auth is one too. Safe for
// concurrent use.
type Access interface {
	authenticator.Request
	authorizer.RequestAttributesGetter
	authorizer.Authorizer
}

// AuthConfig says with what callers are examined.
type AuthConfig struct {
	// Client asks this cluster's API server (TokenReview, SubjectAccessReview).
	Client kubernetes.Interface
	// ClientCA signs the certificates of callers; API servers show one. It may change. Nil: certificates count for nothing.
	ClientCA dynamiccertificates.CAContentProvider
}

// Auth examines the callers of all kubelet APIs of this process, so that they share its caches. Safe for concurrent use.
type Auth struct {
	authenticator authenticator.Request
	authorizer    authorizer.Authorizer
}

// NewAuth lets callers in as a kubelet does with --anonymous-auth=false, webhook authentication and webhook authorisation.
func NewAuth(config AuthConfig) (*Auth, error) {
	authn, _, err := authenticatorfactory.DelegatingAuthenticatorConfig{
		TokenAccessReviewClient:            config.Client.AuthenticationV1(),
		TokenAccessReviewTimeout:           reviewTimeout,
		WebhookRetryBackoff:                reviewBackoff(),
		CacheTTL:                           tokenTTL,
		ClientCertificateCAContentProvider: config.ClientCA,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("authenticate callers of kubelets: %w", err)
	}
	authz, err := authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: config.Client.AuthorizationV1(),
		AllowCacheTTL:             allowedTTL,
		DenyCacheTTL:              deniedTTL,
		WebhookRetryBackoff:       reviewBackoff(),
	}.New()
	if err != nil {
		return nil, fmt.Errorf("authorise callers of kubelets: %w", err)
	}
	return &Auth{authenticator: authn, authorizer: authz}, nil
}

// reviewBackoff is that of every server which delegates to an API server.
func reviewBackoff() *wait.Backoff {
	return &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 5}
}

// Node is the access to one node.
func (a *Auth) Node(name string) Access {
	return nodeAccess{Request: a.authenticator, authorizer: a.authorizer, node: name}
}

// nodeAccess asks for rights on one Node, as k8s.io/kubernetes/pkg/kubelet/server/auth.go does since KEP-2862.
type nodeAccess struct {
	authenticator.Request
	authorizer authorizer.Authorizer
	node       string
}

// GetRequestAttributes asks for the narrowest right that lets a request through.
func (a nodeAccess) GetRequestAttributes(u user.Info, r *http.Request) authorizer.Attributes {
	return authorizer.AttributesRecord{
		User: u, Verb: verb(r.Method), APIVersion: "v1", Resource: "nodes", Subresource: subresources(r.URL.Path)[0],
		Name: a.node, ResourceRequest: true, Path: r.URL.Path,
	}
}

// Authorize asks for the right, then for the next wider one.
func (a nodeAccess) Authorize(ctx context.Context, attributes authorizer.Attributes) (authorizer.Decision, string, error) {
	decision, reason, err := a.authorizer.Authorize(ctx, attributes)
	for _, wider := range subresources(attributes.GetPath())[1:] {
		if err != nil || decision == authorizer.DecisionAllow {
			break
		}
		decision, reason, err = a.authorizer.Authorize(ctx, authorizer.AttributesRecord{
			User: attributes.GetUser(), Verb: attributes.GetVerb(), APIVersion: attributes.GetAPIVersion(),
			Resource: attributes.GetResource(), Subresource: wider, Name: attributes.GetName(),
			ResourceRequest: true, Path: attributes.GetPath(),
		})
	}
	return decision, reason, err
}

// verb of the API that a method of HTTP stands for. Also an exec over WebSocket, which is a GET, is a get (Kubernetes 1.36).
func verb(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet:
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return ""
}

// subresources of nodes on which a right is needed for a path, any of them, the narrowest first.
func subresources(path string) []string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "pods", "runningpods":
		return []string{"pods", "proxy"}
	case "healthz", "configz":
		return []string{first, "proxy"}
	case "stats", "metrics", "checkpoint", "statusz":
		return []string{first}
	case "logs": // those of the node itself
		return []string{"log"}
	case "flagz":
		return []string{"configz"}
	}
	return []string{"proxy"}
}

// examined passes on only what the caller may ask.
func examined(access Access, log *zap.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok, err := access.AuthenticateRequest(r)
		if err != nil || !ok {
			log.Debug("caller is not known", zap.String("path", r.URL.Path), zap.Error(err))
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		attributes := access.GetRequestAttributes(who.User, r)
		decision, _, err := access.Authorize(r.Context(), attributes)
		if err != nil {
			log.Warn("cannot tell what a caller may do", zap.String("user", who.User.GetName()), zap.Error(err))
			http.Error(w, fmt.Sprintf("Authorization error (user=%s, verb=%s, resource=%s, subresource=%s)", who.User.GetName(),
				attributes.GetVerb(), attributes.GetResource(), attributes.GetSubresource()), http.StatusInternalServerError)
			return
		}
		if decision != authorizer.DecisionAllow {
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=%s, subresource(s)=%v)", who.User.GetName(),
				attributes.GetVerb(), attributes.GetResource(), subresources(r.URL.Path)), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
