package peering

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestOwnPods: nobody but pods may have an address in them.
func TestOwnPods(t *testing.T) {
	p := &v1alpha1.Peering{}
	if got := ownPods(p); got != nil {
		t.Errorf("without a network: %v", got)
	}
	p.Status.Tunnel = &v1alpha1.TunnelStatus{Local: &v1alpha1.ClusterNetwork{Ranges: []v1alpha1.NetworkRange{
		{CIDR: "10.245.0.0/16", Kind: v1alpha1.RangePods}, {CIDR: "192.168.1.0/24", Kind: v1alpha1.RangeNodes},
		{CIDR: "10.96.0.1/32", Kind: v1alpha1.RangeAPI}, {CIDR: "10.244.0.0/16", Kind: v1alpha1.RangePods},
	}}}
	if diff := cmp.Diff("[10.244.0.0/16 10.245.0.0/16]", fmt.Sprint(ownPods(p))); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
}
