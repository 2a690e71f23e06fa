package netbench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Server is the passive end. Make it with Listen, then Serve once.
type Server struct {
	tcp *net.TCPListener
	udp *net.UDPConn
}

// Listen opens a TCP and a UDP port of the same number, for example ":5201". Port 0 takes any.
func Listen(ctx context.Context, address string) (*Server, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on TCP %s: %w", address, err)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	tcp := listener.(*net.TCPListener)
	same := net.JoinHostPort(host, fmt.Sprint(tcp.Addr().(*net.TCPAddr).Port))
	packets, err := config.ListenPacket(ctx, "udp", same)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on UDP %s: %w", same, err), tcp.Close())
	}
	return &Server{tcp: tcp, udp: packets.(*net.UDPConn)}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() netip.AddrPort { return s.tcp.Addr().(*net.TCPAddr).AddrPort() }

// Serve answers until ctx ends, and returns nil then; it closes both ports and waits for its connections.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.tcp.Close(); s.udp.Close() })
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	udpErr := make(chan error, 1)
	group.Go(func() { udpErr <- s.echoPackets() })
	for {
		conn, err := s.tcp.AcceptTCP()
		if err != nil {
			s.tcp.Close()
			s.udp.Close()
			if ctx.Err() != nil {
				return nil
			}
			return errors.Join(fmt.Errorf("accept: %w", err), <-udpErr)
		}
		group.Go(func() { serveConn(ctx, conn) })
	}
}

func (s *Server) echoPackets() error {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read UDP: %w", err)
		}
		if bytes.HasPrefix(buffer[:n], []byte(magic)) {
			// What cannot be sent back is lost, as on any network.
			_, _ = s.udp.WriteToUDPAddrPort(buffer[:n], from)
		}
	}
}

// serveConn does what a client asks for. A client that goes away is no error here: it will say so itself.
func serveConn(ctx context.Context, conn *net.TCPConn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(2 * longest))
	mode, d, err := readHeader(conn)
	if err != nil {
		return
	}
	switch mode {
	case modeUp:
		n, err := io.Copy(io.Discard, conn)
		if err == nil {
			_, _ = conn.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
		}
	case modeDown:
		_, _ = blast(conn, d)
	case modeEcho:
		message := make([]byte, messageSize)
		for {
			if _, err := io.ReadFull(conn, message); err != nil {
				return
			}
			if _, err := conn.Write(message); err != nil {
				return
			}
		}
	}
}

// blast writes as fast as w takes it for d.
func blast(w io.Writer, d time.Duration) (int64, error) {
	block := make([]byte, 256<<10)
	var total int64
	for end := time.Now().Add(d); time.Now().Before(end); {
		n, err := w.Write(block)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
