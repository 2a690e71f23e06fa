package joined

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// nodeAgent is spillwayd node on one node.
type nodeAgent struct {
	w    *world
	side *side
	node string
}

// install puts the program and its kubeconfig where the node sees them.
func (a *nodeAgent) install(ctx context.Context) error {
	return a.side.InstallAgent(ctx, a.node, filepath.Join(a.w.bin, "spillwayd"))
}

// start runs the agent in all namespaces of its node; it ends with the node.
func (a *nodeAgent) start(ctx context.Context) error { return a.side.StartAgent(ctx, a.node) }

// pid of the agent itself, as the machine sees it; 0 when it does not run.
func (a *nodeAgent) pid() int {
	want := []byte("/node/spillwayd\x00node\x00--node-name\x00" + a.node + "\x00")
	for pid, command := range commands() {
		if bytes.HasPrefix(command, want) {
			return pid
		}
	}
	return 0
}

// kill ends the agent at once, and returns when it is gone.
func (a *nodeAgent) kill(ctx context.Context) error {
	pid := a.pid()
	if pid == 0 {
		return fmt.Errorf("no agent runs on %s", a.node)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, soon, true, func(context.Context) (bool, error) {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH), nil // its ports are free
	})
}

// commands are the command lines of all processes of the machine.
func commands() map[int][]byte {
	out := map[int][]byte{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return out
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if command, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")); err == nil {
				out[pid] = command
			}
		}
	}
	return out
}

// fault puts rules into the forward chain of the wide-area network; the rules of the last fault go.
func (w *world) fault(ctx context.Context, rules ...string) error {
	text := "add table inet fault\ndelete table inet fault\nadd table inet fault\n" +
		"add chain inet fault forward { type filter hook forward priority 0; }\n" +
		"add chain inet fault post { type nat hook postrouting priority 100; }\n"
	for _, r := range rules {
		text += "add rule inet fault " + r + "\n"
	}
	cmd, err := w.lab.RealNodes().RouterCommand(ctx, "nft", "-f", "-")
	if err != nil {
		return err
	}
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s\n%s", err, out, text)
	}
	return nil
}

// look runs a shell line in a node's network.
func (w *world) look(ctx context.Context, node, line string) (string, error) {
	pid, err := w.lab.RealNodes().PID(node)
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(pid), "--net", "sh", "-c", line).CombinedOutput()
	return string(out), err
}
