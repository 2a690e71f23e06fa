package usage

//lint:file-ignore SA1019 API servers find the pod behind a Service that they proxy by its Endpoints alone (1.36)

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	servicePort = 443

	// publishEvery is how often the Service is looked at although nothing has changed, publishAgain how soon after a failure.
	publishEvery = 5 * time.Minute
	publishAgain = 2 * time.Second
)

// wantedService has no selector: it leads to one process, the one that works, and not to those that stand by.
func wantedService() *coreac.ServiceApplyConfiguration {
	return coreac.Service(v1alpha1.UsageService, v1alpha1.SystemNamespace).WithSpec(coreac.ServiceSpec().
		WithType(corev1.ServiceTypeClusterIP).
		WithPorts(coreac.ServicePort().WithName(v1alpha1.UsagePort).WithProtocol(corev1.ProtocolTCP).WithPort(servicePort)))
}

// wantedEndpoints lead to a pod. They are Endpoints, old as these are, because the API server's proxy for Services reads no
// EndpointSlices (1.36), and only hands on to an address that a pod of the same namespace has. Kubernetes mirrors them.
func wantedEndpoints(pod string, at netip.AddrPort) *coreac.EndpointsApplyConfiguration {
	return coreac.Endpoints(v1alpha1.UsageService, v1alpha1.SystemNamespace).WithSubsets(coreac.EndpointSubset().
		WithAddresses(coreac.EndpointAddress().WithIP(at.Addr().String()).WithTargetRef(
			coreac.ObjectReference().WithKind("Pod").WithNamespace(v1alpha1.SystemNamespace).WithName(pod))).
		WithPorts(coreac.EndpointPort().WithName(v1alpha1.UsagePort).WithProtocol(corev1.ProtocolTCP).WithPort(int32(at.Port()))))
}

// publish keeps the Service until ctx ends.
func (s *Server) publish(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := s.ensureService(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("tenants do not find out what their pods use", zap.Error(err))
			timer.Reset(publishAgain)
		} else {
			timer.Reset(publishEvery)
		}
	}
}

// ensureService makes the Service and its endpoints, and writes what differs of what this manager wrote.
func (s *Server) ensureService(ctx context.Context) error {
	core, opts := s.cfg.Client.CoreV1(), metav1.ApplyOptions{FieldManager: v1alpha1.FieldManager, Force: true}
	services, endpoints := core.Services(v1alpha1.SystemNamespace), core.Endpoints(v1alpha1.SystemNamespace)

	service := wantedService()
	have, err := services.Get(ctx, v1alpha1.UsageService, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("get Service %s: %w", v1alpha1.UsageService, err)
	}
	if err != nil || !sameService(have, service) {
		if _, err := services.Apply(ctx, service, opts); err != nil {
			return fmt.Errorf("apply Service %s: %w", v1alpha1.UsageService, err)
		}
	}
	lead := wantedEndpoints(s.cfg.Pod, s.At())
	ends, err := endpoints.Get(ctx, v1alpha1.UsageService, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("get Endpoints %s: %w", v1alpha1.UsageService, err)
	}
	if err != nil || !sameEndpoints(ends, lead) {
		if _, err := endpoints.Apply(ctx, lead, opts); err != nil {
			return fmt.Errorf("apply Endpoints %s: %w", v1alpha1.UsageService, err)
		}
	}
	return nil
}

func sameService(have *corev1.Service, want *coreac.ServiceApplyConfiguration) bool {
	applied, err := coreac.ExtractService(have, v1alpha1.FieldManager)
	return err == nil && apiequality.Semantic.DeepEqual(applied, want)
}

func sameEndpoints(have *corev1.Endpoints, want *coreac.EndpointsApplyConfiguration) bool {
	applied, err := coreac.ExtractEndpoints(have, v1alpha1.FieldManager)
	return err == nil && apiequality.Semantic.DeepEqual(applied, want)
}

// At is where the Server listens.
func (s *Server) At() netip.AddrPort {
	at, _ := netip.ParseAddrPort(s.listener.Addr().String()) // of a listener that was made from one
	return at
}
