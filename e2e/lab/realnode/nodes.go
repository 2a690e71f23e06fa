package realnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

// ErrNotRunning says that a node, or the lab's router, is not there.
var ErrNotRunning = errors.New("not running")

// Nodes works on the nodes of a lab. It keeps no state but the lab's directory: several processes may use it at once.
type Nodes struct {
	state state
}

// Open finds the nodes that Start made with that Config.Dir.
func Open(dir string) (*Nodes, error) {
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open real nodes in %s: %w", dir, ErrNotRunning)
	}
	if err != nil {
		return nil, fmt.Errorf("open real nodes: %w", err)
	}
	n := &Nodes{}
	if err := json.Unmarshal(data, &n.state); err != nil {
		return nil, fmt.Errorf("open real nodes: parse %s: %w", stateFile, err)
	}
	return n, nil
}

// Plan is where everything is.
func (ns *Nodes) Plan() Plan { return ns.state.Plan }

// Dir is the host path of a node's directory; its logs are in log/ (init, containerd, kubelet, kube-proxy, pods/).
func (ns *Nodes) Dir(node string) string { return nodeDir(ns.state.Config.Dir, node) }

// PID is the node's first process as the machine sees it; ErrNotRunning when it was killed.
func (ns *Nodes) PID(node string) (int, error) {
	if _, _, err := ns.state.Plan.find(node); err != nil {
		return 0, err
	}
	pid, err := initOf(ns.Dir(node))
	if err == nil && pid == 0 {
		err = fmt.Errorf("node %s: %w", node, ErrNotRunning)
	}
	return pid, err
}

// RouterPID is the process that holds the router's network namespace.
func (ns *Nodes) RouterPID() (int, error) {
	pid, err := initOf(routerDir(ns.state.Config.Dir))
	if err == nil && pid == 0 {
		err = fmt.Errorf("router: %w", ErrNotRunning)
	}
	return pid, err
}

// Kill ends a node as a power cut would: all its processes, mounts and devices are gone when it returns; its disk stays. Killing a
// dead node is no error.
func (ns *Nodes) Kill(ctx context.Context, node string) error {
	pid, err := ns.PID(node)
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill node %s: %w", node, err)
	}
	if err := killMarked(ctx, ns.Dir(node)); err != nil {
		return err
	}
	groups, err := ns.groups(node)
	if err != nil {
		return err
	}
	return removeGroups(ctx, groups)
}

// Restart boots a killed node again from its disk, or power-cycles a running one. It returns when the node's programs are started,
// which is before the node is Ready.
func (ns *Nodes) Restart(ctx context.Context, node string) error {
	if err := ns.Kill(ctx, node); err != nil {
		return err
	}
	i, j, err := ns.state.Plan.find(node)
	if err != nil {
		return err
	}
	router, err := ns.RouterPID()
	if err != nil {
		return err
	}
	spec, err := nodespec.Read(filepath.Join(ns.Dir(node), "spec.json"))
	if err != nil {
		return err
	}
	c := ns.state.Plan.Clusters[i]
	started, err := boot(ctx, ns.state.NodeInit, spec, place{cluster: c, node: c.Nodes[j], router: router})
	if err != nil {
		return err
	}
	defer started.in.Close()
	return started.send(nodespec.PhaseAPI)
}

// KillComponent ends Containerd, Kubelet or KubeProxy on a node with SIGKILL and keeps it down; pods go on.
func (ns *Nodes) KillComponent(ctx context.Context, node, component string) error {
	return ns.control(ctx, node, nodespec.VerbKill, component)
}

// RestartComponent starts a component again, after SIGKILL if it runs.
func (ns *Nodes) RestartComponent(ctx context.Context, node, component string) error {
	return ns.control(ctx, node, nodespec.VerbRestart, component)
}

func (ns *Nodes) control(ctx context.Context, node, verb, component string) error {
	conn, err := ns.ask(ctx, node, verb, component)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Command is a program run inside a node, as root in all its namespaces: for looking at it, or for loading images with ctr. The
// caller runs it. The programs of Binaries are found by name.
func (ns *Nodes) Command(ctx context.Context, node string, args ...string) (*exec.Cmd, error) {
	pid, err := ns.PID(node)
	if err != nil {
		return nil, err
	}
	return enter(ctx, pid, []string{"--all"}, args), nil
}

// RouterCommand is a program run in the router's network namespace, such as nft or tc: to cut or slow the wide-area network. Devices
// are named as in the Plan.
func (ns *Nodes) RouterCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	pid, err := ns.RouterPID()
	if err != nil {
		return nil, err
	}
	return enter(ctx, pid, []string{"--net"}, args), nil
}

func enter(ctx context.Context, pid int, namespaces, args []string) *exec.Cmd {
	words := append([]string{"--target", strconv.Itoa(pid)}, namespaces...)
	cmd := exec.CommandContext(ctx, "nsenter", append(append(words, "--"), args...)...)
	cmd.Env = []string{"PATH=" + nodespec.BinInNode + ":/usr/sbin:/usr/bin:/sbin:/bin", "CONTAINERD_ADDRESS=" + criSocket}
	return cmd
}

// Load makes images known to a node, for pods with imagePullPolicy Never.
func (ns *Nodes) Load(ctx context.Context, node string, images ...Image) error {
	for i, im := range images {
		name := fmt.Sprintf("load-%d-%d.tar", os.Getpid(), i)
		if err := im.packTo(filepath.Join(ns.Dir(node), name)); err != nil {
			return fmt.Errorf("load image %s on %s: %w", im.Name, node, err)
		}
		if err := ns.importFrom(ctx, node, name); err != nil {
			return fmt.Errorf("load image %s on %s: %w", im.Name, node, err)
		}
	}
	return nil
}

// Import makes the images of a docker archive, a file of the host, known to a node under the names that the archive gives them.
func (ns *Nodes) Import(ctx context.Context, node, archive string) error {
	name := fmt.Sprintf("import-%d-%08x.tar", os.Getpid(), hash(archive))
	if err := linkFile(archive, filepath.Join(ns.Dir(node), name), 0o600); err != nil {
		return fmt.Errorf("import %s on %s: %w", archive, node, err)
	}
	if err := ns.importFrom(ctx, node, name); err != nil {
		return fmt.Errorf("import %s on %s: %w", archive, node, err)
	}
	return nil
}

// importFrom imports an archive in the node's directory and removes the file.
func (ns *Nodes) importFrom(ctx context.Context, node, name string) error {
	defer os.Remove(filepath.Join(ns.Dir(node), name))
	cmd, err := ns.Command(ctx, node, "ctr", "-n", "k8s.io", "images", "import", inNode(name))
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (ns *Nodes) groups(node string) ([]nodespec.Cgroup, error) {
	return hierarchies(filepath.Join(groupName(ns.state.Config.Lab, ns.state.Config.Dir), node))
}
