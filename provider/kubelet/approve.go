package kubelet

import (
	"context"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"
)

const (
	// approveEvery and approveWithin are how often and how long a request is tried to be approved: the certificate manager makes
	// no other one for a quarter of an hour.
	approveEvery  = 2 * time.Second
	approveWithin = 5 * time.Minute
)

// requested takes a request that the certificate manager has just made. Approving exactly what was made here needs no look at
// the requests of others, which a watch of the signer's requests would bring.
func (c *Certificate) requested(ctx context.Context, request *certificatesv1.CertificateSigningRequest) {
	c.request.Store(&request.Name)
	if !c.cfg.Approve {
		return
	}
	approved := request.DeepCopy()
	approved.Status.Conditions = append(approved.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "SpillwayApproved",
		Message: "made by spillwayd for the virtual nodes, and approved by it", LastUpdateTime: metav1.Now(),
	})
	var last error
	err := wait.PollUntilContextTimeout(ctx, approveEvery, approveWithin, true, func(ctx context.Context) (bool, error) {
		_, last = c.cfg.Client.CertificatesV1().CertificateSigningRequests().
			UpdateApproval(ctx, request.Name, approved, metav1.UpdateOptions{FieldManager: fieldManager})
		if apierrors.IsForbidden(last) || apierrors.IsConflict(last) {
			return true, nil // no right to, or somebody else was faster
		}
		return last == nil, nil
	})
	if err != nil || last != nil {
		c.cfg.Log.Warn("certificate signing request not approved", zap.String("name", request.Name), zap.NamedError("error", last))
	}
}

// fieldManager is under which name objects are changed.
const fieldManager = "spillway"

// requestingClient is a client that tells of the certificate signing requests that are made with it.
type requestingClient struct {
	kubernetes.Interface
	requested func(context.Context, *certificatesv1.CertificateSigningRequest)
}

func (c requestingClient) CertificatesV1() certificatesclient.CertificatesV1Interface {
	return requestingAPI{c.Interface.CertificatesV1(), c.requested}
}

// IsWatchListSemanticsUnSupported hands on what client-go's fakes say of themselves; clients of API servers say nothing.
func (c requestingClient) IsWatchListSemanticsUnSupported() bool {
	inner, ok := c.Interface.(interface{ IsWatchListSemanticsUnSupported() bool })
	return ok && inner.IsWatchListSemanticsUnSupported()
}

type requestingAPI struct {
	certificatesclient.CertificatesV1Interface
	requested func(context.Context, *certificatesv1.CertificateSigningRequest)
}

func (a requestingAPI) CertificateSigningRequests() certificatesclient.CertificateSigningRequestInterface {
	return requestingRequests{a.CertificatesV1Interface.CertificateSigningRequests(), a.requested}
}

type requestingRequests struct {
	certificatesclient.CertificateSigningRequestInterface
	requested func(context.Context, *certificatesv1.CertificateSigningRequest)
}

// Create makes a request and tells of it.
func (r requestingRequests) Create(ctx context.Context, request *certificatesv1.CertificateSigningRequest, o metav1.CreateOptions) (*certificatesv1.CertificateSigningRequest, error) {
	made, err := r.CertificateSigningRequestInterface.Create(ctx, request, o)
	if err == nil {
		r.requested(ctx, made)
	}
	return made, err
}
