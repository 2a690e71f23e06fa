package probe

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestProber_StoppedProcessReportsNothing stops a process that probes, and lets it go on.
func TestProber_StoppedProcessReportsNothing(t *testing.T) {
	target := Target{Key: Key{Peer: "x"}, Local: netip.IPv6Loopback(), Remote: netip.IPv6Loopback(), MaxMTU: 1420}
	if ports := strings.Fields(os.Getenv("PROBE_TEST_PORTS")); len(ports) == 2 {
		beStopped(t, target, ports)
		return
	}
	ports := [2]uint16{freePort(t), freePort(t)}
	p := New(Options{Port: ports[1], remotePort: ports[0]})
	p.Set([]Target{target})
	run(t, p)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProber_StoppedProcessReportsNothing$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("PROBE_TEST_PORTS=%d %d", ports[0], ports[1]))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "up=true mtu=1420") {
	}
	for _, s := range []struct {
		signal syscall.Signal
		then   time.Duration
	}{{syscall.SIGSTOP, 3 * time.Second}, {syscall.SIGCONT, 1500 * time.Millisecond}} {
		if err := cmd.Process.Signal(s.signal); err != nil {
			t.Fatal(err)
		}
		<-time.After(s.then)
	}
	_ = in.Close() // the process ends by it
	for lines.Scan() {
		if strings.Contains(lines.Text(), "up=") {
			t.Errorf("after the stop it said %q", lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// beStopped probes and says every change until its input ends.
func beStopped(t *testing.T, target Target, ports []string) {
	var p *Prober
	number := func(text string) uint16 {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		return uint16(n)
	}
	p = New(Options{Port: number(ports[0]), remotePort: number(ports[1]), Changed: func(k Key) {
		s, _ := p.State(k)
		fmt.Printf("up=%v mtu=%d\n", s.Up, s.MTU)
	}})
	target.Initiate = true
	p.Set([]Target{target})
	run(t, p)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
