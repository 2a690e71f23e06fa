package realnode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cleanWithin bounds how long Clean waits for processes to end.
const cleanWithin = 20 * time.Second

// Clean removes all that Reserve and Start made for the lab with that name and Config.Dir: processes, devices, cgroups and dir. It
// needs nothing but the two: not the Config, not dir's content. It may be called at any time, also after Start was killed half-way,
// and again. It tries everything before it returns the errors. With the last lab of the machine it puts back the limit that Reserve
// had raised.
//
// Mounts and routes need no work: mounts are in the nodes' namespaces, which end with their processes, and routes end with the uplink.
func Clean(ctx context.Context, lab, dir string) error {
	if lab == "" || !strings.HasPrefix(dir, "/") || dir == "/" {
		return fmt.Errorf("%w: clean lab %q in %q: an absolute directory is needed", ErrInvalid, lab, dir)
	}
	ctx, cancel := context.WithTimeout(ctx, cleanWithin)
	defer cancel()
	errs := []error{killMarked(ctx, dir), removeUplink(deviceName(lab, dir)), restoreLimits()}
	groups, err := hierarchies(groupName(lab, dir))
	errs = append(errs, err, removeGroups(ctx, groups))
	if err := os.RemoveAll(dir); err != nil {
		errs = append(errs, fmt.Errorf("remove directory of the nodes: %w", err))
	}
	return errors.Join(errs...)
}

// Preflight says what this machine lacks for real nodes, one sentence each with what to do; none means that they can start.
func Preflight() []string {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "real nodes need root: run as root, or use simulated nodes")
	}
	packages := []struct{ program, name string }{{"nft", "nftables"}, {"mount", "mount"}, {"nsenter", "util-linux"}}
	for _, p := range packages {
		if _, err := exec.LookPath(p.program); err != nil && !inSbin(p.program) {
			missing = append(missing, fmt.Sprintf("real nodes need the program %s: apt-get install %s", p.program, p.name))
		}
	}
	groups, err := hierarchies("")
	switch {
	case err != nil || len(groups) == 0:
		missing = append(missing, "real nodes need cgroups mounted below /sys/fs/cgroup: mount them, or use simulated nodes")
	case len(groups) == 1 && groups[0].Options == "":
		enabled, _ := os.ReadFile(filepath.Join(groups[0].Mount, "cgroup.subtree_control"))
		for _, c := range lackingControllers(string(enabled)) {
			missing = append(missing, fmt.Sprintf("real nodes need the cgroup controller %s: echo +%[1]s > %s/cgroup.subtree_control", c, groups[0].Mount))
		}
	}
	return missing
}

// lackingControllers are those that kubelet insists on and a v2 hierarchy does not hand down.
func lackingControllers(enabled string) []string {
	var lacking []string
	for _, c := range []string{"cpu", "cpuset", "memory", "pids"} {
		if !slices.Contains(strings.Fields(enabled), c) {
			lacking = append(lacking, c)
		}
	}
	return lacking
}

// inSbin: a user's PATH often lacks the directories that the nodes' PATH has.
func inSbin(program string) bool {
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if _, err := os.Stat(dir + program); err == nil {
			return true
		}
	}
	return false
}
