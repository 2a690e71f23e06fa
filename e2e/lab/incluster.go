package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/yaml"

	"github.com/spillway-dev/spillway/charts"
)

// ImportImage makes the images of a docker archive known to every real node,
// under the names that the archive gives them. Nodes keep them when they are
// killed.
func (l *Lab) ImportImage(ctx context.Context, archive string) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range l.clusters {
		for _, node := range l.real.names(i) {
			g.Go(func() error { return l.RealNodes().Import(ctx, node, archive) })
		}
	}
	return g.Wait()
}

// LoadSpillway packs spillwayd (o.Binary) as the image that the chart of this
// checkout asks for, and imports it. It needs Options.InCluster.
func (l *Lab) LoadSpillway(ctx context.Context, o SpillwayOptions) error {
	o, err := o.withDefaults(ctx, l)
	if err != nil {
		return err
	}
	version, err := chartVersion()
	if err != nil {
		return err
	}
	archive, err := PackSpillwayd(ctx, o.Binary, version, filepath.Join(l.dir, "images"))
	if err != nil {
		return err
	}
	if err := l.ImportImage(ctx, archive); err != nil {
		return err
	}
	l.progress("the image of spillwayd %s is on all real nodes", version)
	return nil
}

// chartVersion is the tag of the image that the chart asks for by default.
func chartVersion() (string, error) {
	chart, err := charts.Load()
	if err != nil {
		return "", err
	}
	return chart.AppVersion(), nil
}

// PackSpillwayd writes the image of a built spillwayd for this machine, as a
// docker archive in folder. The version becomes the image's tag.
func PackSpillwayd(ctx context.Context, binary, version, folder string) (archive string, err error) {
	root, err := checkout()
	if err != nil {
		return "", err
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return "", fmt.Errorf("pack spillwayd: %w", err)
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return "", fmt.Errorf("pack spillwayd: %w", err)
	}
	platform := "linux/" + runtime.GOARCH
	cmd := exec.CommandContext(ctx, "go", "run", "./build/images", "--platforms", platform, "--program", binary, "--version", version, "--out", folder)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("pack spillwayd: %w\n%s", err, out)
	}
	return filepath.Join(folder, fmt.Sprintf("spillwayd-%s-linux-%s.tar", version, runtime.GOARCH)), nil
}

// installAll puts Spillway into all clusters as users do.
func (l *Lab) installAll(ctx context.Context, o SpillwayOptions) error {
	if !l.opts.InCluster {
		return invalid("Spillway can run in the clusters only if Options.InCluster says so from the start")
	}
	if err := l.LoadSpillway(ctx, o); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range l.clusters {
		g.Go(func() error {
			if err := c.install(ctx, o); err != nil {
				return err
			}
			l.progress("cluster %s: Spillway is installed", c.Name())
			return nil
		})
	}
	return g.Wait()
}

// install runs `spillway install`.
func (c *Cluster) install(ctx context.Context, o SpillwayOptions) error {
	values, err := yaml.Marshal(o.Values)
	if err != nil {
		return fmt.Errorf("write the values of cluster %s: %w", c.Name(), err)
	}
	file := c.layout.file("values.yaml")
	if err := os.WriteFile(file, values, 0o600); err != nil {
		return fmt.Errorf("write the values of cluster %s: %w", c.Name(), err)
	}
	args := []string{"install", "--kubeconfig", c.lab.Kubeconfig(), "--context", c.Name(), "--values", file}
	if o.Agents {
		args = append(args, "--gateway-nodes", strings.Join(c.lab.real.names(c.index), ","))
	} else {
		args = append(args, "--no-tunnel")
	}
	if out, err := exec.CommandContext(ctx, o.CLI, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("install Spillway in cluster %s: %w\n%s", c.Name(), err, out)
	}
	return nil
}
