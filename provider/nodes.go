package provider

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/provider/kubelet"
	"github.com/spillway-dev/spillway/reflector"
)

// Config says in which cluster the virtual nodes are shown.
type Config struct {
	// Client reaches this cluster's API server. It must have no rate limit.
	Client kubernetes.Interface
	// ClusterID of this cluster; it becomes the origin label of every twin.
	ClusterID string
	// Rules says what may leave the cluster.
	Rules Rules
	// VolumeNamespace is where the claims are made behind volumes whose first pod stays at home. Empty: there are none.
	VolumeNamespace string
	// Kubelet serves the kubelet APIs of the nodes, whose address is then its; nil: they have none, and no address.
	Kubelet *kubelet.Server
	// Changed is called with the name of a peer whose State may have changed. It must not block.
	Changed func(peer string)
	Events  record.EventRecorder
	Log     *zap.Logger
}

// Peer is the wanted state of one virtual node: plain values and a client that works.
type Peer struct {
	// Peer is the name of the peering, NodeName that of the virtual node (it cannot change), ClusterID the peer's.
	Peer, NodeName, ClusterID string
	// Labels to put on the node.
	Labels map[string]string
	// Remote reaches the peer. A new client replaces the old one, with fresh watches.
	Remote kubernetes.Interface
	// RemoteConfig is that of Remote, for streams, which a client does not carry. It changes with Remote only. Shared: do not change it.
	RemoteConfig *rest.Config
	// Version of Kubernetes at the peer.
	Version string
	// Offer is what all pods on the node may request together.
	Offer corev1.ResourceList
	// Namespaces maps local namespaces to tenant namespaces at the peer.
	Namespaces map[string]string
	// Addresses says as what the peer's pods are seen here. Nil: as they are. Addresses it does not map are not shown.
	Addresses *address.Table
	// OwnAddresses says as what the peer sees addresses of this cluster. Nil: as they are. It does not see others.
	OwnAddresses *address.Table
	// OwnPods are the ranges, sorted, in which nobody but pods of this cluster has addresses; empty while not known.
	OwnPods []netip.Prefix
	// HomeAPI is where the peer's pods reach this cluster's API server; not valid when they do not.
	HomeAPI netip.AddrPort
	// Nameservers of the peer answer its pods under the names of here, best first; none: nobody does. ClusterDomain is that of
	// the peer's Services.
	Nameservers   []netip.Addr
	ClusterDomain string
	// IngressClass is the class by which the peer serves Ingresses of this cluster; empty: it serves none.
	IngressClass string
	// Lost: the peer has not answered for longer than the hysteresis, and last at Since; Reason and Message say more.
	Lost            bool
	Since           time.Time
	Reason, Message string
}

// What may leave the cluster, as package reflector has it.
type (
	Rules          = reflector.Rules
	NamespaceRules = reflector.NamespaceRules
	PodRules       = reflector.PodRules
)

// State is what is really there of a virtual node.
type State struct {
	// Registered: the Node object exists and is kept up to date.
	Registered bool
	// Err is why it is not, in the API server's words; nil while starting.
	Err error
	// Wanted are the local namespaces that need a tenant namespace; nil while not known.
	Wanted []string
}

// Nodes keeps the virtual nodes of all peers. Safe for concurrent use.
type Nodes struct {
	cfg  Config
	home *reflector.Home

	mu    sync.Mutex
	ctx   context.Context         // guarded by mu; that of Run
	peers map[string]*virtualNode // guarded by mu; by name of the peering
	apis  map[string]*nodeAPI     // guarded by mu; by name of the peering; without cfg.Kubelet none
	wg    sync.WaitGroup

	keeping sync.Mutex
	kept    bool // guarded by keeping; cfg.Kubelet knows which ports nodes have had
}

// virtualNode is one running node and its pods.
type virtualNode struct {
	node   *node
	pair   *reflector.Pair
	remote kubernetes.Interface
	offer  corev1.ResourceList // guarded by Nodes.mu; never changed
	lost   bool                // guarded by Nodes.mu
	stop   func()              // ends both and waits; may be called twice
}

