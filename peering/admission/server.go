package admission

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	registrationac "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	metaac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// path of the webhook.
	path = "/steer"
	// answerWithin is how long the API server waits for an answer, in seconds.
	answerWithin = 5
	// registerEvery is how often the registration is looked at although nothing has changed.
	registerEvery = 5 * time.Minute
	// registerAgain is how soon after a failure.
	registerAgain = 2 * time.Second
	shutdown      = 5 * time.Second
)

// Config says where the webhook is reached.
type Config struct {
	Client   kubernetes.Interface
	Policies Policies
	// Address is where it listens, for example 127.0.0.1:0.
	Address string
	// URL is how the API server reaches it, for a process beside the cluster. Empty with InCluster: by the Service WebhookName. Empty
	// without: by the address it listens on.
	URL       string
	InCluster bool
	Log       *zap.Logger
}

// Server answers the API server's questions about new pods. Make it with New, then Run it once.
type Server struct {
	cfg      Config
	listener net.Listener
	url      *url.URL // nil: by Service
	cert     *certificate
	changed  chan struct{} // has one when policies or the certificate have changed

	mu         sync.Mutex
	announced  map[string]time.Time // guarded by mu; namespaces whose first policy is being made, until then at the latest
	registered map[string]time.Time // guarded by mu; since when the API server is to ask about namespaces
}

// New listens. Nothing is answered before Run. An address that is taken is an error.
func New(cfg Config) (*Server, error) {
	listener, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for the webhook: %w", err)
	}
	s := &Server{cfg: cfg, listener: listener, changed: make(chan struct{}, 1), announced: map[string]time.Time{}}
	host := v1alpha1.WebhookName + "." + v1alpha1.SystemNamespace + ".svc"
	if cfg.URL != "" || !cfg.InCluster {
		at := cfg.URL
		if at == "" {
			at = "https://" + listener.Addr().String()
		}
		if s.url, err = url.Parse(at); err != nil || s.url.Scheme != "https" || s.url.Hostname() == "" {
			_ = listener.Close()
			return nil, fmt.Errorf("the URL of the webhook must be https://HOST:PORT, not %q", at)
		}
		s.url.Path = path
		host = s.url.Hostname()
	}
	s.cert = newCertificate(cfg.Client, host, s.wake)
	return s, nil
}

func (s *Server) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Ready says whether the API server's questions can be answered: the policies are known, and there is a certificate.
func (s *Server) Ready() bool { return s.cert.current.Load() != nil && s.cfg.Policies.Synced() }

// Run answers until ctx ends, and those who have asked by then.
func (s *Server) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { s.cert.secrets.Run(ctx) })
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+path, s.handle)
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: answerWithin * time.Second, ErrorLog: zap.NewStdLog(s.cfg.Log.Named("webhook")),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.cert.get},
	}
	wg.Go(func() {
		<-ctx.Done()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdown)
		defer cancel()
		_ = server.Shutdown(bounded) // who takes longer asks another replica
	})
	if err := server.ServeTLS(s.listener, "", ""); ctx.Err() == nil {
		s.cfg.Log.Error("the webhook no longer answers", zap.Error(err))
	}
}

// Register keeps the certificate and the registration until ctx ends. One process at a time may run it. The registration stays: other
// replicas go on answering, and a restart finds it.
func (s *Server) Register(ctx context.Context) {
	defer s.cfg.Policies.Notify(func(string) { s.wake() })()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var before string
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			before = "" // somebody may have changed it
		case <-s.changed:
		}
		err := s.cert.ensure(ctx, time.Now())
		if err == nil {
			before, err = s.register(ctx, before)
		}
		if err != nil {
			s.cfg.Log.Warn("webhook not registered", zap.Error(err))
		}
		if err != nil || before == "" {
			timer.Reset(registerAgain)
		} else {
			timer.Reset(registerEvery)
		}
	}
}

