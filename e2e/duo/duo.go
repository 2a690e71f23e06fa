// Package duo starts what tests and benches of offloaded pods stand on: two clusters with a real node each, Spillway in both, and
// the second, west, lends to the first, east. It knows nothing of the pods that then run there.
//
//	d, err := duo.Start(ctx, duo.Options{Dir: t.TempDir(), Root: "../.."})
//	if err != nil { … }
//	defer d.Down(context.WithoutCancel(ctx))
package duo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/e2e/lab/realnode"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

const (
	East = "east" // home, the consumer
	West = "west" // the peer, the provider
	// VirtualNode is the node that stands for west in east.
	VirtualNode = "spillway-" + West
	// Soon is how long anything here may take on a busy machine.
	Soon = 30 * time.Second
)

// Options of Start. Dir and Root must be given.
type Options struct {
	// Dir gets the built programs.
	Dir string
	// Root of the checkout.
	Root string
	// Metrics runs metrics-server beside both clusters.
	Metrics bool
	// Tunnel joins the pods of both clusters: their nodes are gateways with an agent each.
	Tunnel bool
	// InCluster runs Spillway in pods of both clusters, as people install it, instead of beside them; ArgsOf is not for this way.
	InCluster bool
	// Values of the chart, for InCluster.
	Values map[string]any
	// ArgsOf gives a cluster's spillwayd more arguments; nil: none.
	ArgsOf func(cluster string) []string
	// Progress gets a line per step; nil: none.
	Progress io.Writer
}

// Duo is the two clusters. Safe for concurrent use.
type Duo struct {
	Lab *lab.Lab
	// Home and Away are administrators of east and west.
	Home, Away kubernetes.Interface
	// Node is the real node of east.
	Node string

	bin string
}

// Missing says why real nodes cannot run here; nil when they can.
func Missing() []string {
	if os.Geteuid() != 0 {
		return []string{"needs root: real nodes"}
	}
	return realnode.Preflight()
}

// Start returns when west lends to east and no scheduler takes a node for not ready. The caller owns them and has to call Down;
// after an error nothing is left.
func Start(ctx context.Context, o Options) (*Duo, error) {
	d := &Duo{bin: o.Dir}
	build := exec.CommandContext(ctx, "go", "build", "-o", d.bin, "./cmd/spillway", "./cmd/spillwayd")
	build.Dir, build.Env = o.Root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	var err error
	d.Lab, err = lab.Up(ctx, lab.Options{Progress: o.Progress, InCluster: o.InCluster, Clusters: []lab.ClusterOptions{
		{Name: East, Real: 1, Metrics: o.Metrics}, {Name: West, Real: 1, Metrics: o.Metrics},
	}})
	if err != nil {
		return nil, err
	}
	if err := d.start(ctx, o); err != nil {
		return nil, errors.Join(err, d.Down(context.WithoutCancel(ctx)))
	}
	return d, nil
}

// Down takes the lab away.
func (d *Duo) Down(ctx context.Context) error { return d.Lab.Down(ctx) }

func (d *Duo) start(ctx context.Context, o Options) error {
	err := d.Lab.StartSpillway(ctx, lab.SpillwayOptions{
		Binary: filepath.Join(d.bin, "spillwayd"), CLI: filepath.Join(d.bin, "spillway"), ArgsOf: o.ArgsOf, Agents: o.Tunnel,
		InCluster: o.InCluster, Values: o.Values,
	})
	if err != nil {
		return err
	}
	for cluster, client := range map[string]*kubernetes.Interface{East: &d.Home, West: &d.Away} {
		config := rest.CopyConfig(d.Lab.Cluster(cluster).Config())
		config.QPS, config.Burst, config.ContentType = 500, 500, runtime.ContentTypeProtobuf
		if *client, err = kubernetes.NewForConfig(config); err != nil {
			return err
		}
		if err := Controls(ctx, *client); err != nil {
			return err
		}
	}
	nodes, err := d.Home.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(nodes.Items) != 1 {
		return fmt.Errorf("home has %d nodes, not one", len(nodes.Items))
	}
	d.Node = nodes.Items[0].Name
	if err := d.Peer(ctx); err != nil || !o.Tunnel {
		return err
	}
	return d.joined(ctx)
}

// joined waits until both sides say that the tunnel is up.
func (d *Duo) joined(ctx context.Context) error {
	for cluster, peer := range map[string]string{East: West, West: East} {
		peerings, err := peeringclient.New(d.Lab.Cluster(cluster).Config())
		if err != nil {
			return err
		}
		if err := Until(ctx, Soon, func(ctx context.Context) error {
			p, err := peerings.Get(ctx, peer, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionTunnelUp); c == nil || c.Status != metav1.ConditionTrue {
				return fmt.Errorf("in %s the tunnel to %s is not up: %+v", cluster, peer, c)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// Peer makes west lend to east, and waits until no cluster takes a node for not ready: the node controller takes that back a moment
// after the node has said so, and until then a scheduler warns.
func (d *Duo) Peer(ctx context.Context) error {
	if out, err := d.Spillway(ctx, "peer", "--context", East, "--remote-context", West, "--timeout", "30s"); err != nil {
		return fmt.Errorf("peer: %w\n%s", err, out)
	}
	for _, kube := range []kubernetes.Interface{d.Home, d.Away} {
		if err := Until(ctx, Soon, func(ctx context.Context) error { return settled(ctx, kube) }); err != nil {
			return err
		}
	}
	return nil
}

// Controls waits until a spillwayd works for the cluster.
func Controls(ctx context.Context, kube kubernetes.Interface) error {
	return Until(ctx, Soon, func(ctx context.Context) error {
		_, err := kube.CoordinationV1().Leases(lab.SpillwayNamespace).Get(ctx, lab.Spillwayd, metav1.GetOptions{})
		return err
	})
}

// Spillway runs the command for people with the lab's kubeconfig, and gives what it says.
func (d *Duo) Spillway(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(d.bin, "spillway"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+d.Lab.Kubeconfig())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func settled(ctx context.Context, kube kubernetes.Interface) error {
	nodes, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		for _, taint := range n.Spec.Taints {
			if taint.Key == corev1.TaintNodeNotReady {
				return fmt.Errorf("node %s has the taint %s", n.Name, taint.Key)
			}
		}
	}
	return nil
}

// Namespace makes one at home that may leave, and waits until pods can be made in it.
func (d *Duo) Namespace(ctx context.Context, name string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelOffload: v1alpha1.OffloadEnabled}}}
	if _, err := d.Home.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return err
	}
	return Until(ctx, Soon, func(ctx context.Context) error {
		_, err := d.Home.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// Remote waits until the peer has the namespace that stands for one of home, and gives its name.
func (d *Duo) Remote(ctx context.Context, local string) (string, error) {
	remote := ""
	err := Until(ctx, Soon, func(ctx context.Context) error {
		list, err := d.Away.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelTenant})
		if err != nil {
			return err
		}
		for _, ns := range list.Items {
			if ns.Annotations[v1alpha1.AnnotationOriginNamespace] == local {
				remote = ns.Name
				return nil
			}
		}
		return fmt.Errorf("west has no namespace for %s", local)
	})
	return remote, err
}

// Until waits until holds returns nil, and gives its last error when that is too late: the last that is not only about the end of
// the time.
func Until(ctx context.Context, within time.Duration, holds func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, within, true, func(ctx context.Context) (bool, error) {
		err := holds(ctx)
		if err == nil || last == nil || ctx.Err() == nil {
			last = err
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("not within %s: %w", within, last)
	}
	return nil
}
