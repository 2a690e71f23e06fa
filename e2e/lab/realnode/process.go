package realnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

// process is a running process that carries the mark of a node.
type process struct {
	pid  int
	dir  string // the node's Spec.Dir
	init bool   // process 1 of its own pid namespace, or the router
}

// marked finds the processes of the nodes below dir, the routers included. Processes that end meanwhile are left out.
func marked(dir string) ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		node, ok := markOf(pid)
		if ok && (node == dir || strings.HasPrefix(node, dir+"/")) {
			found = append(found, process{pid: pid, dir: node, init: isInit(pid)})
		}
	}
	return found, nil
}

func markOf(pid int) (dir string, ok bool) {
	environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return "", false
	}
	for _, v := range bytes.Split(environ, []byte{0}) {
		if value, ok := strings.CutPrefix(string(v), nodespec.EnvNode+"="); ok {
			return value, true
		}
	}
	return "", false
}

// isInit says whether the process is "nodeinit init", by its command line: the launcher and the components have others.
func isInit(pid int) bool {
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return false
	}
	args := strings.Split(string(cmdline), "\x00")
	return len(args) > 2 && args[1] == "init"
}

// initOf finds the first process of the node with that directory; 0 when it does not run.
func initOf(dir string) (int, error) {
	all, err := marked(dir)
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		if p.init && p.dir == dir {
			return p.pid, nil
		}
	}
	return 0, nil
}

// killMarked ends all processes of the nodes below dir and waits until they are gone; ctx bounds the wait.
func killMarked(ctx context.Context, dir string) error {
	for {
		all, err := marked(dir)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return nil
		}
		for _, p := range all {
			if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d: %w", p.pid, err)
			}
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %d processes of %s to end: %w", len(all), dir, err)
		}
	}
}
