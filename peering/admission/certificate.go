package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	certutil "k8s.io/client-go/util/cert"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// caKey is the key of the Secret with the authorities that the API server is to trust: of this certificate and the one before.
const caKey = "ca.crt"

// pair is a certificate with its key, and the authorities to trust. Never changed.
type pair struct {
	cert tls.Certificate
	ca   []byte // PEM
}

// certificate keeps the webhook's certificate in a Secret that all replicas share. It signs itself: nothing else has to be installed.
type certificate struct {
	client  kubernetes.Interface
	host    string // that the API server calls
	secrets *live.Cache[*corev1.Secret]
	current atomic.Pointer[pair]
	changed func() // called when current has changed
}

func newCertificate(client kubernetes.Interface, host string, changed func()) *certificate {
	c := &certificate{client: client, host: host, changed: changed}
	c.secrets = live.New(live.Options[*corev1.Secret]{
		Name: "certificate of the webhook",
		ListWatch: live.ListWatch(client, client.CoreV1().Secrets(v1alpha1.SystemNamespace), func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", v1alpha1.WebhookName).String()
		}),
		Changed: func(_, now *corev1.Secret) {
			if p, err := readPair(now); err == nil {
				c.current.Store(p)
				c.changed()
			}
		},
	})
	return c
}

// get is tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if p := c.current.Load(); p != nil {
		return &p.cert, nil
	}
	return nil, errors.New("the webhook has no certificate yet")
}

// readPair reads the Secret.
func readPair(s *corev1.Secret) (*pair, error) {
	if s == nil {
		return nil, errors.New("there is no Secret")
	}
	cert, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("read the certificate in Secret %s: %w", s.Name, err)
	}
	return &pair{cert: cert, ca: s.Data[caKey]}, nil
}

// usable says whether a certificate is for the host and two thirds of its life are not over.
func usable(p *pair, host string, now time.Time) bool {
	leaf, err := x509.ParseCertificate(p.cert.Certificate[0])
	if err != nil || leaf.VerifyHostname(host) != nil {
		return false
	}
	return now.Before(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3))
}

// ensure makes the certificate, or another in good time. The Secret's watch tells of it.
func (c *certificate) ensure(ctx context.Context, now time.Time) error {
	if !c.secrets.HasSynced() {
		return nil
	}
	have, exists := c.secrets.Get(v1alpha1.SystemNamespace, v1alpha1.WebhookName)
	before, err := readPair(have)
	if err == nil && usable(before, c.host, now) {
		return nil
	}
	data, err := makeCertificate(c.host)
	if err != nil {
		return err
	}
	secrets := c.client.CoreV1().Secrets(v1alpha1.SystemNamespace)
	if !exists {
		_, err = secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.WebhookName, Namespace: v1alpha1.SystemNamespace},
			Type:       corev1.SecretTypeTLS, Data: data,
		}, metav1.CreateOptions{FieldManager: v1alpha1.FieldManager})
	} else {
		data[caKey] = bytes.Join([][]byte{data[corev1.TLSCertKey], have.Data[corev1.TLSCertKey]}, nil)
		var patch []byte
		patch, err = json.Marshal(map[string]any{
			"metadata": map[string]any{"resourceVersion": have.ResourceVersion}, "data": data,
		})
		if err == nil {
			_, err = secrets.Patch(ctx, v1alpha1.WebhookName, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: v1alpha1.FieldManager})
		}
	}
	if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("write the certificate of the webhook: %w", err)
	}
	return nil
}

// makeCertificate makes a certificate for a host name or address that signs itself.
func makeCertificate(host string) (map[string][]byte, error) {
	var ips []net.IP
	if ip := net.ParseIP(host); ip != nil {
		ips = []net.IP{ip}
	}
	cert, key, err := certutil.GenerateSelfSignedCertKey(host, ips, nil)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of the webhook: %w", err)
	}
	return map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key, caKey: cert}, nil
}
