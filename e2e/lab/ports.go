package lab

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// port is a TCP port chosen by the kernel and held, without listening, until
// it is closed. A listener that also sets SO_REUSEPORT can come and go on it
// meanwhile: kube-apiserver with --permit-port-sharing, or listen below. So
// nobody else gets the port while a component restarts.
type port struct {
	fd     int
	number int
	ip     string
}

func holdPort(ip string) (*port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("hold a port: %w", err)
	}
	p := &port{fd: fd, ip: ip}
	if err := p.bind(); err != nil {
		p.Close()
		return nil, fmt.Errorf("hold a port: %w", err)
	}
	return p, nil
}

func (p *port) bind() error {
	if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	addr := &unix.SockaddrInet4{}
	copy(addr.Addr[:], net.ParseIP(p.ip).To4())
	if err := unix.Bind(p.fd, addr); err != nil {
		return err
	}
	got, err := unix.Getsockname(p.fd)
	if err != nil {
		return err
	}
	if in4, ok := got.(*unix.SockaddrInet4); ok {
		p.number = in4.Port
	}
	return nil
}

// addr is IP:PORT.
func (p *port) addr() string { return net.JoinHostPort(p.ip, strconv.Itoa(p.number)) }

// listen starts a listener on the held port.
func (p *port) listen(ctx context.Context) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var opt error
		err := c.Control(func(fd uintptr) {
			opt = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		if err != nil {
			return err
		}
		return opt
	}}
	return lc.Listen(ctx, "tcp4", p.addr())
}

func (p *port) Close() { _ = unix.Close(p.fd) }
