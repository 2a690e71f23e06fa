package joined

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// TestNATOnOneSide: a provider behind an address translator announces no endpoint and begins itself; everything works,
// also after the translator has forgotten all and maps to other ports.
func TestNATOnOneSide(t *testing.T) {
	w := theWorld(t)
	defer func() {
		w.heal(t)
		if out, err := w.spillway(context.Background(), "peer", "--context", east, "--remote-context", west, "--remote-endpoint", "auto", "--timeout", "60s"); err != nil {
			t.Errorf("back without NAT: %v\n%s", err, out)
		}
	}()
	ns := w.namespace(t, "home", "away")
	home := w.pods(t, ns, "home", "", 2)
	away := w.pods(t, ns, "away", west, 1)
	w.opened(t, home, away)
	w.translator(t, "40000-41000")
	if out, err := w.spillway(t.Context(), "peer", "--context", east, "--remote-context", west, "--remote-endpoint", "none", "--timeout", "60s"); err != nil {
		t.Fatalf("peer: %v\n%s", err, out)
	}
	took := w.passes(t, home[0], away[0])
	for _, h := range home {
		for _, proto := range []string{"tcp", "udp", "icmp"} {
			for _, size := range []int{10, 3000} {
				w.cell(t, h, call{Proto: proto, To: netip.AddrPortFrom(away[0].addr, podPort), Size: size}, w.seen(t, west, east, h.addr))
				w.cell(t, away[0], call{Proto: proto, To: netip.AddrPortFrom(w.seen(t, west, east, h.addr), podPort), Size: size}, away[0].addr)
			}
		}
	}
	w.translator(t, "50000-51000")
	again := w.passes(t, home[0], away[0])
	t.Logf("%s behind NAT: traffic after %s, 24 cells both ways; translator forgets and maps anew: traffic again after %s", west, round(took), round(again))
}

// passes waits until a home pod reaches an away pod.
func (w *world) passes(t *testing.T, home, away *caller) time.Duration {
	t.Helper()
	return eventually(t, time.Minute, "traffic passes", func(context.Context) error {
		if a := home.call(call{Proto: "tcp", To: netip.AddrPortFrom(away.addr, podPort), Size: 10}); a.Error != "" {
			return fmt.Errorf("%s", a.Error)
		}
		return nil
	})
}

// translator puts west behind an address translator that uses these ports, and makes it forget all connections.
func (w *world) translator(t *testing.T, ports string) {
	t.Helper()
	e, p := w.rangeOf(east), w.rangeOf(west)
	err := w.fault(t.Context(), fmt.Sprintf("forward ip saddr %s ip daddr %s ct state new drop", e, p),
		fmt.Sprintf("post ip saddr %s ip daddr %s meta l4proto { tcp, udp } masquerade to :%s", p, e, ports))
	if err != nil {
		t.Fatal(err)
	}
	router, err := w.lab.RealNodes().RouterPID()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "nsenter", "-t", strconv.Itoa(router), "--net", os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"=forget")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("forget connections: %v %s", err, out)
	}
}

// forgetMain makes the kernel forget all connections of this network namespace.
func forgetMain() int {
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
