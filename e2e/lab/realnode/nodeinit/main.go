// Command nodeinit is the first process of a lab's node.
//
//	nodeinit launch SPEC   joins the node's cgroups, starts "nodeinit init SPEC" in new namespaces, prints its pid and ends
//	nodeinit init SPEC     becomes the node
//
// Killing the second one removes the node: the kernel ends everything in its pid namespace and drops its mounts and devices.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "nodeinit:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: nodeinit launch|init SPEC")
	}
	spec, err := nodespec.Read(args[1])
	if err != nil {
		return err
	}
	switch args[0] {
	case "launch":
		return launch(spec, args[1])
	case "init":
		return become(spec)
	}
	return fmt.Errorf("unknown verb %q", args[0])
}

// launch runs in two steps because a cgroup namespace is rooted where its creator is: first join, then clone.
func launch(spec nodespec.Spec, path string) error {
	for _, cg := range spec.Cgroups {
		procs := filepath.Join(cg.Path(), "cgroup.procs")
		if err := os.WriteFile(procs, []byte("0"), 0); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(spec.Dir, "log", "init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(self, "init", path)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PATH="+nodespec.BinInNode+":/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: namespaces(spec.Role)}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", spec.Hostname, err)
	}
	fmt.Println(strconv.Itoa(cmd.Process.Pid))
	if spec.Role == nodespec.Images {
		return cmd.Wait()
	}
	return nil
}

func namespaces(role nodespec.Role) uintptr {
	if role == nodespec.Router {
		return unix.CLONE_NEWNET
	}
	return unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP
}

// become turns this process into the node. It returns only on errors, or when a node of the role Images is done.
func become(spec nodespec.Spec) error {
	if spec.Role == nodespec.Router {
		if err := writeSysctls(spec.Sysctls); err != nil {
			return err
		}
		return hold()
	}
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := enterRoot(spec); err != nil {
		return err
	}
	if err := writeSysctls(spec.Sysctls); err != nil {
		return err
	}
	if err := shadow(spec.Shadowed); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	return newSupervisor(spec).run()
}

// hold waits until it is told that the namespace is in use, and then for ever; it ends when whoever started it died before.
func hold() error {
	phases := readPhases(os.Stdin)
	if p, ok := <-phases; !ok || p != nodespec.PhaseNetwork {
		return fmt.Errorf("the starter ended before the network was ready")
	}
	for {
		_ = unix.Pause() // returns after each signal that is handled, such as the runtime's own
	}
}

func writeSysctls(values map[string]string) error {
	for name, value := range values {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
			return fmt.Errorf("set sysctl: %w", err)
		}
	}
	return nil
}

// shadow covers machine-wide sysctls with files of the node's own.
func shadow(values map[string]string) error {
	for name, value := range values {
		target := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(target); err != nil {
			continue // a kernel without it
		}
		cover := filepath.Join("/run/sysctl", name)
		if err := os.MkdirAll(filepath.Dir(cover), 0o755); err != nil {
			return fmt.Errorf("shadow sysctl: %w", err)
		}
		if err := os.WriteFile(cover, []byte(value+"\n"), 0o644); err != nil {
			return fmt.Errorf("shadow sysctl: %w", err)
		}
		if err := unix.Mount(cover, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("shadow sysctl %s: %w", name, err)
		}
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
