package provider

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/reflector"
)

// serveRetry is how long to wait before a kubelet API that could not be served is tried again.
const serveRetry = 10 * time.Second

// nodeAPI is the kubelet API of a virtual node. It lasts as long as the node, whichever client reaches the peer, and while the
// peer is lost too: who asks then is told so. It implements kubelet.Node.
type nodeAPI struct {
	node, peer string
	behind     atomic.Pointer[behind] // never nil once it is served

	tried func()        // closes first; may be called again
	first chan struct{} // closed once it is served, or could not be for a first time
	port  atomic.Uint32 // where it is served; 0 before

	begin sync.Once
	stop  func() // ends it and waits; set by begin
}

// behind is what is behind a virtual node now. Never changed.
type behind struct {
	pair   *reflector.Pair
	remote *rest.Config
	lost   error
}

func newNodeAPI(node, peer string) *nodeAPI {
	a := &nodeAPI{node: node, peer: peer, first: make(chan struct{})}
	a.tried = sync.OnceFunc(func() { close(a.first) })
	return a
}

// Name implements kubelet.Node.
func (a *nodeAPI) Name() string { return a.node }

// Peer implements kubelet.Node.
func (a *nodeAPI) Peer() string { return a.peer }

// Pods implements kubelet.Node.
func (a *nodeAPI) Pods() []*corev1.Pod {
	pods, _ := a.behind.Load().pair.Pods()
	return pods
}

// Pod implements kubelet.Node.
func (a *nodeAPI) Pod(namespace, name string) (*corev1.Pod, bool) {
	return a.behind.Load().pair.Pod(namespace, name)
}

// RemoteNamespace implements kubelet.Node.
func (a *nodeAPI) RemoteNamespace(local string) (remote string, ok bool) {
	return a.behind.Load().pair.RemoteNamespace(local)
}

// Absent implements kubelet.Node.
func (a *nodeAPI) Absent(pod *corev1.Pod) bool { return a.behind.Load().pair.Absent(pod) }

// Remote implements kubelet.Node.
func (a *nodeAPI) Remote() *rest.Config { return a.behind.Load().remote }

// Lost implements kubelet.Node.
func (a *nodeAPI) Lost() error { return a.behind.Load().lost }

// await waits until it is known where the API is served, so that a node is never registered without it after it had it.
func (a *nodeAPI) await(ctx context.Context) {
	select {
	case <-a.first:
	case <-ctx.Done():
	}
}

// apiOf gives the kubelet API of a peer's node, which may not be served yet; nil when nodes have none. mu is held.
func (n *Nodes) apiOf(peer Peer) *nodeAPI {
	if n.cfg.Kubelet == nil {
		return nil
	}
	a := n.apis[peer.Peer]
	if a == nil {
		a = newNodeAPI(peer.NodeName, peer.Peer)
		n.apis[peer.Peer] = a
	}
	return a
}

// ensureAPI serves the kubelet API of a peer's node, of what is behind it now. mu is held.
func (n *Nodes) ensureAPI(peer Peer, pair *reflector.Pair) {
	a := n.apiOf(peer)
	if a == nil {
		return
	}
	now := &behind{pair: pair, remote: peer.RemoteConfig}
	if peer.Lost {
		now.lost = fmt.Errorf("peer %s is lost: %s", peer.Peer, peer.Message)
	}
	a.behind.Store(now)
	a.begin.Do(func() {
		ctx, cancel := context.WithCancel(n.ctx)
		var running sync.WaitGroup
		n.wg.Add(1)
		running.Go(func() { defer n.wg.Done(); n.runAPI(ctx, a) })
		a.stop = func() { cancel(); running.Wait() }
	})
}

// runAPI serves the kubelet API of a node until ctx ends.
func (n *Nodes) runAPI(ctx context.Context, a *nodeAPI) {
	for ctx.Err() == nil {
		err, again := n.keepPorts(ctx), registerRetry // the node is not registered before
		if err == nil {
			err, again = n.cfg.Kubelet.Serve(ctx, a, func(port uint16) { n.served(a, port) }), serveRetry
			a.tried()
		}
		if ctx.Err() != nil {
			return
		}
		n.cfg.Log.Warn("a virtual node has no kubelet API", zap.String("node", a.node), zap.Duration("again", again), zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// served puts into the Node object where its kubelet API is.
func (n *Nodes) served(a *nodeAPI, port uint16) {
	n.cfg.Log.Info("kubelet API served", zap.String("node", a.node), zap.Uint16("port", port))
	n.mu.Lock()
	a.port.Store(uint32(port))
	if v := n.peers[a.peer]; v != nil {
		v.node.setEndpoint(n.endpoint(a))
	}
	n.mu.Unlock()
	a.tried()
}

// endpoint is where the kubelet API of a node is; not valid while it is not served.
func (n *Nodes) endpoint(a *nodeAPI) netip.AddrPort {
	if a == nil || a.port.Load() == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(n.cfg.Kubelet.Address(), uint16(a.port.Load()))
}

// nodeIPs are the addresses of all virtual nodes.
func (n *Nodes) nodeIPs() []netip.Addr {
	if n.cfg.Kubelet == nil {
		return nil
	}
	return []netip.Addr{n.cfg.Kubelet.Address()}
}

// keepPorts reads once which ports the virtual nodes have had, so that each gets its own again, whichever is served first.
func (n *Nodes) keepPorts(ctx context.Context) error {
	n.keeping.Lock()
	defer n.keeping.Unlock()
	if n.kept {
		return nil
	}
	nodes, err := n.cfg.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: LabelPeer})
	if err != nil {
		return fmt.Errorf("list virtual nodes: %w", err)
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		if port := node.Status.DaemonEndpoints.KubeletEndpoint.Port; port > 0 && port <= math.MaxUint16 {
			n.cfg.Kubelet.Keep(node.Name, uint16(port))
		}
	}
	n.kept = true
	return nil
}

// closeAPI ends the kubelet API of a node that is gone.
func (n *Nodes) closeAPI(peer string) {
	n.mu.Lock()
	a := n.apis[peer]
	delete(n.apis, peer)
	n.mu.Unlock()
	if a != nil {
		a.stop()
		n.cfg.Kubelet.Forget(a.node)
	}
}
