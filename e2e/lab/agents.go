package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// agentAccount is the ServiceAccount of the agents, in AgentNamespace.
	agentAccount = "spillway-node"
	agentProgram = "spillwayd"
	gatewayLabel = "spillway.dev/gateway"
	agentConfig  = "agent.kubeconfig"
)

// AgentLog is the file with the output of a node's agent. A restart appends.
func (l *Lab) AgentLog(node string) string { return filepath.Join(l.dir, "log", node+"-agent.log") }

// startAgents makes every real node a gateway and runs an agent on it.
func (c *Cluster) startAgents(ctx context.Context, binary string) error {
	for _, node := range c.lab.real.names(c.index) {
		label := fmt.Appendf(nil, `{"metadata":{"labels":{%q:""}}}`, gatewayLabel)
		if _, err := c.client().CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, label, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("make node %s a gateway: %w", node, err)
		}
		if err := c.InstallAgent(ctx, node, binary); err != nil {
			return err
		}
		if err := c.StartAgent(ctx, node); err != nil {
			return err
		}
		c.lab.progress("cluster %s: the agent of node %s runs", c.Name(), node)
	}
	return nil
}

// InstallAgent puts the program spillwayd (binary) and a kubeconfig where the
// real node sees them. The chart must have been applied, see InstallSpillway.
func (c *Cluster) InstallAgent(ctx context.Context, node, binary string) error {
	dir := c.lab.RealNodes().Dir(node)
	program, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read the program of agents: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, agentProgram), program, 0o755); err != nil {
		return fmt.Errorf("install the agent of node %s: %w", node, err)
	}
	as, err := c.tokenAccess(ctx, AgentNamespace, agentAccount)
	if err != nil {
		return err
	}
	return writeKubeconfig(filepath.Join(dir, agentConfig), as)
}

// StartAgent runs `spillwayd node` in all namespaces of a real node. It ends
// with the node, and its output is in AgentLog.
func (c *Cluster) StartAgent(ctx context.Context, node string) error {
	if err := c.lab.showsAgent(ctx, node); err != nil {
		return err
	}
	cmd, err := c.lab.RealNodes().Command(context.WithoutCancel(ctx), node, "/node/"+agentProgram, "node", "--node-name", node,
		"--kubeconfig", "/node/"+agentConfig)
	if err != nil {
		return fmt.Errorf("start the agent of node %s: %w", node, err)
	}
	log, err := os.OpenFile(c.lab.AgentLog(node), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of the agent of node %s: %w", node, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the agent of node %s: %w", node, err)
	}
	go func() { _ = cmd.Wait() }() // it ends when somebody kills it, or with the node
	return nil
}

// showsAgent waits until the node shows the program: one that has just been
// started mounts its files a moment later.
func (l *Lab) showsAgent(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var last error
	err := poll(ctx, 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		cmd, err := l.RealNodes().Command(ctx, node, "test", "-x", "/node/"+agentProgram)
		if err != nil {
			return false, err
		}
		last = cmd.Run()
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("node %s does not show its program: %w", node, errors.Join(err, last))
	}
	return nil
}
