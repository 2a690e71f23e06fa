package joined

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// The test binary runs itself again in the network namespaces of pods.
const roleVariable = "SPILLWAY_JOINED_ROLE"

// call is what a pod is to try.
type call struct {
	Proto string // tcp, udp, icmp, stream: gaps of a long-lived TCP connection, flood: bytes of Size TCP connections at once
	To    netip.AddrPort
	Size  int
	For   time.Duration // of a stream or flood
	Name  string        // to ask the DNS for; of api: the path
	Token string        // of api
	CA    string        // of api, PEM
	// Resolv is the resolver's configuration that lookup goes by, Kind the type it asks for.
	Resolv string
	Kind   uint16
	// Brief tries once and not for long: nobody is expected to answer.
	Brief bool
}

// answered is what came of it.
type answered struct {
	Source string // as the server saw it; "echo" for icmp
	Error  string
	Gap    time.Duration // the longest of a stream
	Bytes  int
}

// caller is a process in the network namespace of a pod: it serves on port 7000 and makes calls.
type caller struct {
	pod  string
	addr netip.Addr
	node string
	pid  int // of the pod's own process, as the machine sees it
	in   io.WriteCloser
	out  *bufio.Reader
}

const podPort = 7000

// briefly is how long a Brief call waits: hundreds of times as long as an answer takes.
const briefly = 500 * time.Millisecond

func podMain() int {
	l, err := net.Listen("tcp4", fmt.Sprintf(":%d", podPort))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go serveTCP(l)
	u, err := net.ListenUDP("udp4", &net.UDPAddr{Port: podPort})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go serveUDP(u)
	fmt.Println("ready")
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var c call
		if in.Decode(&c) != nil {
			return 0
		}
		_ = out.Encode(c.do())
	}
}

// serveTCP answers the source it saw and echoes; one who sends "stream" gets a message every 10 ms, one who sends "flood!"
// as much as passes.
func serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			fmt.Fprintln(c, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			first := make([]byte, 6)
			if _, err := io.ReadFull(c, first); err != nil {
				return
			}
			switch string(first) {
			case "flood!":
				for data := make([]byte, 65536); err == nil; {
					_, err = c.Write(data)
				}
			case "stream":
				tick := time.NewTicker(10 * time.Millisecond)
				defer tick.Stop()
				for range tick.C {
					if _, err := c.Write(make([]byte, 100)); err != nil {
						return
					}
				}
			default:
				_, _ = c.Write(first)
				_, _ = io.Copy(c, c)
			}
		}()
	}
}

func serveUDP(u *net.UDPConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := u.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		_, _ = u.WriteToUDPAddrPort(fmt.Appendf(nil, "%s\n%s", from.Addr().Unmap(), buf[:n]), from)
	}
}

func (c call) do() answered {
	switch c.Proto {
	case "icmp":
		return c.ping()
	case "https":
		return c.https()
	case "stream":
		return c.stream()
	case "flood":
		return c.flood()
	case "dns":
		return c.resolve()
	case "lookup":
		return c.lookup()
	case "api":
		return c.api()
	}
	dial, patience, tries := 2*time.Second, 700*time.Millisecond, 5
	if c.Proto == "tcp" {
		patience = 5 * time.Second // it sends again itself
	}
	if c.Brief {
		dial, tries = briefly, 1
	}
	conn, err := net.DialTimeout(c.Proto, c.To.String(), dial)
	if err != nil {
		return answered{Error: err.Error()}
	}
	defer conn.Close()
	for range tries { // of UDP: the first large ones may be lost to path MTU discovery
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err = conn.Write([]byte(strings.Repeat("x", c.Size))); err != nil {
			continue
		}
		reader := bufio.NewReaderSize(conn, 65536)
		var source string
		if source, err = reader.ReadString('\n'); err == nil {
			if _, err = io.ReadFull(reader, make([]byte, c.Size)); err == nil {
				return answered{Source: strings.TrimSpace(source)}
			}
		}
		if c.Proto == "tcp" {
			break
		}
	}
	return answered{Error: err.Error()}
}

