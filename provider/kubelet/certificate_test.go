package kubelet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	certutil "k8s.io/client-go/util/cert"
)

// signer signs requests as soon as they are approved, as kube-controller-manager does.
type signer struct {
	life    time.Duration
	signed  atomic.Int32
	request atomic.Pointer[certificatesv1.CertificateSigningRequest] // the last one
	failed  atomic.Pointer[error]
}

func (s *signer) react(a clienttesting.Action) (bool, runtime.Object, error) {
	if a.GetSubresource() != "approval" {
		return false, nil, nil
	}
	request := a.(clienttesting.UpdateAction).GetObject().(*certificatesv1.CertificateSigningRequest)
	s.request.Store(request.DeepCopy())
	cert, err := sign(request.Spec.Request, s.life)
	if err != nil {
		s.failed.Store(&err)
		return true, nil, err
	}
	request.Status.Certificate = cert
	s.signed.Add(1)
	return false, nil, nil // the tracker keeps it
}

func sign(request []byte, life time.Duration) ([]byte, error) {
	block, _ := pem.Decode(request)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: csr.Subject, IPAddresses: csr.IPAddresses,
		NotBefore: now.Add(-30 * time.Second), NotAfter: now.Add(life),
	}, ca, csr.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: certutil.CertificateBlockType, Bytes: der}), nil
}

// namingClient is a fake that gives requests names, as an API server does. It has the last one only: it knows no field selectors.
func namingClient() *fake.Clientset {
	client, made := fake.NewClientset(), atomic.Int32{}
	client.PrependReactor("create", "certificatesigningrequests", func(a clienttesting.Action) (bool, runtime.Object, error) {
		o := a.(clienttesting.CreateAction).GetObject().(*certificatesv1.CertificateSigningRequest)
		n := made.Add(1)
		o.Name = fmt.Sprint(o.GenerateName, n)
		if n == 1 {
			return false, nil, nil
		}
		requests := certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests")
		return false, nil, client.Tracker().Delete(requests, "", fmt.Sprint(o.GenerateName, n-1))
	})
	return client
}

// asked is a Certificate that asks client's signer, running until the test ends.
func asked(t *testing.T, client *fake.Clientset, approve bool) *Certificate {
	t.Helper()
	c, err := NewCertificate(CertificateConfig{
		Client: client, Name: "spillway", Address: netip.MustParseAddr("192.0.2.7"), Approve: approve, Log: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestCertificate_FromTheSigner(t *testing.T) {
	client, s := namingClient(), &signer{life: time.Hour}
	client.PrependReactor("update", "certificatesigningrequests", s.react)
	c := asked(t, client, true)
	eventually(t, func() bool { _, err := c.Get(nil); return err == nil }, func() string { return "no certificate came" })
	cert, err := c.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.Leaf.VerifyHostname("192.0.2.7"); err != nil {
		t.Error(err)
	}
	spec := s.request.Load().Spec
	if spec.SignerName != "kubernetes.io/kubelet-serving" || cert.Leaf.Subject.String() != "CN=system:node:spillway,O=system:nodes" {
		t.Errorf("asked %s for %s, which that signer does not sign", spec.SignerName, cert.Leaf.Subject)
	}
}

// TestCertificate_IsRenewed before it ends: what is signed is old, and lives for seconds.
func TestCertificate_IsRenewed(t *testing.T) {
	client, s := namingClient(), &signer{life: 8 * time.Second}
	client.PrependReactor("update", "certificatesigningrequests", s.react)
	c := asked(t, client, true)
	eventually(t, func() bool { _, err := c.Get(nil); return err == nil }, func() string { return "no certificate came" })
	first, err := c.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		now, err := c.Get(nil)
		if err != nil {
			t.Fatal("there was no certificate between two")
		}
		return now.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0
	}, func() string { return "the certificate was not renewed" })
}

// TestCertificate_NotApproved: with --kubelet-approve=false, or without the right to approve, somebody else has to do it. Requests do not pile up.
func TestCertificate_NotApproved(t *testing.T) {
	for name, row := range map[string]struct{ approve bool }{"not wanted": {false}, "not allowed": {true}} {
		t.Run(name, func(t *testing.T) {
			client := namingClient()
			client.PrependReactor("update", "certificatesigningrequests", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewForbidden(certificatesv1.Resource("certificatesigningrequests"), "", errors.New("no"))
			})
			c := asked(t, client, row.approve)
			eventually(t, func() bool { return c.request.Load() != nil && watched(client) }, func() string { return "nothing was asked for" })
			if why := c.why(t.Context()); !strings.Contains(why, "kubectl certificate approve "+*c.request.Load()) {
				t.Errorf("the log says %q", why)
			}
			if _, err := c.Get(nil); !errors.Is(err, errNoCertificate) {
				t.Errorf("error %v", err)
			}
			creates := 0
			for _, a := range client.Actions() {
				if a.Matches("create", "certificatesigningrequests") {
					creates++
				}
			}
			if creates != 1 {
				t.Errorf("%d requests were made, want 1", creates)
			}
		})
	}
}

// watched says whether somebody waits for requests to be signed.
func watched(client *fake.Clientset) bool {
	for _, a := range client.Actions() {
		if a.Matches("watch", "certificatesigningrequests") {
			return true
		}
	}
	return false
}

func TestWhyUnsigned(t *testing.T) {
	condition := func(kind certificatesv1.RequestConditionType, message string) certificatesv1.CertificateSigningRequestStatus {
		return certificatesv1.CertificateSigningRequestStatus{
			Conditions: []certificatesv1.CertificateSigningRequestCondition{{Type: kind, Message: message}},
		}
	}
	for name, row := range map[string]struct {
		status certificatesv1.CertificateSigningRequestStatus
		want   string
	}{
		"nobody approves": {certificatesv1.CertificateSigningRequestStatus{}, "nobody has approved certificate signing request csr-1: kubectl certificate approve csr-1"},
		"denied":          {condition(certificatesv1.CertificateDenied, "not today"), "certificate signing request csr-1 was denied: not today"},
		"refused":         {condition(certificatesv1.CertificateFailed, "bad subject"), "certificate signing request csr-1 could not be signed: bad subject"},
		"nobody signs": {condition(certificatesv1.CertificateApproved, ""), "certificate signing request csr-1 is approved and not signed: " +
			"does this cluster sign for kubernetes.io/kubelet-serving? If not, give --kubelet-cert-file"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &certificatesv1.CertificateSigningRequest{Status: row.status}
			r.Name, r.Spec.SignerName = "csr-1", certificatesv1.KubeletServingSignerName
			if got := whyUnsigned(r); got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

func TestCertificate_FromFiles(t *testing.T) {
	folder := t.TempDir()
	certFile, keyFile := filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	write := func() {
		cert, key, err := certutil.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
		if err := errors.Join(err, os.WriteFile(certFile, cert, 0o600), os.WriteFile(keyFile, key, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewCertificate(CertificateConfig{CertFile: certFile, KeyFile: keyFile}); err == nil {
		t.Error("files that are not there are taken")
	}
	write()
	c, err := NewCertificate(CertificateConfig{CertFile: certFile, KeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() { cancel(); <-done }()
	first, err := c.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.Get(nil); err != nil || again != first {
		t.Error("the same files are parsed again")
	}
	write()
	eventually(t, func() bool { now, err := c.Get(nil); return err == nil && now != first }, func() string { return "files that changed were not read" })
}
