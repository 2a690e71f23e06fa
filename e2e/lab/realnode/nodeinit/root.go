package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

// shared lists what a node takes from the machine's root, read-only; links are copied as links.
func shared() []string {
	return []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}
}

// fromEtc lists the files of the machine's /etc that programs in the node look for.
func fromEtc() []string {
	return []string{"passwd", "group", "nsswitch.conf", "protocols", "services", "ld.so.cache", "ld.so.conf", "os-release", "localtime"}
}

// kept maps node paths to names in Spec.Dir: what survives a restart of the node, on a real file system because overlayfs needs one.
func kept() map[string]string {
	return map[string]string{
		"var/lib/containerd": "containerd",
		"var/lib/kubelet":    "kubelet",
		"var/lib/cni":        "cni",
		"var/log":            "log",
	}
}

// enterRoot gives this mount namespace a root of its own, a tmpfs, and leaves the machine's behind.
func enterRoot(spec nodespec.Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("detach mounts: %w", err)
	}
	root := filepath.Join(spec.Dir, "root")
	if err := mount("tmpfs", root, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	steps := []func(nodespec.Spec, string) error{shareSystem, fillEtc, mountKernel, mountCgroups, bindKept, bindPrograms}
	for _, step := range steps {
		if err := step(spec, root); err != nil {
			return err
		}
	}
	return pivot(root)
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s (%s) on %s: %w", source, fstype, target, err)
	}
	return nil
}

func shareSystem(_ nodespec.Spec, root string) error {
	for _, name := range shared() {
		host, target := "/"+name, filepath.Join(root, name)
		info, err := os.Lstat(host)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("look at %s: %w", host, err)
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(host)
			if err == nil {
				err = os.Symlink(link, target)
			}
			if err != nil {
				return fmt.Errorf("copy link: %w", err)
			}
			continue
		}
		if err := mount(host, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
		if err := mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return err
		}
	}
	return nil
}

func fillEtc(spec nodespec.Spec, root string) error {
	etc := filepath.Join(root, "etc")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return fmt.Errorf("make /etc: %w", err)
	}
	for _, name := range fromEtc() {
		data, err := os.ReadFile(filepath.Join("/etc", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(etc, name), data, 0o644)
		}
		if err != nil {
			return fmt.Errorf("fill /etc: %w", err)
		}
	}
	for name, content := range spec.Etc {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("fill /etc: %w", err)
		}
	}
	return nil
}

func mountKernel(_ nodespec.Spec, root string) error {
	if err := mount("proc", filepath.Join(root, "proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := mount("sysfs", filepath.Join(root, "sys"), "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := mount("/dev", filepath.Join(root, "dev"), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", filepath.Join(root, "dev/shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return err
	}
	for _, dir := range []string{"run", "tmp", "var/tmp", "root", "home", "mnt", "srv", "opt"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	for _, dir := range []string{"tmp", "var/tmp"} {
		if err := os.Chmod(filepath.Join(root, dir), 0o777|fs.ModeSticky); err != nil {
			return fmt.Errorf("open directory to all: %w", err)
		}
	}
	if err := os.Symlink("/run", filepath.Join(root, "var/run")); err != nil {
		return fmt.Errorf("link /var/run: %w", err)
	}
	return nil
}

// mountCgroups mounts what the node joined: because of its cgroup namespace the roots are its own groups.
func mountCgroups(spec nodespec.Spec, root string) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if len(spec.Cgroups) == 1 && spec.Cgroups[0].Options == "" {
		return mountUnified(filepath.Join(root, "sys/fs/cgroup"))
	}
	if err := mount("tmpfs", filepath.Join(root, "sys/fs/cgroup"), "tmpfs", flags, "mode=755"); err != nil {
		return err
	}
	for _, cg := range spec.Cgroups {
		target := filepath.Join(root, cg.Mount)
		if cg.Options == "" {
			if err := mount("cgroup2", target, "cgroup2", flags, ""); err != nil {
				return err
			}
			continue
		}
		if err := mount("cgroup", target, "cgroup", flags, cg.Options); err != nil {
			return err
		}
		for _, controller := range strings.Split(cg.Options, ",") {
			link := filepath.Join(root, "sys/fs/cgroup", controller)
			if strings.Contains(controller, "=") || link == target {
				continue
			}
			if err := os.Symlink(filepath.Base(target), link); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("link cgroup controller: %w", err)
			}
		}
	}
	return nil
}

// mountUnified also moves this process out of the way: a v2 group that has children with controllers must hold no process.
func mountUnified(target string) error {
	if err := mount("cgroup2", target, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	own := filepath.Join(target, "init")
	if err := os.Mkdir(own, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(own, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("move into cgroup: %w", err)
	}
	controllers, err := os.ReadFile(filepath.Join(target, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("list cgroup controllers: %w", err)
	}
	for _, controller := range strings.Fields(string(controllers)) {
		// It fails until the launcher has ended, which is in the group, too.
		err := retry(func() error {
			return os.WriteFile(filepath.Join(target, "cgroup.subtree_control"), []byte("+"+controller), 0)
		})
		if err != nil {
			return fmt.Errorf("enable cgroup controller %s: %w", controller, err)
		}
	}
	return nil
}

func bindKept(spec nodespec.Spec, root string) error {
	for target, name := range kept() {
		source := filepath.Join(spec.Dir, name)
		if err := os.MkdirAll(source, 0o755); err != nil {
			return fmt.Errorf("make node directory: %w", err)
		}
		if err := mount(source, filepath.Join(root, target), "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return mount(spec.Dir, filepath.Join(root, nodespec.DirInNode), "", unix.MS_BIND, "")
}

// bindPrograms binds whole directories: runc makes an overlay of the directory it is in, and would see an empty file in place of a
// file that is a mount point.
func bindPrograms(spec nodespec.Spec, root string) error {
	for target, source := range spec.Programs {
		if err := mount(source, filepath.Join(root, target), "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func pivot(root string) error {
	old := filepath.Join(root, ".old")
	if err := os.Mkdir(old, 0o700); err != nil {
		return fmt.Errorf("make place for the old root: %w", err)
	}
	if err := unix.PivotRoot(root, old); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Unmount("/.old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := os.Remove("/.old"); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	// kubelet hands mounts to containers and back, which needs a shared root.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	return nil
}
