package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Component gives the process of a component (see the constants), for its
// Usage, PID and Log; nil when the cluster has none.
func (c *Cluster) Component(name string) *Proc {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.procs[name]
}

// Components lists the names of the cluster's components in order.
func (c *Cluster) Components() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for n := range c.procs {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Kill ends a component or a node at once, as a crash would; it stays away
// until Restart. Killing a simulated node takes it from kwok: its lease is no
// longer renewed and its pods stand still. Killing a real one ends its
// processes; NODE/COMPONENT only that of its containerd, kubelet or kube-proxy.
func (c *Cluster) Kill(ctx context.Context, name string) error {
	if p := c.Component(name); p != nil {
		return p.Kill()
	}
	if c.isReal(name) {
		return c.lab.real.kill(ctx, name)
	}
	if err := c.checkSimulated(ctx, name); err != nil {
		return err
	}
	return setSimulated(ctx, c.client(), name, false)
}

// Restart kills a component or a node if it runs, and starts it again. For
// etcd and the API server it waits until the API server is ready.
func (c *Cluster) Restart(ctx context.Context, name string) error {
	if p := c.Component(name); p != nil {
		if err := p.Restart(); err != nil {
			return err
		}
		if name == Etcd || name == APIServer {
			return c.waitFor(ctx, name, c.apiReady)
		}
		return nil
	}
	if c.isReal(name) {
		return c.lab.real.restart(ctx, name)
	}
	if err := c.checkSimulated(ctx, name); err != nil {
		return err
	}
	return setSimulated(ctx, c.client(), name, true)
}

// isReal takes NODE and NODE/COMPONENT.
func (c *Cluster) isReal(name string) bool {
	node, _, _ := strings.Cut(name, "/")
	return slices.Contains(c.lab.real.names(c.index), node)
}

// checkSimulated: an unknown name, or a node of others such as a virtual node,
// is an error that says what there is.
func (c *Cluster) checkSimulated(ctx context.Context, name string) error {
	nodes := c.simulatedNames()
	if slices.Contains(nodes, name) {
		return nil
	}
	_, err := c.client().CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil:
		return fmt.Errorf("node %s of cluster %s does not belong to the lab, so the lab cannot kill or restart it", name, c.Name())
	case apierrors.IsNotFound(err):
		return fmt.Errorf("cluster %s has no component or node %q: its components are %v, its nodes %v",
			c.Name(), name, c.Components(), append(c.lab.real.names(c.index), nodes...))
	default:
		return fmt.Errorf("get node %s of cluster %s: %w", name, c.Name(), err)
	}
}

func (c *Cluster) simulatedNames() []string {
	var names []string
	for _, n := range simulatedNodes(c.index, c.opts) {
		names = append(names, n.Name)
	}
	return names
}
