package tunnel

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkPrefix begins the names of our links.
const linkPrefix = "spillway"

// observe reads what of ours is in the kernel.
func observe() (Config, error) {
	var c Config
	links, err := netlink.LinkList()
	if err != nil {
		return c, fmt.Errorf("list links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
		if strings.HasPrefix(l.Attrs().Name, linkPrefix) {
			c.Links = append(c.Links, linkOf(l))
			if err := c.observeLink(l); err != nil {
				return c, err
			}
		}
	}
	if err := c.observeRoutes(names); err != nil {
		return c, err
	}
	return c, c.observeRules()
}

func linkOf(l netlink.Link) Link {
	out := Link{Name: l.Attrs().Name, MTU: l.Attrs().MTU}
	if v, ok := l.(*netlink.Vxlan); ok {
		out.VXLAN = true
		out.Local, _ = netip.AddrFromSlice(v.SrcAddr)
		out.Local = out.Local.Unmap()
	}
	out.Dummy = leadsNowhere(l)
	if l.Attrs().Flags&net.FlagUp == 0 {
		out.MTU = 0 // a link that is down is as good as none: it will be set up again
	}
	return out
}

func (c *Config) observeLink(l netlink.Link) error {
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && (a.Flags&unix.IFA_F_PERMANENT != 0) && !autoLinkLocal(l, p) {
			c.Addresses = append(c.Addresses, Address{l.Attrs().Name, p})
		}
	}
	if l.Attrs().Name != underlayLink {
		return nil
	}
	fdb := map[string]netip.Addr{}
	entries, err := netlink.NeighList(l.Attrs().Index, unix.AF_BRIDGE)
	if err != nil {
		return fmt.Errorf("list the forwarding entries of %s: %w", underlayLink, err)
	}
	for _, e := range entries {
		if a, ok := netip.AddrFromSlice(e.IP); ok {
			fdb[e.HardwareAddr.String()] = a.Unmap()
		}
	}
	neighbors, err := netlink.NeighList(l.Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the neighbours on %s: %w", underlayLink, err)
	}
	for _, n := range neighbors {
		if a, ok := netip.AddrFromSlice(n.IP); ok && n.State&unix.NUD_PERMANENT != 0 && n.Family != unix.AF_BRIDGE {
			mac := n.HardwareAddr.String()
			c.Neighbors = append(c.Neighbors, Neighbor{Addr: a.Unmap(), MAC: mac, Node: fdb[mac]})
		}
	}
	return nil
}

// autoLinkLocal says that the kernel gave a WireGuard link the address by itself; ours on them are not of fe80::/10.
func autoLinkLocal(l netlink.Link, p netip.Prefix) bool {
	return p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && l.Attrs().Name != underlayLink
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if a = a.Unmap(); a.Is4() && size == 128 {
		bits -= 96
	}
	return netip.PrefixFrom(a, bits), ok
}

func (c *Config) observeRoutes(names map[int]string) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_UNSPEC},
			netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			dst, ok := prefixOf(r.Dst)
			if !ok {
				continue
			}
			out := Route{Table: r.Table, Dst: dst, Link: names[r.LinkIndex], MTU: r.MTU, Metric: r.Priority}
			if a, ok := netip.AddrFromSlice(r.Gw); ok {
				out.Via = a.Unmap()
			}
			if a, ok := netip.AddrFromSlice(r.Src); ok {
				out.Src = a.Unmap()
			}
			c.Routes = append(c.Routes, out)
		}
	}
	return nil
}

func (c *Config) observeRules() error {
	for _, v6 := range []bool{false, true} {
		family := netlink.FAMILY_V4
		if v6 {
			family = netlink.FAMILY_V6
		}
		rules, err := netlink.RuleList(family)
		if err != nil {
			return fmt.Errorf("list rules: %w", err)
		}
		for _, r := range rules {
			if r.Table >= tableBack && r.Table <= tableSlot+MaxSlots && r.Priority >= priorityBack && r.Priority <= priorityMain {
				c.Rules = append(c.Rules, Rule{Priority: r.Priority, IPv6: v6, Mark: r.Mark, From: r.IifName, Table: r.Table})
			}
		}
	}
	return nil
}
