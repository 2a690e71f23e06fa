package realnode

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// usedRanges lists the ranges of the machine's addresses and routes, without default routes.
func usedRanges() ([]netip.Prefix, error) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list the machine's addresses: %w", err)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list the machine's routes: %w", err)
	}
	var used []netip.Prefix
	add := func(n *net.IPNet) {
		if n == nil {
			return
		}
		if p, ok := toPrefix(n); ok && p.Bits() > 0 {
			used = append(used, p.Masked())
		}
	}
	for _, a := range addrs {
		add(a.IPNet)
	}
	for _, r := range routes {
		add(r.Dst)
	}
	return used, nil
}

func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), ok
}

func toIPNet(addr netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}
}

func rangeNet(p netip.Prefix) *net.IPNet { return toIPNet(p.Addr(), p.Bits()) }

// inNamespace gives a netlink handle into the network namespace of a process.
func inNamespace(pid int) (*netlink.Handle, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, fmt.Errorf("open network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, fmt.Errorf("enter network namespace of process %d: %w", pid, err)
	}
	return h, nil
}

// connectRouter makes the uplink and one bridge per cluster. Devices that exist already are an error: another lab's.
func connectRouter(plan Plan, router int) error {
	h, err := inNamespace(router)
	if err != nil {
		return err
	}
	defer h.Close()
	uplink := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: plan.Uplink}, PeerName: plan.UplinkPeer, PeerNamespace: netlink.NsPid(router),
	}
	if err := netlink.LinkAdd(uplink); err != nil {
		return fmt.Errorf("make device %s: %w", plan.Uplink, err)
	}
	machine, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer machine.Close()
	own := make([]netip.Addr, 0, len(plan.Clusters))
	for _, c := range plan.Clusters {
		own = append(own, c.APIServer)
	}
	if err := configure(machine, plan.Uplink, plan.Transfer.Bits(), own...); err != nil {
		return err
	}
	if err := configure(h, plan.UplinkPeer, plan.Transfer.Bits(), plan.RouterAddr); err != nil {
		return err
	}
	for _, c := range plan.Clusters {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: c.Bridge}}
		if err := h.LinkAdd(bridge); err != nil {
			return fmt.Errorf("make bridge %s: %w", c.Bridge, err)
		}
		if err := configure(h, c.Bridge, c.NodeRange.Bits(), c.Gateway); err != nil {
			return err
		}
		if err := route(machine, plan.Uplink, c.NodeRange, plan.RouterAddr); err != nil {
			return err
		}
	}
	return nil
}

// configure gives the device its addresses and brings it up.
func configure(h *netlink.Handle, device string, bits int, addrs ...netip.Addr) error {
	link, err := h.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find device %s: %w", device, err)
	}
	for _, a := range addrs {
		if err := h.AddrReplace(link, &netlink.Addr{IPNet: toIPNet(a, bits)}); err != nil {
			return fmt.Errorf("give %s to device %s: %w", a, device, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring device %s up: %w", device, err)
	}
	return nil
}

func route(h *netlink.Handle, device string, to netip.Prefix, via netip.Addr) error {
	link, err := h.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find device %s: %w", device, err)
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: rangeNet(to), Gw: via.AsSlice()}
	if err := h.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s via %s: %w", to, via, err)
	}
	return nil
}

// nodeDevice is the name of a node's device inside the node.
const nodeDevice = "eth0"

// connectNode plugs a node's process into its cluster's bridge and gives it its routes; an old port of the node goes first.
func connectNode(at place, pid int) error {
	c, n := at.cluster, at.node
	if err := plug(at, pid); err != nil {
		return err
	}
	h, err := inNamespace(pid)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := configure(h, nodeDevice, c.NodeRange.Bits(), n.Addr); err != nil {
		return err
	}
	if err := route(h, nodeDevice, netip.PrefixFrom(netip.IPv4Unspecified(), 0), c.Gateway); err != nil {
		return err
	}
	for _, other := range c.Nodes {
		if other.Name == n.Name {
			continue
		}
		if err := route(h, nodeDevice, other.PodCIDR, other.Addr); err != nil {
			return err
		}
	}
	return nil
}

func plug(at place, pid int) error {
	c, n := at.cluster, at.node
	h, err := inNamespace(at.router)
	if err != nil {
		return err
	}
	defer h.Close()
	bridge, err := h.LinkByName(c.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", c.Bridge, err)
	}
	if old, err := h.LinkByName(n.Port); err == nil {
		if err := h.LinkDel(old); err != nil && !errors.Is(err, syscall.ENODEV) {
			return fmt.Errorf("remove old port %s: %w", n.Port, err)
		}
	}
	port := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: n.Port, MasterIndex: bridge.Attrs().Index},
		PeerName:  nodeDevice, PeerNamespace: netlink.NsPid(pid),
	}
	if err := h.LinkAdd(port); err != nil {
		return fmt.Errorf("make port %s: %w", n.Port, err)
	}
	if err := h.LinkSetUp(port); err != nil {
		return fmt.Errorf("bring port %s up: %w", n.Port, err)
	}
	return nil
}

// removeUplink removes the lab's device from the machine, should the router's end not have taken it along already.
func removeUplink(device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		var gone netlink.LinkNotFoundError
		if errors.As(err, &gone) {
			return nil
		}
		return fmt.Errorf("look for device %s: %w", device, err)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("remove device %s: %w", device, err)
	}
	return nil
}

// lockNetwork makes choosing a free block and taking it one step among all labs of the machine. The lock is on a directory that is
// there anyway, so that no file is left.
func lockNetwork() (unlock func(), err error) {
	dir, err := os.Open("/sys/class/net")
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	return lockOpen(dir)
}
