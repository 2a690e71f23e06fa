package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-dev/spillway/charts"
)

const (
	// Spillwayd is the name of the component that StartSpillway adds to each
	// cluster, for Component, Kill and Restart.
	Spillwayd = "spillwayd"
	// SpillwayNamespace holds its ServiceAccount, of the name Spillwayd; AgentNamespace that of the agents.
	SpillwayNamespace = charts.ReleaseNamespace
	AgentNamespace    = "spillway-node"
)

// SpillwayOptions says which Spillway to run.
type SpillwayOptions struct {
	// Binary is a built spillwayd; empty means: build that of the checkout.
	Binary string
	// Args follow `controller --kubeconfig FILE --context CLUSTER --webhook-address 127.0.0.1:0 --kubelet-address ADDRESS`, and where
	// there are real nodes the flags that make it tell what pods use. They replace what they repeat. ADDRESS is where nodes and pods
	// reach the API server too, or 127.0.0.1 where there are no real ones.
	Args []string
	// Env is added to the environment.
	Env []string
	// ArgsOf gives what follows Args in one cluster, such as an address of its
	// own; nil means nothing.
	ArgsOf func(cluster string) []string
	// Agents makes every real node a gateway of the tunnel, with an agent
	// (`spillwayd node`) on it.
	Agents bool
	// InCluster runs Spillway in pods of the clusters, as `spillway install`
	// puts them there, and not as processes beside them; Options.InCluster must
	// be set too. Args, Env and ArgsOf are not for this way.
	InCluster bool
	// CLI is a built spillway, for InCluster; empty means: build that of the
	// checkout.
	CLI string
	// Values of the chart, for InCluster.
	Values map[string]any
}

// withDefaults fills in what comes from the checkout.
func (o SpillwayOptions) withDefaults(ctx context.Context, l *Lab) (SpillwayOptions, error) {
	if o.Binary != "" && (o.CLI != "" || !o.InCluster) {
		return o, nil
	}
	root, err := checkout()
	if err != nil {
		return o, err
	}
	if o.Binary == "" {
		o.Binary = filepath.Join(l.dir, "bin", Spillwayd)
		if err := l.build(ctx, root, o.Binary); err != nil {
			return o, err
		}
	}
	if o.InCluster && o.CLI == "" {
		o.CLI = filepath.Join(l.dir, "bin", "spillway")
		return o, l.build(ctx, root, o.CLI)
	}
	return o, nil
}

// build makes a program of the checkout, of the version that the chart says.
func (l *Lab) build(ctx context.Context, root, binary string) error {
	name := filepath.Base(binary)
	version, err := chartVersion()
	if err != nil {
		return err
	}
	l.progress("building %s", name)
	stop := every(15*time.Second, func() { l.progress("still building %s", name) })
	defer stop()
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", VersionFlag(version), "-o", binary, "./cmd/"+name)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s in %s: %w\n%s", name, root, err, out)
	}
	return nil
}

// VersionFlag is what the linker has to be told for a program to have a version.
func VersionFlag(version string) string {
	return "-X github.com/spillway-dev/spillway/internal/version.version=" + version
}

// checkout is the root of the source tree that this program was built from.
func checkout() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..")
	if _, err := os.Stat(filepath.Join(root, "cmd", Spillwayd)); err != nil {
		return "", fmt.Errorf("the checkout that this program was built from is gone (say where spillwayd is): %w", err)
	}
	return root, nil
}

// StartSpillway installs Spillway's kinds and rights in every cluster and runs
// one spillwayd for each, with that cluster's own API server reached directly:
// a cut Link parts clusters, not a cluster from itself. It returns when the
// processes run; they need not be ready yet. With o.InCluster it returns when
// all pods of Spillway are ready; their logs are those of pods.
func (l *Lab) StartSpillway(ctx context.Context, o SpillwayOptions) error {
	o, err := o.withDefaults(ctx, l)
	if err != nil {
		return err
	}
	if o.InCluster {
		return l.installAll(ctx, o)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range l.clusters {
		g.Go(func() error {
			if err := c.startSpillway(ctx, o); err != nil {
				return fmt.Errorf("start Spillway in cluster %s: %w", c.Name(), err)
			}
			l.progress("cluster %s: spillwayd runs", c.Name())
			return nil
		})
	}
	return g.Wait()
}

func (c *Cluster) startSpillway(ctx context.Context, o SpillwayOptions) error {
	if o.ArgsOf != nil {
		o.Args = append(slices.Clone(o.Args), o.ArgsOf(c.Name())...)
	}
	kubeconfig, err := c.InstallSpillway(ctx)
	if err != nil {
		return err
	}
	usage, err := c.usageArgs(ctx)
	if err != nil {
		return err
	}
	p, err := c.lab.Start(ctx, Process{
		Name: c.Name() + "-" + Spillwayd, Path: o.Binary, Env: o.Env,
		Args: slices.Concat([]string{"controller", "--kubeconfig", kubeconfig, "--context", c.Name(), "--webhook-address", "127.0.0.1:0",
			"--kubelet-address", c.layout.port.ip}, usage, o.Args),
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.procs[Spillwayd] = p
	c.mu.Unlock()
	if o.Agents {
		return c.startAgents(ctx, o.Binary)
	}
	return nil
}

// InstallSpillway applies what the chart has for a spillwayd that runs outside of the cluster: CRDs, rights, admission policies,
// storage class. It returns a kubeconfig for spillwayd, whose context is the cluster's name, as its ServiceAccount with these rights.
func (c *Cluster) InstallSpillway(ctx context.Context) (kubeconfig string, err error) {
	outside := map[string]any{"enabled": false}
	manifests, err := charts.Render(map[string]any{"controller": outside, "node": outside}, charts.RenderOptions{})
	if err != nil {
		return "", err
	}
	a, err := newApplier(c.Config())
	if err != nil {
		return "", err
	}
	if err := a.apply(ctx, []byte(spillwayNamespace)); err != nil {
		return "", err
	}
	if err := a.apply(ctx, charts.Join(manifests)); err != nil {
		return "", fmt.Errorf("apply the chart: %w", err)
	}
	if err := a.waitEstablished(ctx); err != nil {
		return "", err
	}
	as, err := c.tokenAccess(ctx, SpillwayNamespace, Spillwayd)
	if err != nil {
		return "", err
	}
	as.name = c.Name()
	path := c.layout.kubeconfig(Spillwayd)
	return path, writeKubeconfig(path, as)
}

// spillwayNamespace is the release's namespace, which Helm makes and no chart.
const spillwayNamespace = `apiVersion: v1
kind: Namespace
metadata:
  name: ` + SpillwayNamespace + `
`
