package peering

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// indexTenant files namespaces under the consumer's cluster id.
const indexTenant = "tenant"

// providerCaches is what a provider watches in its own cluster. A cluster that shares nothing does not run them.
type providerCaches struct {
	ledger     *ledger
	nodes      *live.Cache[*corev1.Node] // the tunnel needs them too
	nodesOnce  sync.Once                 // runs nodes
	pods       *live.Cache[*corev1.Pod]
	namespaces *live.Cache[*corev1.Namespace] // those of tenants
	requests   *live.Cache[*corev1.ConfigMap] // what tenants ask for

	mu   sync.Mutex
	gone []*corev1.Namespace // guarded by mu; see takeGone
}

// newProviderCaches returns caches that are empty until run. requested is called when a tenant asks for something or
// one of its namespaces changes, nodeChanged with each change of a node.
func newProviderCaches(client kubernetes.Interface, requested func(), nodeChanged func(before, now *corev1.Node)) *providerCaches {
	c := &providerCaches{ledger: newLedger()}
	core := client.CoreV1()
	ofTenants := func(o *metav1.ListOptions) { o.LabelSelector = v1alpha1.LabelTenant }
	c.nodes = live.New(live.Options[*corev1.Node]{
		Name: "nodes", ListWatch: live.ListWatch(client, core.Nodes(), nil), Trim: trimNode,
		Changed: func(before, now *corev1.Node) {
			c.ledger.setNode(firstSet(now, before).Name, now)
			nodeChanged(before, now)
		},
	})
	c.pods = live.New(live.Options[*corev1.Pod]{
		Name: "pods", ListWatch: live.ListWatch(client, core.Pods(metav1.NamespaceAll), nil), Trim: trimPod,
		Changed: func(before, now *corev1.Pod) {
			if before != nil && (now == nil || before.UID != now.UID) {
				c.ledger.setPod(before.UID, nil)
			}
			if now != nil {
				c.ledger.setPod(now.UID, now)
			}
		},
	})
	c.namespaces = live.New(live.Options[*corev1.Namespace]{
		Name: "tenant namespaces", ListWatch: live.ListWatch(client, core.Namespaces(), ofTenants),
		Indexers: cache.Indexers{indexTenant: func(obj any) ([]string, error) {
			return []string{obj.(*corev1.Namespace).Labels[v1alpha1.LabelTenant]}, nil
		}},
		Changed: func(before, now *corev1.Namespace) {
			if now == nil {
				c.noteGone(before)
			}
			requested()
		},
	})
	c.requests = live.New(live.Options[*corev1.ConfigMap]{
		Name: "tenant requests", ListWatch: live.ListWatch(client, core.ConfigMaps(metav1.NamespaceAll), ofTenants),
		Changed: func(_, _ *corev1.ConfigMap) { requested() },
	})
	return c
}

func (c *providerCaches) noteGone(ns *corev1.Namespace) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = append(c.gone, ns)
}

// takeGone are the tenants' namespaces that were seen to go since it was asked last.
func (c *providerCaches) takeGone() []*corev1.Namespace {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := c.gone
	c.gone = nil
	return gone
}

func (c *providerCaches) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, run := range []func(context.Context){c.runNodes, c.pods.Run, c.namespaces.Run, c.requests.Run} {
		wg.Go(func() { run(ctx) })
	}
	wg.Wait()
}

// runNodes watches the nodes until ctx ends; so does a second call, without watching twice.
func (c *providerCaches) runNodes(ctx context.Context) {
	c.nodesOnce.Do(func() { c.nodes.Run(ctx) })
}

func (c *providerCaches) synced() bool {
	return c.nodes.HasSynced() && c.pods.HasSynced() && c.namespaces.HasSynced() && c.requests.HasSynced()
}

// namespacesOf is the set of namespaces in which the pods of a consumer run.
func (c *providerCaches) namespacesOf(consumer string) map[string]bool {
	out := map[string]bool{}
	for _, ns := range c.namespaces.Index(indexTenant, consumer) {
		out[ns.Name] = true
	}
	return out
}

// trimPod keeps what the ledger reads: who it is, where it is bound, what it requests, whether it has ended. The pods of
// the whole cluster pass through here, so this is most of a provider's memory.
func trimPod(pod *corev1.Pod) {
	pod.ObjectMeta = metav1.ObjectMeta{
		Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
	spec := corev1.PodSpec{NodeName: pod.Spec.NodeName, Overhead: pod.Spec.Overhead, Resources: pod.Spec.Resources}
	for _, c := range pod.Spec.InitContainers {
		spec.InitContainers = append(spec.InitContainers,
			corev1.Container{Name: c.Name, Resources: c.Resources, RestartPolicy: c.RestartPolicy})
	}
	for _, c := range pod.Spec.Containers {
		spec.Containers = append(spec.Containers, corev1.Container{Name: c.Name, Resources: c.Resources})
	}
	pod.Spec = spec
	pod.Status = corev1.PodStatus{Phase: pod.Status.Phase}
}

// trimNode keeps what the ledger, the tunnel and package usage read.
func trimNode(node *corev1.Node) {
	node.ObjectMeta = metav1.ObjectMeta{
		Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion, Labels: node.Labels,
	}
	node.Status = corev1.NodeStatus{
		Allocatable: node.Status.Allocatable, Conditions: node.Status.Conditions, Addresses: node.Status.Addresses,
		DaemonEndpoints: node.Status.DaemonEndpoints,
	}
}
