package device

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Bytes that WireGuard and the outer headers add to a packet.
const (
	overhead4 = 20 + 8 + 32
	overhead6 = 40 + 8 + 32
)

// PathMTU is the largest packet inside the tunnel that a path to a peer's endpoint takes, bytes, as far as the kernel
// knows: the MTU of the route, or less where a router has said so (RFC 1191, RFC 8201) in the last ten minutes. Larger
// packets pass in fragments, slowly, so that probes do not show it. It sends nothing.
func (d *Device) PathMTU(to netip.AddrPort) (mtu int, err error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	err = d.netNS.run(func() error {
		mtu, err = outerMTU(to)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read the path MTU to %s: %w", to, err)
	}
	if to.Addr().Is4() {
		return mtu - overhead4, nil
	}
	return mtu - overhead6, nil
}

// outerMTU reads it off a connected socket.
func outerMTU(to netip.AddrPort) (int, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	level, option := unix.IPPROTO_IP, unix.IP_MTU
	if to.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	var mtu int
	var optionErr error
	if err := raw.Control(func(fd uintptr) { mtu, optionErr = unix.GetsockoptInt(int(fd), level, option) }); err != nil {
		return 0, err
	}
	return mtu, optionErr
}
