package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// apply does one step. What is there already, or gone already, is no error.
func apply(c Change) error {
	var err error
	switch item := c.Item.(type) {
	case Link:
		err = applyLink(item, c.Add)
	case Address:
		err = applyAddress(item, c.Add)
	case Neighbor:
		err = applyNeighbor(item, c.Add)
	case Route:
		err = applyRoute(item, c.Add)
	case Rule:
		err = applyRule(item, c.Add)
	}
	if c.Add && errors.Is(err, syscall.EEXIST) || !c.Add && gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

func gone(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH) ||
		errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// applyLink makes the VXLAN or dummy link, or sets up a link that is there. WireGuard links are made by package device.
func applyLink(l Link, add bool) error {
	old, err := netlink.LinkByName(l.Name)
	if !add {
		if err != nil {
			return err
		}
		return netlink.LinkDel(old)
	}
	if v, ok := old.(*netlink.Vxlan); ok && err == nil && l.VXLAN {
		local, _ := netip.AddrFromSlice(v.SrcAddr)
		if local.Unmap() != l.Local { // cannot be changed
			if err := netlink.LinkDel(old); err != nil {
				return err
			}
			err = syscall.ENODEV
		}
	}
	if l.VXLAN && (old == nil || err != nil) {
		err = netlink.LinkAdd(&netlink.Vxlan{
			LinkAttrs: netlink.LinkAttrs{Name: l.Name, MTU: l.MTU, HardwareAddr: hardware(mac(l.Local))},
			VxlanId:   vxlanID, SrcAddr: l.Local.AsSlice(), Port: vxlanPort, Learning: false, UDPCSum: true,
		})
		if err != nil {
			return err
		}
		if err := noOwnAddress(l.Name); err != nil {
			return err
		}
		old, err = netlink.LinkByName(l.Name)
	}
	if l.Dummy && err != nil {
		if err := addDummy(l); err != nil {
			return err
		}
		old, err = netlink.LinkByName(l.Name)
	}
	if err != nil {
		return err
	}
	if old.Attrs().MTU != l.MTU {
		if err := netlink.LinkSetMTU(old, l.MTU); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(old)
}

// noOwnAddress keeps the kernel from giving the link a link-local address beside ours.
func noOwnAddress(link string) error {
	made, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	err = netlink.LinkSetIP6AddrGenMode(made, nl.IN6_ADDR_GEN_MODE_NONE)
	if errors.Is(err, syscall.EAFNOSUPPORT) {
		return nil // a kernel without IPv6
	}
	return err
}

func hardware(text string) net.HardwareAddr {
	a, _ := net.ParseMAC(text) // written by us
	return a
}

func applyAddress(a Address, add bool) error {
	link, err := netlink.LinkByName(a.Link)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: netOf(a.Addr), Flags: unix.IFA_F_NODAD}
	if a.Addr == someAddress() {
		address.Scope = int(netlink.SCOPE_LINK)
	}
	if add {
		return netlink.AddrReplace(link, address)
	}
	return netlink.AddrDel(link, address)
}

func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func applyNeighbor(n Neighbor, add bool) error {
	link, err := netlink.LinkByName(underlayLink)
	if err != nil {
		return err
	}
	entry := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, State: unix.NUD_PERMANENT, Flags: netlink.NTF_SELF,
		IP: n.Node.AsSlice(), HardwareAddr: hardware(n.MAC),
	}
	neighbor := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT, Type: unix.RTN_UNICAST,
		IP: n.Addr.AsSlice(), HardwareAddr: hardware(n.MAC),
	}
	if !add {
		return errors.Join(ignoreGone(netlink.NeighDel(neighbor)), ignoreGone(netlink.NeighDel(entry)))
	}
	if err := netlink.NeighSet(entry); err != nil {
		return err
	}
	return netlink.NeighSet(neighbor)
}

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

func applyRoute(r Route, add bool) error {
	route := &netlink.Route{Table: r.Table, Dst: netOf(r.Dst), MTU: r.MTU, Priority: r.Metric, Protocol: routeProtocol}
	route.MTULock = r.MTU > 0 && r.Dst.Addr().Is6() // IPv6 forwards by an MTU that is not locked only after translation
	if link, err := netlink.LinkByName(r.Link); err == nil {
		route.LinkIndex = link.Attrs().Index
	} else if add {
		return err
	}
	if r.Via.IsValid() {
		route.Gw = r.Via.AsSlice()
		route.SetFlag(netlink.FLAG_ONLINK)
	}
	if r.Src.IsValid() {
		route.Src = r.Src.AsSlice()
	}
	if add {
		return netlink.RouteReplace(route)
	}
	return netlink.RouteDel(route)
}

func applyRule(r Rule, add bool) error {
	rule := netlink.NewRule()
	rule.Family = netlink.FAMILY_V4
	if r.IPv6 {
		rule.Family = netlink.FAMILY_V6
	}
	rule.Priority, rule.Table, rule.IifName = r.Priority, r.Table, r.From
	if r.Mark != 0 {
		mask := uint32(markMask)
		rule.Mark, rule.Mask = r.Mark, &mask
	}
	if add {
		return netlink.RuleAdd(rule)
	}
	return netlink.RuleDel(rule)
}
