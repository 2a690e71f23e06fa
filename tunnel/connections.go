package tunnel

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// retranslated are the ranges of peers whose addresses, or ours for them, are translated in another way than before.
func retranslated(before *Packets, now Packets) []netip.Prefix {
	old := map[string]PacketPeer{}
	if before != nil {
		for _, p := range before.Peers {
			old[p.Name] = p
		}
	}
	var out []netip.Prefix
	for _, p := range now.Peers {
		was := old[p.Name]
		delete(old, p.Name)
		if !reflect.DeepEqual(was.Translate, p.Translate) || !reflect.DeepEqual(was.Remote, p.Remote) {
			out = append(append(out, was.Remote...), p.Remote...)
		}
	}
	for _, gone := range old {
		out = append(out, gone.Remote...)
	}
	return out
}

// forgetConnections makes the kernel forget connections from or to the ranges: it decided at their first packet how
// they are translated, and would keep to that as long as they go on.
func forgetConnections(ranges []netip.Prefix) error {
	if len(ranges) == 0 {
		return nil
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, inRanges(ranges)); err != nil {
			return fmt.Errorf("forget translated connections: %w", err)
		}
	}
	return nil
}

// inRanges matches connections of which an end is in a range.
type inRanges []netip.Prefix

// MatchConntrackFlow is asked for each connection.
func (r inRanges) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	for _, ip := range []net.IP{flow.Forward.SrcIP, flow.Forward.DstIP, flow.Reverse.SrcIP, flow.Reverse.DstIP} {
		a, ok := netip.AddrFromSlice(ip)
		if ok && slices.ContainsFunc(r, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) }) {
			return true
		}
	}
	return false
}
