package view

import (
	"context"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

const (
	// LabelGateway on a Node makes it a gateway. Its value does not matter.
	LabelGateway = "spillway.dev/gateway"

	// SecretName is the Secret in the system namespace that the controller makes: slot-0, slot-1 … and gossip.
	SecretName       = "spillway-tunnel"
	secretSlotPrefix = "slot-"
	secretGossip     = "gossip"

	indexNamespace = "namespace"
)

// Config says whose view it is.
type Config struct {
	// REST reaches this cluster's API server; Client is made from it.
	REST   *rest.Config
	Client kubernetes.Interface
	// Node is the name of this node.
	Node string
	// DNS asks for what a DNS forwarder must know.
	DNS bool
	// Changed is called when Snapshot may give something else. It must not block.
	Changed func()
}

// View keeps what the agent must know. Make it with New, then Run it once. Safe for concurrent use.
type View struct {
	cfg        Config
	client     peeringclient.Peerings
	peerings   *live.Cache[*v1alpha1.Peering]
	nodes      *live.Cache[*corev1.Node]
	secrets    *live.Cache[*corev1.Secret]
	pods       *live.Cache[*corev1.Pod]
	namespaces *live.Cache[*corev1.Namespace]
	apiSlices  *live.Cache[*discoveryv1.EndpointSlice]
	slices     *live.Cache[*discoveryv1.EndpointSlice] // run only when this cluster borrows
	dns        *live.Cache[*corev1.Service]            // run only when this cluster shares

	borrows, shares sync.Once
	borrowing       atomic.Bool
	start, lend     chan struct{} // closed when slices and dns are to run
}

// New returns a View that knows nothing before Run.
func New(cfg Config) (*View, error) {
	client, err := peeringclient.New(cfg.REST)
	if err != nil {
		return nil, err
	}
	v := &View{cfg: cfg, client: client, start: make(chan struct{}), lend: make(chan struct{})}
	core, discovery := cfg.Client.CoreV1(), cfg.Client.DiscoveryV1()
	v.peerings = live.New(live.Options[*v1alpha1.Peering]{
		Name: "peerings", ListWatch: live.ListWatch(client, client, nil),
		Changed: func(_, now *v1alpha1.Peering) {
			if now != nil && now.Spec.Borrow != nil && joined(now) {
				v.borrows.Do(func() { v.borrowing.Store(true); close(v.start) })
			}
			if now != nil && now.Spec.Share != nil && joined(now) && cfg.DNS {
				v.shares.Do(func() { close(v.lend) })
			}
			cfg.Changed()
		},
	})
	v.nodes = watched(cfg, "nodes", live.ListWatch(cfg.Client, core.Nodes(), nil), trimNode, sameNode)
	v.secrets = watched[*corev1.Secret](cfg, "tunnel secret", live.ListWatch(cfg.Client, core.Secrets(v1alpha1.SystemNamespace),
		func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", SecretName).String()
		}), nil, nil)
	v.pods = watched(cfg, "twins on this node", live.ListWatch(cfg.Client, core.Pods(metav1.NamespaceAll), func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", cfg.Node).String()
		o.LabelSelector = v1alpha1.LabelOrigin
	}), trimPod, samePod)
	v.namespaces = watched[*corev1.Namespace](cfg, "namespaces that may leave", live.ListWatch(cfg.Client, core.Namespaces(),
		func(o *metav1.ListOptions) { o.LabelSelector = v1alpha1.LabelOffload + "=" + v1alpha1.OffloadEnabled }), nil, nil)
	v.apiSlices = watched[*discoveryv1.EndpointSlice](cfg, "endpoints of the API server",
		live.ListWatch(cfg.Client, discovery.EndpointSlices(metav1.NamespaceDefault),
			func(o *metav1.ListOptions) { o.LabelSelector = discoveryv1.LabelServiceName + "=kubernetes" }), nil, nil)
	v.slices = watched[*discoveryv1.EndpointSlice](cfg, "endpoint slices",
		live.ListWatch(cfg.Client, discovery.EndpointSlices(metav1.NamespaceAll), nil), nil, nil)
	v.dns = watched[*corev1.Service](cfg, "the cluster's DNS", live.ListWatch(cfg.Client, core.Services(dnsNamespace),
		func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", dnsService).String()
		}), nil, nil)
	return v, nil
}

// watched is a cache that reports changes, but not those that same says mean nothing here.
func watched[T live.Object](cfg Config, name string, lw cache.ListerWatcher, trim func(T), same func(a, b T) bool) *live.Cache[T] {
	var zero T
	return live.New(live.Options[T]{
		Name: name, ListWatch: lw, Trim: trim,
		Indexers: cache.Indexers{indexNamespace: cache.MetaNamespaceIndexFunc},
		Changed: func(before, now T) {
			if same == nil || any(before) == any(zero) || any(now) == any(zero) || !same(before, now) {
				cfg.Changed()
			}
		},
	})
}

// Run watches until ctx ends and returns when all its goroutines have.
func (v *View) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { v.peerings.Run(ctx) })
	wg.Go(func() { v.nodes.Run(ctx) })
	wg.Go(func() { v.secrets.Run(ctx) })
	wg.Go(func() { v.pods.Run(ctx) })
	wg.Go(func() { v.namespaces.Run(ctx) })
	wg.Go(func() { v.apiSlices.Run(ctx) })
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-v.start:
			v.slices.Run(ctx)
		}
	})
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-v.lend:
			v.dns.Run(ctx)
		}
	})
	wg.Wait()
}

// Snapshot gives what is known; false before everything was read once but the cluster's DNS, which nothing else waits for.
func (v *View) Snapshot() (Snapshot, bool) {
	synced := v.peerings.HasSynced() && v.nodes.HasSynced() && v.secrets.HasSynced() && v.pods.HasSynced() &&
		v.namespaces.HasSynced() && v.apiSlices.HasSynced() && (!v.borrowing.Load() || v.slices.HasSynced())
	if !synced {
		return Snapshot{}, false
	}
	in := input{
		self: v.cfg.Node, peerings: v.peerings.List(), nodes: v.nodes.List(), pods: v.pods.List(), apiSlices: v.apiSlices.List(),
		dns: v.dns.List(),
	}
	in.secret, _ = v.secrets.Get(v1alpha1.SystemNamespace, SecretName)
	for _, ns := range v.namespaces.List() {
		in.slices = append(in.slices, v.slices.Index(indexNamespace, ns.Name)...)
	}
	return build(in), true
}

func trimNode(n *corev1.Node) {
	live.DropManagedFields(n)
	n.Annotations, n.Status = nil, corev1.NodeStatus{Addresses: n.Status.Addresses}
}

func sameNode(a, b *corev1.Node) bool {
	_, gatewayA := a.Labels[LabelGateway]
	_, gatewayB := b.Labels[LabelGateway]
	return gatewayA == gatewayB && equal(a.Status.Addresses, b.Status.Addresses) && equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs)
}

func trimPod(p *corev1.Pod) {
	live.DropManagedFields(p)
	p.Annotations = nil
	p.Spec = corev1.PodSpec{NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork}
	p.Status = corev1.PodStatus{PodIPs: p.Status.PodIPs, Phase: p.Status.Phase}
}

func samePod(a, b *corev1.Pod) bool {
	return a.Labels[v1alpha1.LabelOrigin] == b.Labels[v1alpha1.LabelOrigin] && equal(a.Status.PodIPs, b.Status.PodIPs) &&
		ended(a) == ended(b)
}