// register makes the registration, which comes with the installation and is empty at first, be as the policies say, unless that is what before, a result of it, was for. Empty: not yet.
func (s *Server) register(ctx context.Context, before string) (string, error) {
	cert := s.cert.current.Load()
	if cert == nil || !s.cfg.Policies.Synced() {
		return "", nil
	}
	ignore, fail := s.namespaces()
	now := fmt.Sprintf("%q %q %s", ignore, fail, cert.ca)
	if now == before {
		return now, nil
	}
	registrations := s.cfg.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	want := registrationac.MutatingWebhookConfiguration(v1alpha1.WebhookName).WithWebhooks(s.policies(cert.ca))
	if len(ignore) > 0 {
		want.WithWebhooks(s.pods("steer.spillway.dev", ignore, admissionregistrationv1.Ignore, cert.ca))
	}
	if len(fail) > 0 {
		want.WithWebhooks(s.pods("steer-or-wait.spillway.dev", fail, admissionregistrationv1.Fail, cert.ca))
	}
	if _, err := registrations.Apply(ctx, want, metav1.ApplyOptions{FieldManager: v1alpha1.FieldManager, Force: true}); err != nil {
		return "", fmt.Errorf("apply MutatingWebhookConfiguration %s: %w", v1alpha1.WebhookName, err)
	}
	s.note(slices.Concat(ignore, fail), time.Now())
	return now, nil
}

// note remembers since when namespaces are registered.
func (s *Server) note(namespaces []string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.registered
	s.registered = make(map[string]time.Time, len(namespaces))
	for _, name := range namespaces {
		s.registered[name] = now
		if since, known := before[name]; known {
			s.registered[name] = since
		}
	}
}

// Steers says whether the API server asks about the new pods of a namespace: it is registered, and was given the time to take note of
// it. Only the process that Registers knows. Pods that are moved before may come back as they were.
func (s *Server) Steers(namespace string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, known := s.registered[namespace]
	return known && time.Since(since) >= settle
}

// namespaces lists, sorted, those in which pods are steered, by what becomes of pods that are not steered.
func (s *Server) namespaces() (ignore, fail []string) {
	governed := s.cfg.Policies.Governed()
	for _, name := range s.expected(time.Now()) {
		if _, known := governed[name]; !known {
			ignore = append(ignore, name)
		}
	}
	for name, set := range governed {
		if set.Strict() {
			fail = append(fail, name)
		} else {
			ignore = append(ignore, name)
		}
	}
	slices.Sort(ignore)
	slices.Sort(fail)
	return ignore, fail
}

// policies asks about new policies: see announce. Spillway being away does not keep anybody from making one.
func (s *Server) policies(ca []byte) *registrationac.MutatingWebhookApplyConfiguration {
	return s.webhook("announce.spillway.dev", ca).WithFailurePolicy(admissionregistrationv1.Ignore).
		WithSideEffects(admissionregistrationv1.SideEffectClassNoneOnDryRun).
		WithRules(registrationac.RuleWithOperations().WithOperations(admissionregistrationv1.Create).
			WithAPIGroups(v1alpha1.GroupName).WithAPIVersions(v1alpha1.GroupVersion.Version).
			WithResources(v1alpha1.OffloadPolicyResource.Resource))
}

// pods asks about the new pods of these namespaces and no others, but for those that are closed.
func (s *Server) pods(name string, namespaces []string, failure admissionregistrationv1.FailurePolicyType, ca []byte) *registrationac.MutatingWebhookApplyConfiguration {
	return s.webhook(name, ca).WithFailurePolicy(failure).
		WithSideEffects(admissionregistrationv1.SideEffectClassNone).
		WithRules(registrationac.RuleWithOperations().WithOperations(admissionregistrationv1.Create).
			WithAPIGroups(corev1.GroupName).WithAPIVersions("v1").WithResources("pods")).
		WithNamespaceSelector(metaac.LabelSelector().WithMatchExpressions(
			metaac.LabelSelectorRequirement().WithKey(corev1.LabelMetadataName).WithOperator(metav1.LabelSelectorOpIn).WithValues(namespaces...),
			metaac.LabelSelectorRequirement().WithKey(v1alpha1.LabelOffload).WithOperator(metav1.LabelSelectorOpNotIn).WithValues(v1alpha1.OffloadDisabled)))
}

func (s *Server) webhook(name string, ca []byte) *registrationac.MutatingWebhookApplyConfiguration {
	client := registrationac.WebhookClientConfig().WithCABundle(ca...)
	if s.url != nil {
		client.WithURL(s.url.String())
	} else {
		client.WithService(registrationac.ServiceReference().WithNamespace(v1alpha1.SystemNamespace).WithName(v1alpha1.WebhookName).WithPath(path))
	}
	return registrationac.MutatingWebhook().WithName(name).
		WithClientConfig(client).WithTimeoutSeconds(answerWithin).WithAdmissionReviewVersions("v1")
}
