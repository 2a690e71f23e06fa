package tunnel

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPeerRanges_LeaveTheClustersOwnAlone(t *testing.T) {
	one, two, own := netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("100.64.0.0/16"), netip.MustParsePrefix("10.1.3.0/24")
	got := peerRanges([]Route{{Table: tableMain, Dst: one}, {Table: tableSlot + 1, Dst: two}, {Table: tableBack, Dst: own}})
	if d := cmp.Diff([]string{one.String(), two.String()}, []string{got[0].String(), got[len(got)-1].String()}); d != "" || len(got) != 2 {
		t.Errorf("%v, (-want +got):\n%s", got, d)
	}
}
