package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spillway-dev/spillway/e2e/lab/realnode"
)

// ErrNeedsRoot says that real nodes were asked for by a user who is not root.
var ErrNeedsRoot = errors.New("real nodes need root: run as root, or use simulated nodes")

// realNodes is the lab's side of package realnode. A nil one has no nodes.
type realNodes struct {
	config realnode.Config
	tools  realnode.Tools
	plan   realnode.Plan
	nodes  *realnode.Nodes // set by start
}

func (o Options) wantsReal() bool {
	return slices.ContainsFunc(o.Clusters, func(c ClusterOptions) bool { return c.Real > 0 })
}

// checkReal says before anything is made why real nodes cannot start here.
func checkReal(o Options) error {
	if !o.wantsReal() {
		return nil
	}
	if os.Geteuid() != 0 {
		return ErrNeedsRoot
	}
	if missing := realnode.Preflight(); len(missing) > 0 {
		return errors.New(strings.Join(missing, "\n"))
	}
	return nil
}

// realDir is what package realnode has for itself in the state directory.
func realDir(name string) string { return filepath.Join(Dir(name), "real") }

// prepareReal builds what real nodes need; nil when nobody wants some.
func prepareReal(ctx context.Context, o Options, binaries map[string]string) (*realNodes, error) {
	if !o.wantsReal() {
		return nil, nil
	}
	cache, err := cacheBase()
	if err != nil {
		return nil, err
	}
	r := &realNodes{
		config: realnode.Config{Lab: o.Name, Dir: realDir(o.Name)},
		tools: realnode.Tools{Cache: filepath.Join(cache, "real"), Binary: func(_ context.Context, name string) (string, error) {
			return lookup(binaries, name)
		}},
	}
	for _, c := range o.Clusters {
		r.config.Clusters = append(r.config.Clusters, realnode.Cluster{
			Name: c.Name, Nodes: make([]realnode.Node, c.Real),
			PodCIDR: netip.MustParsePrefix(c.PodCIDR), ServiceCIDR: netip.MustParsePrefix(c.ServiceCIDR),
		})
	}
	if err := os.MkdirAll(r.tools.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache folder: %w", err)
	}
	if err := realnode.Prepare(ctx, r.tools); err != nil {
		return nil, fmt.Errorf("prepare the real nodes: %w", err)
	}
	return r, nil
}

// reserve takes the addresses at which the API servers then listen.
func (r *realNodes) reserve(ctx context.Context) error {
	if r == nil {
		return nil
	}
	var err error
	r.plan, err = realnode.Reserve(ctx, r.config, r.tools)
	if err != nil {
		return fmt.Errorf("reserve addresses for the real nodes: %w", err)
	}
	return nil
}

// apiAddress is where nodes of all clusters reach the API server of cluster
// number i; empty when there are no real nodes.
func (r *realNodes) apiAddress(i int) string {
	if r == nil {
		return ""
	}
	return r.plan.Clusters[i].APIServer.String()
}

// start returns when all real nodes are Ready. The clusters may come up
// meanwhile.
func (r *realNodes) start(ctx context.Context, l *Lab) error {
	if r == nil {
		return nil
	}
	var planes []realnode.ControlPlane
	for _, c := range l.clusters {
		planes = append(planes, c)
	}
	r.tools.Progress = l.progress
	var err error
	r.nodes, err = realnode.Start(ctx, r.config, r.plan, r.tools, planes)
	if err != nil {
		return fmt.Errorf("start the real nodes: %w", err)
	}
	return nil
}

// names of the real nodes of cluster number i.
func (r *realNodes) names(i int) []string {
	if r == nil {
		return nil
	}
	var names []string
	for _, n := range r.plan.Clusters[i].Nodes {
		names = append(names, n.Name)
	}
	return names
}

// kill ends a real node, or with NODE/COMPONENT its containerd, kubelet or
// kube-proxy.
func (r *realNodes) kill(ctx context.Context, name string) error {
	if node, component, ok := strings.Cut(name, "/"); ok {
		return r.nodes.KillComponent(ctx, node, component)
	}
	return r.nodes.Kill(ctx, name)
}

func (r *realNodes) restart(ctx context.Context, name string) error {
	if node, component, ok := strings.Cut(name, "/"); ok {
		return r.nodes.RestartComponent(ctx, node, component)
	}
	return r.nodes.Restart(ctx, name)
}

// RealNodes works on the lab's real nodes: runs commands in them, loads
// images, ends them. Nil when there are none.
func (l *Lab) RealNodes() *realnode.Nodes {
	if l.real == nil {
		return nil
	}
	return l.real.nodes
}

// cleanReal removes what real nodes of that lab left, if it ever had any. Only
// root can have made some.
func cleanReal(ctx context.Context, name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return realnode.Clean(ctx, name, realDir(name))
}