func (c call) stream() answered {
	conn, err := net.DialTimeout("tcp", c.To.String(), 2*time.Second)
	if err != nil {
		return answered{Error: err.Error()}
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("stream")); err != nil {
		return answered{Error: err.Error()}
	}
	var a answered
	buf := make([]byte, 65536)
	began := time.Now()
	for last := began; time.Since(began) < c.For; {
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := conn.Read(buf)
		if err != nil {
			a.Error = err.Error()
			return a
		}
		now := time.Now()
		a.Gap, a.Bytes, last = max(a.Gap, now.Sub(last)), a.Bytes+n, now
	}
	return a
}

// resolve asks the DNS server c.To.
func (c call) resolve() answered {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, c.To.String())
	}}
	found, err := r.LookupHost(ctx, c.Name)
	if err != nil {
		return answered{Error: err.Error()}
	}
	return answered{Source: strings.Join(found, " ")}
}

// flood counts what arrives over all connections between one second after their begin and For later.
func (c call) flood() answered {
	var bytes atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, c.Size)
	begin := time.Now().Add(time.Second)
	for range c.Size {
		wg.Go(func() {
			conn, err := net.DialTimeout("tcp", c.To.String(), 2*time.Second)
			if err != nil {
				failed <- err
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(begin.Add(c.For))
			_, err = conn.Write([]byte("flood!"))
			for buf := make([]byte, 65536); err == nil; {
				var n int
				if n, err = conn.Read(buf); time.Now().After(begin) {
					bytes.Add(int64(n))
				}
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				failed <- err
			}
		})
	}
	wg.Wait()
	a := answered{Bytes: int(bytes.Load())}
	if len(failed) > 0 {
		a.Error = (<-failed).Error()
	}
	return a
}

func (c call) ping() answered {
	conn, err := icmp.ListenPacket("ip4:icmp", "")
	if err != nil {
		return answered{Error: err.Error()}
	}
	defer conn.Close()
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Data: make([]byte, c.Size)}}
	data, err := m.Marshal(nil)
	if err != nil {
		return answered{Error: err.Error()}
	}
	tries := 3
	if c.Brief {
		tries = 1
	}
	for range tries {
		if _, err = conn.WriteTo(data, &net.IPAddr{IP: c.To.Addr().AsSlice()}); err != nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		for buf := make([]byte, 65536); ; {
			var n int
			var from net.Addr
			if n, from, err = conn.ReadFrom(buf); err != nil {
				break
			}
			if got, _ := icmp.ParseMessage(1, buf[:n]); got != nil && got.Type == ipv4.ICMPTypeEchoReply && from.String() == c.To.Addr().String() {
				return answered{Source: "echo"}
			}
		}
	}
	return answered{Error: err.Error()}
}

// enter starts a caller in the network namespace of a pod's process.
func enter(t *testing.T, pod, node string, addr netip.Addr) *caller {
	t.Helper()
	pid := 0
	eventually(t, soon, "the process of pod "+pod+" runs", func(context.Context) error {
		if pid = podPID(pod); pid > 0 {
			return nil
		}
		return errors.New("no such process")
	})
	cmd := exec.CommandContext(t.Context(), "nsenter", "-t", strconv.Itoa(pid), "--net", os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"=pod")
	cmd.Stderr = os.Stderr
	c := &caller{pod: pod, addr: addr, node: node, pid: pid}
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.in.Close()
		_ = cmd.Wait()
	})
	if line, err := c.out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("caller in pod %s: %q %v", pod, line, err)
	}
	return c
}

func (c *caller) begin(what call) error { return json.NewEncoder(c.in).Encode(what) }

func (c *caller) result() (answered, error) {
	var a answered
	line, err := c.out.ReadString('\n')
	if err != nil {
		return a, fmt.Errorf("caller in pod %s: %w", c.pod, err)
	}
	return a, json.Unmarshal([]byte(line), &a)
}

func (c *caller) call(what call) answered {
	if err := c.begin(what); err != nil {
		return answered{Error: err.Error()}
	}
	a, err := c.result()
	if err != nil {
		return answered{Error: errors.Join(err, errors.New(a.Error)).Error()}
	}
	return a
}
