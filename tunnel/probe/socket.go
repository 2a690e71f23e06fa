package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// packet is a message between two addresses. remote has the port of the other side.
type packet struct {
	local   netip.Addr
	remote  netip.AddrPort
	message message
}

// packetLink sends packets.
type packetLink interface {
	// write sends packets and returns those that are larger than the device takes. Others that could not be sent are lost
	// like any packet on its way.
	write(packets []packet) (tooBig []packet)
	close()
}

const (
	batch     = 32
	maxPacket = 9216 // longer ones are cut off and so dropped
	writeTime = 100 * time.Millisecond
)

// udpSocket is a socket for one address family. Its packets are never fragmented, here or on the way, and of the limits
// that the system knows only that of the device holds for them: they are there to find out about the others.
type udpSocket struct {
	conn     *net.UDPConn
	six      bool
	overhead int
	four4    *ipv4.PacketConn
	six6     *ipv6.PacketConn
	out      []ipv6.Message
	head     [batch][headerSize]byte
	zeros    [maxPacket]byte
}

func openSocket(six bool, port uint16) (*udpSocket, error) {
	network, overhead := "udp4", overheadIP4
	if six {
		network, overhead = "udp6", overheadIP6
	}
	conn, err := net.ListenUDP(network, &net.UDPAddr{Port: int(port)})
	if err != nil {
		return nil, fmt.Errorf("listen on %s port %d: %w", network, port, err)
	}
	s := &udpSocket{conn: conn, six: six, overhead: overhead, out: make([]ipv6.Message, batch)}
	if err := s.configure(); err != nil {
		return nil, errors.Join(fmt.Errorf("configure %s socket: %w", network, err), conn.Close())
	}
	return s, nil
}

func (s *udpSocket) configure() error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	control := func(fd uintptr) {
		if s.six {
			set = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1))
			return
		}
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	}
	if err := errors.Join(raw.Control(control), set); err != nil {
		return err
	}
	if s.six {
		s.six6 = ipv6.NewPacketConn(s.conn)
		return s.six6.SetControlMessage(ipv6.FlagDst, true)
	}
	s.four4 = ipv4.NewPacketConn(s.conn)
	return s.four4.SetControlMessage(ipv4.FlagDst, true)
}

func (s *udpSocket) close() { _ = s.conn.Close() }

// read hands over what comes in until the socket is closed or ctx ends. What is no probe is dropped.
func (s *udpSocket) read(ctx context.Context, take func([]packet)) {
	in := make([]ipv6.Message, batch)
	for n := range in {
		in[n].Buffers = [][]byte{make([]byte, maxPacket)}
		in[n].OOB = make([]byte, 64)
	}
	packets := make([]packet, 0, batch)
	for {
		n, err := s.readBatch(in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // for example an ICMP error; it is taken from the socket by reporting it
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		packets = packets[:0]
		for _, m := range in[:n] {
			if p, ok := s.received(m); ok {
				packets = append(packets, p)
			}
		}
		if len(packets) > 0 {
			take(packets)
		}
	}
}

func (s *udpSocket) readBatch(in []ipv6.Message) (int, error) {
	if s.six {
		return s.six6.ReadBatch(in, 0)
	}
	return s.four4.ReadBatch(in, 0)
}

func (s *udpSocket) received(in ipv6.Message) (packet, bool) {
	m, err := parse(in.Buffers[0][:in.N], s.overhead)
	if err != nil {
		return packet{}, false
	}
	from, ok := in.Addr.(*net.UDPAddr)
	local := s.destination(in.OOB[:in.NN])
	if !ok || !local.IsValid() {
		return packet{}, false
	}
	remote := from.AddrPort()
	return packet{
		local:   local,
		remote:  netip.AddrPortFrom(remote.Addr().Unmap().WithZone(""), remote.Port()),
		message: m,
	}, true
}

// destination reads to which of our addresses a packet was sent.
func (s *udpSocket) destination(oob []byte) netip.Addr {
	var to net.IP
	if s.six {
		var c ipv6.ControlMessage
		if c.Parse(oob) == nil {
			to = c.Dst
		}
	} else {
		var c ipv4.ControlMessage
		if c.Parse(oob) == nil {
			to = c.Dst
		}
	}
	a, _ := netip.AddrFromSlice(to)
	return a.Unmap()
}

// source says from which of our addresses a packet goes.
func (s *udpSocket) source(a netip.Addr) []byte {
	if s.six {
		return (&ipv6.ControlMessage{Src: a.AsSlice()}).Marshal()
	}
	return (&ipv4.ControlMessage{Src: a.AsSlice()}).Marshal()
}

func (s *udpSocket) write(packets []packet) (tooBig []packet) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeTime)) // a full queue must not hold up everything
	for len(packets) > 0 {
		n := min(len(packets), batch)
		for k, p := range packets[:n] {
			p.message.put(s.head[k][:])
			padding := min(max(p.message.size-s.overhead-headerSize, 0), maxPacket-headerSize)
			s.out[k].Buffers = append(s.out[k].Buffers[:0], s.head[k][:])
			if padding > 0 {
				s.out[k].Buffers = append(s.out[k].Buffers, s.zeros[:padding])
			}
			s.out[k].OOB, s.out[k].Addr = s.source(p.local), net.UDPAddrFromAddrPort(p.remote)
		}
		sent, err := s.writeBatch(s.out[:n])
		if err != nil || sent == 0 { // it is the first one's
			if errors.Is(err, unix.EMSGSIZE) {
				tooBig = append(tooBig, packets[0])
			}
			sent = 1
		}
		packets = packets[sent:]
	}
	return tooBig
}

func (s *udpSocket) writeBatch(out []ipv6.Message) (int, error) {
	if s.six {
		return s.six6.WriteBatch(out, 0)
	}
	return s.four4.WriteBatch(out, 0)
}
