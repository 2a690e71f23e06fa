package probe

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestProber_DeviceLimitsAndRouteDoesNot probes where the device takes less than is hoped for, and the route says that
// packets must be smaller still: only the device counts.
func TestProber_DeviceLimitsAndRouteDoesNot(t *testing.T) {
	const device, route = 2000, 1300
	if os.Getenv("PROBE_TEST_INSIDE") == "" {
		inNewNamespace(t)
		return
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{netlink.LinkSetMTU(lo, device), netlink.LinkSetUp(lo)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, addrs := range map[string][2]string{"IPv6": {"fd77::1", "fd77::2"}, "IPv4": {"10.77.0.1", "10.77.0.2"}} {
		t.Run(name, func(t *testing.T) {
			var a [2]netip.Addr
			for n, text := range addrs {
				a[n] = netip.MustParseAddr(text)
				host := &net.IPNet{IP: a[n].AsSlice(), Mask: net.CIDRMask(a[n].BitLen(), a[n].BitLen())}
				if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: host, Flags: unix.IFA_F_NODAD}); err != nil {
					t.Fatal(err)
				}
				limited := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: host, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, MTU: route, Scope: netlink.SCOPE_HOST}
				if err := netlink.RouteReplace(limited); err != nil {
					t.Fatal(err)
				}
			}
			here, there := New(Options{Port: 4001, remotePort: 4002}), New(Options{Port: 4002, remotePort: 4001})
			key := Key{Peer: "x"}
			here.Set([]Target{{Key: key, Local: a[0], Remote: a[1], Initiate: true, MaxMTU: 8920}})
			there.Set([]Target{{Key: key, Local: a[1], Remote: a[0], MaxMTU: 8920}})
			run(t, there)
			run(t, here)
			for range 100 {
				if s, _ := here.State(key); s.Up && s.MTU > device-searchGrain && s.MTU <= device {
					return
				}
				<-time.After(50 * time.Millisecond)
			}
			s, _ := here.State(key)
			t.Errorf("state %+v, want up with nearly %d", s, device)
		})
	}
}

// inNewNamespace runs the test again in a network namespace of its own.
func inNewNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "PROBE_TEST_INSIDE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
