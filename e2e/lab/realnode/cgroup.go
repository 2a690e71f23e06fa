package realnode

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

// parseHierarchies finds the cgroup hierarchies in the text of /proc/self/mountinfo; group becomes the Group of each. Where a
// hierarchy is mounted twice the first mount counts.
func parseHierarchies(mountinfo io.Reader, group string) ([]nodespec.Cgroup, error) {
	var found []nodespec.Cgroup
	seen := map[string]bool{}
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(tail) < 3 {
			continue
		}
		cg := nodespec.Cgroup{Mount: fields[4], Group: group}
		switch tail[0] {
		case "cgroup":
			cg.Options = hierarchyOptions(tail[2])
		case "cgroup2":
		default:
			continue
		}
		if !seen[cg.Options] {
			seen[cg.Options] = true
			found = append(found, cg)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return found, nil
}

// hierarchyOptions keeps the controllers and the name of the super block's options.
func hierarchyOptions(super string) string {
	var kept []string
	for _, option := range strings.Split(super, ",") {
		switch {
		case option == "rw", option == "ro", option == "xattr", option == "clone_children", option == "noprefix",
			strings.HasPrefix(option, "release_agent="):
		default:
			kept = append(kept, option)
		}
	}
	return strings.Join(kept, ",")
}

func hierarchies(group string) ([]nodespec.Cgroup, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer f.Close()
	return parseHierarchies(f, group)
}

// makeGroups makes a node's group in each hierarchy.
func makeGroups(groups []nodespec.Cgroup) error {
	for _, cg := range groups {
		for _, dir := range []string{filepath.Dir(cg.Path()), cg.Path()} {
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make cgroup: %w", err)
			}
			if err := openGroup(cg, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// openGroup does what each kind of hierarchy asks for before a group can be used.
func openGroup(cg nodespec.Cgroup, dir string) error {
	if strings.Contains(cg.Options, "cpuset") {
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), value, 0)
			}
			if err != nil {
				return fmt.Errorf("fill cgroup: %w", err)
			}
		}
	}
	if cg.Options != "" || dir == cg.Path() {
		return nil
	}
	// v2: hand down to the nodes what the machine hands down to us.
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("list cgroup controllers: %w", err)
	}
	for _, c := range strings.Fields(string(controllers)) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
			return fmt.Errorf("enable cgroup controller %s: %w", c, err)
		}
	}
	return nil
}

// removeGroups removes the named groups and all below them, leaves first. Groups whose processes are just ending are tried again
// until ctx ends.
func removeGroups(ctx context.Context, groups []nodespec.Cgroup) error {
	for _, cg := range groups {
		for {
			err := removeTree(cg.Path())
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.EBUSY) {
				return fmt.Errorf("remove cgroup: %w", err)
			}
			if wait(ctx, 20*time.Millisecond) != nil {
				return fmt.Errorf("remove cgroup: %w: a process is still in it", err)
			}
		}
	}
	return nil
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// wait waits for d, or returns the error of ctx.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
