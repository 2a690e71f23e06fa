package main

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"github.com/spillway-dev/spillway/tunnel/probe"
)

// swarm is many gateways in one process: a device of wireguard-go each, all behind one link, from whose addresses one
// prober answers. Nothing of it but the answers is measured.
type swarm struct {
	Devices []bareDevice
	// Addrs are the slot addresses of the devices.
	Addrs []netip.Addr
	// Remote is whom they answer, by way of the link.
	Remote netip.Addr
}

const swarmLink = "swarm0"

func (n *node) openSwarm(s swarm) error {
	link, err := tun.CreateTUN(swarmLink, underlayMTU)
	if err != nil {
		return fmt.Errorf("make device %s: %w", swarmLink, err)
	}
	if err := s.attach(); err != nil {
		return err
	}
	ways := map[netip.Addr]chan []byte{}
	targets := make([]probe.Target, 0, len(s.Devices))
	for i, b := range s.Devices {
		c := tuntest.NewChannelTUN()
		d := device.NewDevice(c.TUN(), conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
		if err := configure(d, b, 0, keepalive); err != nil {
			return err
		}
		ways[s.Addrs[i]] = c.Outbound
		targets = append(targets, probe.Target{Key: probe.Key{Peer: fmt.Sprint(i)}, Local: s.Addrs[i], Remote: s.Remote, MaxMTU: b.MTU})
		go deliver(link, c.Inbound)
	}
	go distribute(link, ways)
	return n.probe(targets)
}

// attach gives the link all addresses, and the way to the other side.
func (s swarm) attach() error {
	link, err := netlink.LinkByName(swarmLink)
	if err != nil {
		return fmt.Errorf("find device %s: %w", swarmLink, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	for _, a := range s.Addrs {
		addr, err := netlink.ParseAddr(netip.PrefixFrom(a, a.BitLen()).String())
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("give %s to %s: %w", a, swarmLink, err)
		}
	}
	dst, err := netlink.ParseIPNet(netip.PrefixFrom(s.Remote, s.Remote.BitLen()).String())
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{Dst: dst, LinkIndex: link.Attrs().Index})
}

// room in front of a packet for the header that the kernel wants.
const room = 64

// deliver hands what came out of a tunnel to the kernel.
func deliver(link tun.Device, from <-chan []byte) {
	for packet := range from {
		buf := make([]byte, room+len(packet), room+underlayMTU)
		copy(buf[room:], packet)
		_, _ = link.Write([][]byte{buf}, room) // what the kernel refuses is lost, and the probes show it
	}
}

// distribute hands what the kernel sends to the tunnel of its source.
func distribute(link tun.Device, ways map[netip.Addr]chan []byte) {
	bufs, sizes := make([][]byte, link.BatchSize()), make([]int, link.BatchSize())
	for i := range bufs {
		bufs[i] = make([]byte, room+device.MaxContentSize)
	}
	for {
		n, err := link.Read(bufs, sizes, room)
		if err != nil {
			return
		}
		for i := range n {
			packet := bufs[i][room : room+sizes[i]]
			const source, end = 8, 24 // of an IPv6 header
			if len(packet) < end {
				continue
			}
			from, _ := netip.AddrFromSlice(packet[source:end])
			if way := ways[from]; way != nil {
				way <- append([]byte(nil), packet...)
			}
		}
	}
}
