package main

import (
	"testing"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/peering/view"
	"github.com/spillway-dev/spillway/provider"
)

// TestNames: the import table keeps some packages apart that must agree on a name.
func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		systemNamespace:    v1alpha1.SystemNamespace,
		leaseName:          v1alpha1.ControllerLease,
		provider.LabelPeer: v1alpha1.LabelPeer,
		provider.Taint:     v1alpha1.TaintVirtualNode,
		view.LabelGateway:  v1alpha1.LabelGateway,
		view.SecretName:    v1alpha1.TunnelSecret,
		view.LeaseName(3):  v1alpha1.GatewayPrefix + "3",
	} {
		if got != want {
			t.Errorf("%q is written where the API says %q", got, want)
		}
	}
	if mostGateways != v1alpha1.MaxSlots {
		t.Errorf("%d gateways at most, where the API has room for %d", mostGateways, v1alpha1.MaxSlots)
	}
}
