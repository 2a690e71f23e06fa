// Command guest is the first program of the virtual machine of package kernelvm. It loads the kernel's modules, runs
// each scenario, writes one line with the outcome of each to the console, and switches the machine off.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(nodeMain(role))
	}
	if err := prepare(); err != nil {
		fmt.Println("vm-fail prepare:", err)
	}
	for _, s := range []struct {
		name string
		run  func() (detail string, err error)
	}{
		{"device", runDevice},
		{"engine", runEngine},
	} {
		if detail, err := s.run(); err != nil {
			fmt.Printf("vm-fail %s: %v\n", s.name, err)
		} else {
			fmt.Printf("vm-pass %s: %s\n", s.name, detail)
		}
	}
	fmt.Println("vm-end")
	_ = syscall.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// prepare does what the first program of a system does.
func prepare() error {
	var all []error
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			all = append(all, fmt.Errorf("mount %s: %w", m[1], err))
		}
	}
	files, err := filepath.Glob("/modules/*")
	all = append(all, err)
	slices.Sort(files)
	for _, name := range files {
		all = append(all, load(name))
	}
	return errors.Join(all...)
}

func load(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	// ENODEV: code for a processor that this one is not; another module does the same.
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("load %s: %w", name, err)
	}
	return nil
}
