package kubelet

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/certificate"
)

const (
	// complainAfter is how long there may be no certificate before the log says why, and then twice as long again and again,
	// up to complainAtMost.
	complainAfter  = 30 * time.Second
	complainAtMost = 15 * time.Minute
)

// errNoCertificate ends handshakes; the client sees an internal error, as TLS has no better word.
var errNoCertificate = errors.New("the kubelet API has no certificate yet: the log says why")

// CertificateConfig says where the certificate of all virtual nodes comes from: files, or the cluster's signer.
type CertificateConfig struct {
	// CertFile and KeyFile are PEM files, read again when they change. Both or none.
	CertFile, KeyFile string

	// Without files, what follows asks the signer kubernetes.io/kubelet-serving for one certificate, which speaks for Address.

	// Client reaches the API server.
	Client kubernetes.Interface
	// Name goes into the certificate's subject: system:node:Name.
	Name    string
	Address netip.Addr
	// Approve says whether the requests are approved here, and not by somebody else.
	Approve bool
	Log     *zap.Logger
}

// Certificate keeps a certificate valid. Safe for concurrent use.
type Certificate struct {
	cfg     CertificateConfig
	files   *dynamiccertificates.DynamicCertKeyPairContent // nil when the signer is asked
	manager atomic.Pointer[certificate.Manager]            // set while Run asks the signer
	request atomic.Pointer[string]                         // the name of the last one; nil before the first

	mu        sync.Mutex
	cert, key []byte           // guarded by mu; of the files, as parsed is
	parsed    *tls.Certificate // guarded by mu
}

// NewCertificate returns a certificate from files, which must be there and fit each other, or one that Run asks for.
func NewCertificate(cfg CertificateConfig) (*Certificate, error) {
	c := &Certificate{cfg: cfg}
	if cfg.CertFile == "" && cfg.KeyFile == "" {
		return c, nil
	}
	var err error
	if c.files, err = dynamiccertificates.NewDynamicServingContentFromFiles("kubelet API", cfg.CertFile, cfg.KeyFile); err != nil {
		return nil, fmt.Errorf("read the certificate of the kubelet API: %w", err)
	}
	return c, nil
}

// Run keeps the certificate valid until ctx ends. Call it once.
func (c *Certificate) Run(ctx context.Context) error {
	if c.files != nil {
		c.files.Run(ctx, 1)
		return nil
	}
	manager, err := certificate.NewManager(&certificate.Config{
		ClientsetFn: func(*tls.Certificate) (kubernetes.Interface, error) {
			return requestingClient{c.cfg.Client, c.requested}, nil
		},
		Template: &x509.CertificateRequest{
			Subject:     pkix.Name{CommonName: "system:node:" + c.cfg.Name, Organization: []string{"system:nodes"}},
			IPAddresses: []net.IP{c.cfg.Address.AsSlice()},
		},
		SignerName: certificatesv1.KubeletServingSignerName, GetUsages: certificate.DefaultKubeletServingGetUsages,
		CertificateStore: &memoryStore{}, Ctx: &ctx,
	})
	if err != nil {
		return fmt.Errorf("keep the certificate of the kubelet API: %w", err)
	}
	c.manager.Store(&manager)
	manager.Start()
	c.complain(ctx)
	return nil
}

// Get is the certificate for a new connection, as tls.Config.GetCertificate wants it. Shared: do not change it.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.files != nil {
		return c.parse(c.files.CurrentCertKeyContent())
	}
	if manager := c.manager.Load(); manager != nil {
		if now := (*manager).Current(); now != nil {
			return now, nil
		}
	}
	return nil, errNoCertificate
}

// parse reads PEM once, not with each connection.
func (c *Certificate) parse(cert, key []byte) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parsed != nil && bytes.Equal(c.cert, cert) && bytes.Equal(c.key, key) {
		return c.parsed, nil
	}
	parsed, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("parse the certificate of the kubelet API: %w", err)
	}
	c.cert, c.key, c.parsed = cert, key, &parsed
	return c.parsed, nil
}

// complain says in the log why there is no certificate, until ctx ends.
func (c *Certificate) complain(ctx context.Context) {
	wait := complainAfter
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if _, err := c.Get(nil); err == nil {
			wait = complainAfter
			continue
		}
		c.cfg.Log.Warn("the kubelet API has no certificate, so that nobody can connect", zap.String("why", c.why(ctx)))
		wait = min(2*wait, complainAtMost)
	}
}

func (c *Certificate) why(ctx context.Context) string {
	name := c.request.Load()
	if name == nil {
		return "no certificate signing request could be made: client-go says above why"
	}
	request, err := c.cfg.Client.CertificatesV1().CertificateSigningRequests().Get(ctx, *name, metav1.GetOptions{})
	if err != nil {
		return fmt.Sprintf("certificate signing request %s cannot be read: %s", *name, err)
	}
	return whyUnsigned(request)
}

// whyUnsigned says in a sentence what a request waits for.
func whyUnsigned(r *certificatesv1.CertificateSigningRequest) string {
	what, approved := "certificate signing request "+r.Name, false
	for _, condition := range r.Status.Conditions {
		switch condition.Type {
		case certificatesv1.CertificateDenied:
			return fmt.Sprintf("%s was denied: %s", what, condition.Message)
		case certificatesv1.CertificateFailed:
			return fmt.Sprintf("%s could not be signed: %s", what, condition.Message)
		case certificatesv1.CertificateApproved:
			approved = true
		}
	}
	switch {
	case !approved:
		return fmt.Sprintf("nobody has approved %s: kubectl certificate approve %s", what, r.Name)
	case len(r.Status.Certificate) == 0:
		return what + " is approved and not signed: does this cluster sign for " + r.Spec.SignerName + "? If not, give --kubelet-cert-file"
	}
	return what + " was signed, but the certificate has ended"
}

// memoryStore keeps a certificate as long as the process lives; a new one costs a request. It implements certificate.Store.
type memoryStore struct {
	current atomic.Pointer[tls.Certificate]
}

func (s *memoryStore) Current() (*tls.Certificate, error) {
	if now := s.current.Load(); now != nil {
		return now, nil
	}
	none := certificate.NoCertKeyError("no certificate yet")
	return nil, &none
}

func (s *memoryStore) Update(cert, key []byte) (*tls.Certificate, error) {
	fresh, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	s.current.Store(&fresh)
	return &fresh, nil
}