// NewNodes returns Nodes without any node. Nothing happens before Run.
func NewNodes(cfg Config) *Nodes {
	return &Nodes{
		cfg: cfg,
		home: reflector.NewHome(reflector.HomeConfig{
			Client: cfg.Client, Origin: cfg.ClusterID, Rules: cfg.Rules, Events: cfg.Events, Log: cfg.Log,
			VolumeNamespace: cfg.VolumeNamespace,
		}),
		peers: map[string]*virtualNode{}, apis: map[string]*nodeAPI{},
	}
}

// Run works until ctx ends and waits for its goroutines. The nodes stay registered. Ensure may be called once ready is
// closed.
func (n *Nodes) Run(ctx context.Context, ready chan<- struct{}) {
	n.mu.Lock()
	n.ctx = ctx
	n.mu.Unlock()
	defer scraped.Add(n.tell)()
	close(ready)
	n.home.Run(ctx)
	n.wg.Wait()
}

// RulesChanged looks again at everything in a namespace, whose Rules may have changed. It does not block.
func (n *Nodes) RulesChanged(namespace string) { n.home.RulesChanged(namespace) }

// Namespace gives a namespace of this cluster; false while it is not known. Shared: do not change it.
func (n *Nodes) Namespace(name string) (*corev1.Namespace, bool) { return n.home.Namespace(name) }

// Pods lists the pods bound to virtual nodes, shared: do not change them. The second result is false while some are not
// known.
func (n *Nodes) Pods() (pods []*corev1.Pod, complete bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	complete = true
	for _, v := range n.peers {
		list, synced := v.pair.Pods()
		pods, complete = append(pods, list...), complete && synced
	}
	return pods, complete
}

// Ensure makes the virtual node of a peer be as wanted. Idempotent; an equal state costs no write. The maps of peer
// are kept: do not change them afterwards.
func (n *Nodes) Ensure(peer Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.peers[peer.Peer]
	if v != nil && v.remote != peer.Remote {
		v.stop()
		v = nil
	}
	if v == nil {
		v = n.start(peer)
		n.peers[peer.Peer] = v
	}
	v.offer, v.lost = peer.Offer, peer.Lost
	n.ensureAPI(peer, v.pair)
	v.node.set(wantedState(peer))
	v.pair.SetAddresses(peer.Addresses)
	v.pair.SetOwnAddresses(peer.OwnAddresses)
	v.pair.SetOwnPods(peer.OwnPods)
	v.pair.SetHomeAPI(peer.HomeAPI)
	v.pair.SetDNS(peer.Nameservers, peer.ClusterDomain)
	v.pair.SetNamespaces(peer.Namespaces)
	v.pair.SetIngressClass(peer.IngressClass) // after namespaces: with none, nothing is deleted for want of a class
	v.pair.SetLost(peer.Lost, peer.Since)
}

