package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/spillway-dev/spillway/e2e/lab"
)

const (
	// plainNamespace holds what runs on a cluster's own nodes, awayNamespace what runs on the virtual node.
	plainNamespace = "bench-plain"
	awayNamespace  = "bench-away"

	labelOffload, offloadEnabled = "spillway.dev/offload", "enabled"

	// nodesPerCluster of 250 pods each have room for the largest load twice.
	nodesPerCluster = 10
)

// side is one cluster as the bench sees it: straight, not through the link that is slowed down.
type side struct {
	client  kubernetes.Interface
	tally   *tally
	cluster *lab.Cluster // nil when it is not ours
}

// bed is a peered pair of clusters to measure on.
type bed struct {
	consumer, provider *side
	node               string // the virtual node, in the consumer
	image              string
	lab                *lab.Lab // nil when the clusters are not ours
	stop               context.CancelFunc
	made               []madeNamespace
}

type madeNamespace struct {
	side *side
	name string
}

// openBed makes two peered clusters, or finds those that were named. The caller closes it.
func openBed(ctx context.Context, o options, say *teller, audit bool) (*bed, error) {
	b := &bed{node: o.node, image: o.image, stop: func() {}}
	var consumer, provider *rest.Config
	var err error
	if o.outside() {
		consumer, provider, err = findClusters(o)
	} else {
		consumer, provider, err = b.startClusters(ctx, say, audit)
	}
	if err == nil {
		err = b.open(ctx, consumer, provider)
	}
	if err != nil {
		b.close(context.WithoutCancel(ctx))
		return nil, err
	}
	return b, nil
}

func findClusters(o options) (consumer, provider *rest.Config, err error) {
	load := func(name string) (*rest.Config, error) {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = o.kubeconfig
		c, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: name}).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("find the cluster of context %q: %w", name, err)
		}
		return c, nil
	}
	if consumer, err = load(o.consumer); err != nil {
		return nil, nil, err
	}
	provider, err = load(o.provider)
	return consumer, provider, err
}

// startClusters makes the lab and peers its clusters through the link to the provider.
func (b *bed) startClusters(ctx context.Context, say *teller, audit bool) (consumer, provider *rest.Config, err error) {
	b.lab, err = lab.Up(ctx, lab.Options{Clusters: lab.DefaultClusters(nodesPerCluster), Progress: say, Audit: audit})
	if err != nil {
		return nil, nil, err
	}
	if err := b.lab.StartSpillway(ctx, lab.SpillwayOptions{}); err != nil {
		return nil, nil, err
	}
	if err := b.peer(ctx); err != nil {
		return nil, nil, err
	}
	say.line("peered: west is a virtual node of east")
	b.node = "spillway-west"
	return b.lab.Cluster("east").Config(), b.lab.Cluster("west").Config(), nil
}

// peer runs the command that people run.
func (b *bed) peer(ctx context.Context) error {
	program := filepath.Join(b.lab.Dir(), "spillway")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/spillway-dev/spillway/cmd/spillway")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if words, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build spillway: %w\n%s", err, words)
	}
	peer := exec.CommandContext(ctx, program, "peer", "--kubeconfig", b.lab.Kubeconfig(), "--context", "east", "--remote-context", "west")
	if words, err := peer.CombinedOutput(); err != nil {
		return fmt.Errorf("peer the clusters: %w\n%s", err, words)
	}
	return nil
}

// open makes clients, namespaces and watches.
func (b *bed) open(ctx context.Context, consumer, provider *rest.Config) error {
	watching, stop := context.WithCancel(ctx)
	b.stop = stop
	for _, s := range []struct {
		to     **side
		config *rest.Config
		name   string
	}{{&b.consumer, consumer, "east"}, {&b.provider, provider, "west"}} {
		config := rest.CopyConfig(s.config)
		config.QPS = -1
		config.ContentType = runtime.ContentTypeProtobuf
		config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON // versions come as JSON only
		config.UserAgent = "bench"
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return fmt.Errorf("make a client for %s: %w", config.Host, err)
		}
		*s.to = &side{client: client, tally: newTally(watching, client)}
		if b.lab != nil {
			(*s.to).cluster = b.lab.Cluster(s.name)
		}
	}
	if err := b.makeNamespaces(ctx); err != nil {
		return err
	}
	for _, s := range b.sides() {
		select {
		case <-s.tally.synced:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (b *bed) sides() []*side { return []*side{b.consumer, b.provider} }

func (b *bed) makeNamespaces(ctx context.Context) error {
	for _, want := range []struct {
		side   *side
		name   string
		labels map[string]string
	}{
		{b.consumer, plainNamespace, nil}, {b.provider, plainNamespace, nil},
		{b.consumer, awayNamespace, map[string]string{labelOffload: offloadEnabled}},
	} {
		_, err := want.side.client.CoreV1().Namespaces().Create(ctx,
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: want.name, Labels: want.labels}}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("namespace %s is there already, from another run: delete it in both clusters and try again", want.name)
		}
		if err != nil {
			return fmt.Errorf("create namespace %s: %w", want.name, err)
		}
		b.made = append(b.made, madeNamespace{want.side, want.name})
	}
	return nil
}

// version is that of the API servers.
func (b *bed) version() (string, error) {
	v, err := b.provider.client.Discovery().ServerVersion()
	if err != nil {
		return "", fmt.Errorf("ask the provider for its version: %w", err)
	}
	return strings.TrimPrefix(v.GitVersion, "v"), nil
}

// slow makes every round trip between the consumer and the provider's API server longer.
func (b *bed) slow(rtt time.Duration) error {
	if b.lab == nil {
		return nil
	}
	return b.provider.cluster.Link().Slow(rtt)
}

// close removes everything that was made. It may be called on a bed that is half open.
func (b *bed) close(ctx context.Context) {
	b.stop()
	if b.lab != nil {
		if err := b.lab.Down(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "bench: the clusters are not removed: %v\n", err)
		}
		return
	}
	var g errgroup.Group
	for _, made := range b.made {
		g.Go(func() error {
			err := made.side.client.CoreV1().Namespaces().Delete(ctx, made.name, metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("delete namespace %s: %w", made.name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v; delete it yourself\n", err)
	}
}
