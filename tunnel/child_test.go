package tunnel

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// The test binary runs itself again, once per network namespace: wireguard-go opens its sockets where its process is.
const roleVariable = "SPILLWAY_TUNNEL_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "node":
		os.Exit(nodeMain())
	case "pod":
		os.Exit(podMain())
	}
	os.Exit(m.Run())
}

// nodeMain runs an Engine: each line of stdin is a Topology, or a word; each answer is a line.
func nodeMain() int {
	// A /run of its own: the configuration sockets of devices of one name would collide.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fail(err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return fail(err)
	}
	log, err := zap.NewDevelopment(zap.IncreaseLevel(zap.WarnLevel), zap.AddStacktrace(zap.ErrorLevel))
	if err != nil {
		return fail(err)
	}
	if err := serveTCP(); err != nil { // an API server, to some tests
		return fail(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	engine, err := New(Options{Log: log, Interval: time.Second, Userspace: true})
	if err != nil {
		return fail(err)
	}
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			stop()
			<-done
			return 0
		}
		switch line = strings.TrimSpace(line); line {
		case "report":
			answer(engine.Report())
		case "cost": // what a while of nothing to do costs, per round
			before, done := usage(), rounds(engine)
			<-time.After(5 * time.Second)
			answer((usage() - before).Microseconds() / int64(rounds(engine)-done))
		case "strip": // as somebody would who does not know whose the device is
			none := wgtypes.Config{ReplacePeers: true}
			answer(fmt.Sprint(engine.wg.ConfigureDevice(DeviceName(0), none)))
		case "clean":
			stop()
			<-done
			if err := Clean(context.Background()); err != nil {
				answer(err.Error())
				continue
			}
			answer("")
		default:
			var t Topology
			if err := json.Unmarshal([]byte(line), &t); err != nil {
				return fail(err)
			}
			engine.Set(t)
			answer(settle(engine))
		}
	}
}

// usage is the processor time that this process has used.
func usage() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func rounds(e *Engine) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status.rounds
}

// settle waits for a round that made everything as wanted; it returns the last trouble after 5 s.
func settle(engine *Engine) string {
	deadline := time.Now().Add(5 * time.Second)
	for {
		engine.mu.Lock()
		settled, err := engine.topo == engine.status.settled, engine.status.err
		engine.mu.Unlock()
		if settled {
			return ""
		}
		if time.Now().After(deadline) {
			return fmt.Sprint(err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func answer(v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(data))
}

// probeCall is what a pod is to try.
type probeCall struct {
	Proto string // tcp, udp or icmp
	To    netip.AddrPort
	Size  int
	Once  bool // the way is known to be up: a lost packet is refused
}

// podMain answers on TCP and UDP port 7000 with the source it saw and what it got, and makes calls that stdin asks for.
func podMain() int {
	for _, serve := range []func() error{serveTCP, serveUDP} {
		if err := serve(); err != nil {
			return fail(err)
		}
	}
	fmt.Println("ready")
	in := json.NewDecoder(os.Stdin)
	for {
		var c probeCall
		if err := in.Decode(&c); err != nil {
			return 0
		}
		source, err := c.do()
		if err != nil {
			source = "error: " + err.Error()
		}
		answer(source)
	}
}

const podPort = 7000

func serveTCP() error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", podPort))
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintln(c, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return nil
}

func serveUDP() error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: podPort})
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort([]byte(fmt.Sprintf("%s\n%s", from.Addr().Unmap(), buf[:n])), from)
		}
	}()
	return nil
}

// do makes the call and returns the source address that the other side saw.
func (c probeCall) do() (string, error) {
	if c.Proto == "icmp" {
		return c.ping()
	}
	patience, tries := 700*time.Millisecond, 5
	if c.Once {
		patience, tries = 200*time.Millisecond, 1
	}
	conn, err := net.DialTimeout(c.Proto, c.To.String(), patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	payload := []byte(strings.Repeat("x", c.Size))
	// Each try of UDP waits a little: the first large one may be lost to path MTU discovery.
	for range tries {
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err = conn.Write(payload); err != nil {
			continue
		}
		reader := bufio.NewReaderSize(conn, 65536)
		var source string
		if source, err = reader.ReadString('\n'); err == nil {
			if _, err = io.ReadFull(reader, make([]byte, c.Size)); err == nil {
				return strings.TrimSpace(source), nil
			}
		}
		if c.Proto == "tcp" {
			break
		}
	}
	return "", err
}

// ping needs the source from nobody: an echo shows that both ways pass.
func (c probeCall) ping() (string, error) {
	network, proto, kind := "ip4:icmp", 1, icmp.Type(ipv4.ICMPTypeEcho)
	if c.To.Addr().Is6() {
		network, proto, kind = "ip6:ipv6-icmp", 58, ipv6.ICMPTypeEchoRequest
	}
	conn, err := icmp.ListenPacket(network, "")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	m := icmp.Message{Type: kind, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: make([]byte, c.Size)}}
	data, err := m.Marshal(nil)
	if err != nil {
		return "", err
	}
	tries := 3
	if c.Once {
		tries = 1
	}
	for range tries {
		if _, err = conn.WriteTo(data, &net.IPAddr{IP: c.To.Addr().AsSlice()}); err != nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		buf := make([]byte, 65536)
		for {
			var n int
			var from net.Addr
			if n, from, err = conn.ReadFrom(buf); err != nil {
				break
			}
			got, parseErr := icmp.ParseMessage(proto, buf[:n])
			if parseErr == nil && from.String() == c.To.Addr().String() && (got.Type == ipv4.ICMPTypeEchoReply || got.Type == ipv6.ICMPTypeEchoReply) {
				return "echo", nil
			}
		}
	}
	return "", err
}