// wantedState is what the Node object of a peer should say.
func wantedState(peer Peer) nodeState {
	labels := maps.Clone(peer.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[LabelPeer] = peer.Peer
	s := nodeState{
		labels: labels, allocatable: peer.Offer, version: peer.Version,
		ready: true, reason: "PeerReady", message: "peer " + peer.Peer + " answers and takes pods",
	}
	if peer.Lost {
		s.ready, s.reason, s.message = false, peer.Reason, peer.Message
	}
	return s
}

// start runs a node and its pair. mu is held.
func (n *Nodes) start(peer Peer) *virtualNode {
	ctx, cancel := context.WithCancel(n.ctx)
	note := func() { n.cfg.Changed(peer.Peer) }
	v := &virtualNode{
		node: newNode(peer.NodeName, peer.ClusterID, n.cfg.Client, wantedState(peer), note),
		pair: n.home.Attach(reflector.PairConfig{
			Node: peer.NodeName, Peer: peer.Peer, Remote: peer.Remote, NodeIPs: n.nodeIPs(), WantedChanged: note,
		}),
		remote: peer.Remote,
	}
	api := n.apiOf(peer)
	v.node.setEndpoint(n.endpoint(api))
	v.pair.SetAddresses(peer.Addresses) // before the first status is written
	v.pair.SetOwnAddresses(peer.OwnAddresses)
	v.pair.SetOwnPods(peer.OwnPods)
	v.pair.SetHomeAPI(peer.HomeAPI)
	v.pair.SetIngressClass(peer.IngressClass)
	v.pair.SetDNS(peer.Nameservers, peer.ClusterDomain)
	var wg sync.WaitGroup
	runNode := func(ctx context.Context) {
		if api != nil {
			api.await(ctx)
		}
		v.node.run(ctx)
	}
	for _, run := range []func(context.Context){runNode, v.pair.Run} {
		n.wg.Add(1)
		wg.Go(func() { defer n.wg.Done(); run(ctx) })
	}
	v.stop = func() {
		cancel()
		wg.Wait()
		n.home.Detach(peer.NodeName)
	}
	return v
}

// State says what is really there of the virtual node of a peer. The second result is false when there is none.
func (n *Nodes) State(name string) (State, bool) {
	n.mu.Lock()
	v := n.peers[name]
	n.mu.Unlock()
	if v == nil {
		return State{}, false
	}
	var s State
	s.Registered, s.Err = v.node.status()
	s.Wanted = v.pair.Wanted()
	return s, true
}

// Remove takes the virtual node of a peer away: no new pods, the pods on it are asked to end (with force at once,
// without waiting for the peer), then the node goes. It does one round and returns whether all is gone; call it again
// until then. Idempotent; a node without pair (after a restart) is dealt with too.
func (n *Nodes) Remove(ctx context.Context, name, nodeName string, force bool) (gone bool, left int, err error) {
	if err := n.cordon(ctx, nodeName); err != nil {
		return false, 0, err
	}
	n.mu.Lock()
	v := n.peers[name]
	n.mu.Unlock()
	if v == nil {
		left, err = n.drainUnknown(ctx, nodeName)
	} else {
		left, err = v.pair.Drain(ctx, force)
		left = max(left, v.twinsUnlessLost(force))
	}
	if err != nil || left > 0 {
		return false, left, err
	}
	if gone, err := n.volumesGone(ctx, name, force); err != nil || !gone {
		return false, 0, err
	}
	if v != nil {
		v.stop()
	}
	n.mu.Lock()
	delete(n.peers, name)
	n.mu.Unlock()
	err = n.cfg.Client.CoreV1().Nodes().Delete(ctx, nodeName, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return false, 0, fmt.Errorf("delete node %s: %w", nodeName, err)
	}
	n.closeAPI(name)
	reflector.PeerGone(name)
	return true, 0, nil // its Lease goes with it: the node owns it
}

// volumesGone says whether no volume is kept at the peer. While it answers, its volumes are in the way: only the user can say
// that their data is no longer needed. With force they are given up.
func (n *Nodes) volumesGone(ctx context.Context, peer string, force bool) (bool, error) {
	if force {
		return n.home.DropVolumes(ctx, peer)
	}
	volumes, known := n.home.Volumes(peer)
	if len(volumes) > 0 {
		return false, fmt.Errorf("%d volumes are kept at peer %s and would be lost with it: delete their claims first (%s)",
			len(volumes), peer, volumes[0])
	}
	return known, nil
}

// twinsUnlessLost counts what is left at the peer; with force nobody waits for that.
func (v *virtualNode) twinsUnlessLost(force bool) int {
	if force {
		return 0
	}
	return v.pair.Twins()
}

// drainUnknown ends the pods of a node whose peer this process never reached, without waiting for it.
func (n *Nodes) drainUnknown(ctx context.Context, nodeName string) (left int, err error) {
	pods := n.cfg.Client.CoreV1().Pods(metav1.NamespaceAll)
	list, err := pods.List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + nodeName})
	if err != nil {
		return 0, fmt.Errorf("list pods on node %s: %w", nodeName, err)
	}
	for _, pod := range list.Items {
		err := n.cfg.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("delete pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
	}
	return len(list.Items), nil
}

// cordon keeps new pods off the node.
func (n *Nodes) cordon(ctx context.Context, nodeName string) error {
	_, err := n.cfg.Client.CoreV1().Nodes().Patch(ctx, nodeName, types.MergePatchType,
		[]byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{FieldManager: "spillway"})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cordon node %s: %w", nodeName, err)
	}
	return nil
}
