package view

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applydiscoveryv1 "k8s.io/client-go/applyconfigurations/discovery/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// EntranceName is the Service in the system namespace, without selector and of type LoadBalancer or NodePort, through
// which a slot is reached where gateways have no address that peers can reach. The administrator makes it, with a port
// named udp and, for TLS, one named tls.
func EntranceName(slot int) string { return fmt.Sprintf("spillway-gateway-%d", slot) }

// Enter makes this node the one endpoint of a slot's Service, if there is such a Service: packets must reach the holder
// of the slot and nobody else. It reports whether there is one. Idempotent; one read when nothing is to be done.
func (v *View) Enter(ctx context.Context, slot int, addr netip.Addr, port uint16) (bool, error) {
	name := EntranceName(slot)
	service, err := v.cfg.Client.CoreV1().Services(v1alpha1.SystemNamespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && len(service.Spec.Selector) > 0 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read Service %s: %w", name, err)
	}
	slices := v.cfg.Client.DiscoveryV1().EndpointSlices(v1alpha1.SystemNamespace)
	if old, err := slices.Get(ctx, name, metav1.GetOptions{}); err == nil && leadsTo(old, addr, port, service) {
		return true, nil
	}
	if _, err := slices.Apply(ctx, entrance(service, addr, port), metav1.ApplyOptions{FieldManager: v1alpha1.FieldManager, Force: true}); err != nil {
		return true, fmt.Errorf("write EndpointSlice %s: %w", name, err)
	}
	return true, nil
}

// entrance is the EndpointSlice of a slot's Service.
func entrance(service *corev1.Service, addr netip.Addr, port uint16) *applydiscoveryv1.EndpointSliceApplyConfiguration {
	family := discoveryv1.AddressTypeIPv4
	if addr.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	slice := applydiscoveryv1.EndpointSlice(service.Name, service.Namespace).WithAddressType(family).
		WithLabels(map[string]string{discoveryv1.LabelServiceName: service.Name, discoveryv1.LabelManagedBy: v1alpha1.FieldManager}).
		WithEndpoints(applydiscoveryv1.Endpoint().WithAddresses(addr.String()).
			WithConditions(applydiscoveryv1.EndpointConditions().WithReady(true)))
	for _, p := range service.Spec.Ports {
		slice.WithPorts(applydiscoveryv1.EndpointPort().WithName(p.Name).WithProtocol(p.Protocol).WithPort(int32(port)))
	}
	return slice
}

func leadsTo(slice *discoveryv1.EndpointSlice, addr netip.Addr, port uint16, service *corev1.Service) bool {
	if len(slice.Endpoints) != 1 || len(slice.Endpoints[0].Addresses) != 1 || slice.Endpoints[0].Addresses[0] != addr.String() ||
		len(slice.Ports) != len(service.Spec.Ports) {
		return false
	}
	for _, p := range slice.Ports {
		if p.Port == nil || *p.Port != int32(port) {
			return false
		}
	}
	return true
}
