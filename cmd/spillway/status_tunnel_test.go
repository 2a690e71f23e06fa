package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func TestOverview_PrintTunnels(t *testing.T) {
	rtt := metav1.Duration{Duration: 12345 * time.Microsecond}
	peering := func(name string, up metav1.ConditionStatus, tunnel *v1alpha1.Tunnel) *v1alpha1.Peering {
		p := &v1alpha1.Peering{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PeeringSpec{Share: &v1alpha1.Share{}, Tunnel: tunnel}}
		p.Status.Conditions = []metav1.Condition{
			{Type: v1alpha1.ConditionTunnelUp, Status: up, Reason: v1alpha1.ReasonNoHandshake, Message: "no answer ever came"},
			{Type: v1alpha1.ConditionReady, Status: up, Reason: v1alpha1.ReasonNoHandshake, Message: "no answer ever came"},
		}
		return p
	}
	good := peering("cloud", metav1.ConditionTrue, &v1alpha1.Tunnel{
		Aliases: []v1alpha1.Alias{{Range: "10.244.0.0/16", As: "100.64.0.0/16"}, {Range: "10.9.0.0/24", As: "10.9.0.0/24"}},
		Remote:  &v1alpha1.ClusterNetwork{Aliases: []v1alpha1.Alias{{Range: "10.244.0.0/16", As: "100.71.0.0/16"}}},
	})
	good.Status.Tunnel = &v1alpha1.TunnelStatus{Paths: []v1alpha1.TunnelPath{
		{Slot: 0, Node: "gate-1", Up: true, Transport: "UDP", Endpoint: "198.51.100.7:51820", RTT: &rtt, MTU: 1420, ReceivedBytes: 3 << 30, SentBytes: 900},
		{Slot: 1, Node: "gate-2", Reason: v1alpha1.ReasonProbesLost, LossPercent: 100},
	}}
	bad := peering("west", metav1.ConditionFalse, &v1alpha1.Tunnel{Mode: v1alpha1.TunnelModeTunnel})
	apart := peering("apart", metav1.ConditionTrue, nil)
	o := overview{Context: "home", ControllerAlive: true}
	for _, p := range []*v1alpha1.Peering{good, bad, apart} {
		o.Peerings = append(o.Peerings, describe(p, nil, nil, nil))
	}
	var text strings.Builder
	if err := o.print(&text, false); err != nil {
		t.Fatal(err)
	}
	want := `NAME    ROLE    READY   NODES   PODS          CPU USED/OFFERED   MEMORY USED/OFFERED   SINCE   TUNNEL
cloud   share   True    -       0/0 running   0/0                0/0                   -       up
west    share   False   -       0/0 running   0/0                0/0                   -       down
apart   share   True    -       0/0 running   0/0                0/0                   -       -

TUNNEL   SLOT   NODE     UP               TRANSPORT   ENDPOINT             RTT       LOSS   MTU    RECEIVED   SENT   SINCE
cloud    0      gate-1   yes              UDP         198.51.100.7:51820   12.3 ms   0%     1420   3.0GiB     900B   -
cloud    1      gate-2   no, ProbesLost   -           -                    -         100%   -      0B         0B     -
cloud: its addresses are seen here as: 10.244.0.0/16 → 100.64.0.0/16
cloud: our addresses are seen there as: 10.244.0.0/16 → 100.71.0.0/16

west: TunnelUp is False (NoHandshake): no answer ever came.
  → Open UDP 51820 (or TCP 51820) to the gateways of one of the clusters. ` + "`spillway doctor west --remote-context PEER` walks the path and names the hop that fails." + `
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestByteCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1 << 10: "1.0KiB", 5 << 20: "5.0MiB", 1 << 40: "1.0TiB", 3 << 40: "3.0TiB"} {
		if got := byteCount(n); got != want {
			t.Errorf("byteCount(%d) = %s, want %s", n, got, want)
		}
	}
}
