package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Sysctls is where the kernel's network settings are. In a container that is not privileged they can only be read there: it is to
// have the host's folder somewhere else. What they are of is the network namespace of this process in both.
const Sysctls = "/proc/sys/net"

// settings, below the folder dir, writes what the kernel must be told beside links and routes. Forwarding stays on when we go: the cluster's
// own network needs it too. The settings of our links go with them.
func settings(dir string, want Config) error {
	var all []error
	set := func(value string, path ...string) {
		file := filepath.Join(append([]string{dir}, path...)...)
		now, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || strings.TrimSpace(string(now)) == value {
			return // a kernel without IPv6, or nothing to do
		}
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			all = append(all, fmt.Errorf("set %s to %s: %w", file, value, err))
		}
	}
	for _, l := range want.Links {
		set("2", "ipv4", "conf", l.Name, "rp_filter") // loose: a source may come by one slot and be answered by another
		set("0", "ipv6", "conf", l.Name, "accept_ra")
	}
	if len(want.Links) > 0 {
		set("1", "ipv4", "ip_forward")
		if slices.ContainsFunc(want.Packets.Own, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
			set("1", "ipv6", "conf", "all", "forwarding")
		}
	}
	return errors.Join(all...)
}

// plannedFor is what Plan said last, and of what.
type plannedFor struct {
	topo     *Topology
	uplink   string
	underlay int
	config   Config
}
