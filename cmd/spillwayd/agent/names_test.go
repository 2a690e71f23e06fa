package agent

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/spillway-dev/spillway/peering/view"
	"github.com/spillway-dev/spillway/tunnel/names"
)

func lending() view.Snapshot {
	return view.Snapshot{
		Nodes: []view.Node{{Name: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24")}}},
		Pods:  []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		DNS:   []netip.AddrPort{netip.MustParseAddrPort("10.2.0.10:53")},
		Peers: []view.Peer{
			{Name: "east", Shares: true, Namespaces: map[string]string{"app": "app-1"}, Twins: []netip.Addr{netip.MustParseAddr("10.1.1.5")}},
			{Name: "far", Shares: true, Namespaces: map[string]string{"app": "app-2"}, Twins: []netip.Addr{netip.MustParseAddr("10.1.1.6")}},
			{Name: "west"},
		},
	}
}

func TestNamesTable(t *testing.T) {
	table, parts := namesTable(lending(), nil)
	if len(parts) != 2 || !slices.Equal(table.Upstream, lending().DNS) || !slices.Equal(table.Pods, lending().Pods) {
		t.Errorf("table %+v of %d tenants", table, len(parts))
	}
	east, far := table.Askers[netip.MustParseAddr("10.1.1.5")], table.Askers[netip.MustParseAddr("10.1.1.6")]
	if len(table.Askers) != 2 || east == nil || far == nil || east == far {
		t.Errorf("askers %v", table.Askers)
	}
	chosen := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:5353")}
	flat := lending()
	flat.Pods, flat.NodeRanges = nil, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	if table, _ := namesTable(flat, chosen); !slices.Equal(table.Upstream, chosen) || !slices.Equal(table.Pods, flat.NodeRanges) {
		t.Errorf("where pods are among the nodes: %+v", table)
	}
}

func TestAnswerAt(t *testing.T) {
	dual := lending()
	dual.Pods = append(dual.Pods, netip.MustParsePrefix("fd00:1::/56"))
	borrowing := lending()
	borrowing.Peers = borrowing.Peers[2:]
	for name, row := range map[string]struct {
		s    view.Snapshot
		off  bool
		want []netip.Addr
	}{
		"pods among nodes": {view.Snapshot{Peers: lending().Peers, NodeRanges: dual.Pods[1:]}, false, []netip.Addr{names.Address6()}},
		"shares":           {lending(), false, []netip.Addr{names.Address4()}},
		"dual stack":       {dual, false, []netip.Addr{names.Address4(), names.Address6()}},
		"only borrows":     {borrowing, false, nil},
		"turned off":       {lending(), true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (Config{DNS: DNS{Off: row.off}}).answerAt(row.s); !slices.Equal(got, row.want) {
				t.Errorf("answers at %v, want %v", got, row.want)
			}
		})
	}
}

// TestForwarder_BeginsOnce: it begins when the cluster shares, and takes over what is new.
func TestForwarder_BeginsOnce(t *testing.T) {
	f := newForwarder(Config{Node: "n1", DNS: DNS{Domain: "cluster.local"}, Log: zap.NewNop()})
	begin := f.begin
	now := time.Unix(1000, 0)
	set := func(s view.Snapshot) {
		t.Helper()
		if err := f.set(s, now); err != nil {
			t.Error(err)
		}
	}
	set(view.Snapshot{})
	if len(begin) != 0 {
		t.Error("it begins although nobody's pods may run here")
	}
	set(lending())
	set(lending())
	later := lending()
	later.Peers[0].Twins = nil
	set(later)
	if len(begin) != 1 || len(f.last.Askers) != 1 {
		t.Errorf("begun %d times, %d askers", len(begin), len(f.last.Askers))
	}
}

// TestForwarder_SaysThatUpstreamIsMissing, but not while it may only not have been read yet.
func TestForwarder_SaysThatUpstreamIsMissing(t *testing.T) {
	f := newForwarder(Config{Node: "n1", DNS: DNS{Domain: "cluster.local"}, Log: zap.NewNop()})
	bare, began := lending(), time.Unix(1000, 0)
	bare.DNS = nil
	for _, row := range []struct {
		s     view.Snapshot
		after time.Duration
		want  error
	}{{bare, 0, nil}, {bare, 9 * time.Second, nil}, {bare, 11 * time.Second, errNoUpstream}, {lending(), 12 * time.Second, nil}, {bare, 13 * time.Second, nil}, {bare, 30 * time.Second, nil}} {
		if err := f.set(row.s, began.Add(row.after)); err != row.want {
			t.Errorf("after %s: %v, want %v", row.after, err, row.want)
		}
	}
}
