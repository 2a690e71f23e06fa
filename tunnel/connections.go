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

// stale are connections that connection tracking would go on to translate as before: those with an end in one of the
// ranges of all, and those not translated at all with an end in one of plain.
type stale struct{ all, plain []netip.Prefix }

func (s stale) empty() bool { return len(s.all)+len(s.plain) == 0 }

// retranslated are the connections with peers whose addresses, or ours for them, are translated in another way than
// before. A device that is new here takes over connections that another node has translated: this node knows them as
// they pass on their way to that one.
func retranslated(before *Packets, now Packets) stale {
	old := map[string]PacketPeer{}
	var devices []string
	if before != nil {
		devices = before.Devices
		for _, p := range before.Peers {
			old[p.Name] = p
		}
	}
	gained := slices.ContainsFunc(now.Devices, func(d string) bool { return !slices.Contains(devices, d) })
	var out stale
	for _, p := range now.Peers {
		was := old[p.Name]
		delete(old, p.Name)
		if !reflect.DeepEqual(was.Translate, p.Translate) || !reflect.DeepEqual(was.Remote, p.Remote) {
			out.all = append(append(out.all, was.Remote...), p.Remote...)
		} else if gained && len(p.Translate) > 0 {
			out.plain = append(out.plain, p.Remote...)
		}
	}
	for _, gone := range old {
		out.all = append(out.all, gone.Remote...)
	}
	return out
}

// forgetConnections makes the kernel forget connections: it decided at their first packet how they are translated, and
// would keep to that as long as they go on.
func forgetConnections(s stale) error {
	if s.empty() {
		return nil
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, s); err != nil {
			return fmt.Errorf("forget translated connections: %w", err)
		}
	}
	return nil
}

// MatchConntrackFlow is asked for each connection.
func (s stale) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	there, back := flow.Forward, flow.Reverse
	plain := there.SrcIP.Equal(back.DstIP) && there.DstIP.Equal(back.SrcIP)
	for _, ip := range []net.IP{there.SrcIP, there.DstIP, back.SrcIP, back.DstIP} {
		a, _ := netip.AddrFromSlice(ip)
		in := func(p netip.Prefix) bool { return p.Contains(a.Unmap()) }
		if slices.ContainsFunc(s.all, in) || plain && slices.ContainsFunc(s.plain, in) {
			return true
		}
	}
	return false
}
