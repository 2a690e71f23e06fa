package joined

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
)

// nodeAgent is spillwayd node on one node.
type nodeAgent struct {
	w    *world
	side *side
	node string
}

// install puts the program and its kubeconfig where the node sees them.
func (a *nodeAgent) install(ctx context.Context) error {
	const account = "spillway-node"
	token, err := a.side.kube.CoreV1().ServiceAccounts("spillway-system").CreateToken(ctx, account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(86400))}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("request a token for %s: %w", account, err)
	}
	dir := a.w.lab.RealNodes().Dir(a.node)
	program, err := os.ReadFile(filepath.Join(a.w.bin, "spillwayd"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "spillwayd"), program, 0o755); err != nil {
		return err
	}
	kubelet, err := os.ReadFile(filepath.Join(dir, "kubelet.kubeconfig"))
	if err != nil {
		return err
	}
	server := regexp.MustCompile(`https://[0-9.:]+`).Find(kubelet)
	config := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: home, cluster: {server: "%s", certificate-authority-data: "%s"}}]
users: [{name: agent, user: {token: "%s"}}]
contexts: [{name: home, context: {cluster: home, user: agent}}]
current-context: home
`, server, base64.StdEncoding.EncodeToString(a.side.CA()), token.Status.Token)
	return os.WriteFile(filepath.Join(dir, "agent.kubeconfig"), []byte(config), 0o600)
}

// start runs the agent in all namespaces of its node; it ends with the node.
func (a *nodeAgent) start(ctx context.Context) error {
	if err := a.there(ctx); err != nil {
		return err
	}
	cmd, err := a.w.lab.RealNodes().Command(context.WithoutCancel(ctx), a.node, "/node/spillwayd", "node", "--node-name", a.node,
		"--kubeconfig", "/node/agent.kubeconfig")
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(a.w.lab.Dir(), "log", a.node+"-agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // it ends when a test kills the agent or the lab goes down
	return nil
}

// there waits until the node shows the program: one that has just been started mounts its files a moment later.
func (a *nodeAgent) there(ctx context.Context) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, soon, true, func(ctx context.Context) (bool, error) {
		cmd, err := a.w.lab.RealNodes().Command(ctx, a.node, "test", "-x", "/node/spillwayd")
		if err != nil {
			return false, err
		}
		last = cmd.Run()
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("node %s does not show its program: %w", a.node, errors.Join(err, last))
	}
	return nil
}

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
