package peering

import (
	"context"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// VirtualNodes shows peers as nodes of this cluster. Package provider does it; this package only says what is wanted.
type VirtualNodes interface {
	// Ensure hands over the whole wanted state of one peer's node. Idempotent, does not block on the peer.
	Ensure(Node)
	// Pods lists the pods on all virtual nodes; false while some are not known. Shared: do not change them.
	Pods() ([]*corev1.Pod, bool)
	// Namespace gives a namespace of this cluster; false while it is not known. Shared: do not change it.
	Namespace(name string) (*corev1.Namespace, bool)
	// State says what is really there; false when the node was never ensured in this process.
	State(peer string) (NodeState, bool)
	// Remove does one round of taking a node away and says whether it is gone; force does not wait for the peer.
	Remove(ctx context.Context, peer, nodeName string, force bool) (gone bool, left int, err error)
}

// Node is the wanted state of one virtual node. Plain values and a client that works; maps belong to the receiver.
type Node struct {
	Peer, NodeName, ClusterID string
	Labels                    map[string]string
	Remote                    kubernetes.Interface
	RemoteConfig              *rest.Config // of Remote, for what a client is no use for; shared: do not change it
	Version                   string
	Offer                     corev1.ResourceList
	Namespaces                map[string]string // local namespace to tenant namespace
	Addresses                 *address.Table    // as what the peer's pods are seen here; nil: as they are
	OwnAddresses              *address.Table    // as what the peer sees addresses of here; nil: as they are
	OwnPods                   []netip.Prefix    // in which nobody but pods of here has addresses, sorted; empty while not known
	HomeAPI                   netip.AddrPort    // where the peer's pods reach the API server of here; not valid when they do not
	Nameservers               []netip.Addr      // of the peer: answer its pods under the names of here, best first; none: nobody does
	ClusterDomain             string            // of the peer's Services
	IngressClass              string            // by which the peer serves Ingresses of here; empty: it serves none
	Lost                      bool
	Since                     time.Time // when lost: when the peer answered last
	Reason, Message           string    // when lost
}

// NodeState is what is really there of a virtual node.
type NodeState struct {
	Registered bool
	Err        error
	Wanted     []string // local namespaces that need a tenant namespace; nil while not known
}

// lastKnown is the virtual node as an earlier process left it, for a peer that has not answered this one: the node is
// kept, with its pods, and says that the peer is lost.
func lastKnown(p *v1alpha1.Peering, l *link, node *corev1.Node, s linkState) Node {
	return Node{
		Peer: p.Name, NodeName: node.Name, ClusterID: p.Spec.ClusterID, Labels: node.Labels, Remote: l.client, RemoteConfig: l.access,
		Version: node.Status.NodeInfo.KubeletVersion, Offer: node.Status.Allocatable, Namespaces: map[string]string{},
		Lost: true, Since: silentSince(node, s), Reason: "PeerUnreachable", Message: lostMessage(l.server(), s.err),
	}
}

// silentSince is since when a peer has not answered, as its node tells from an earlier process: that it was not ready then.
func silentSince(node *corev1.Node, s linkState) time.Time {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionFalse && c.LastTransitionTime.Time.Before(s.last) {
			return c.LastTransitionTime.Time
		}
	}
	return s.last
}

// wantedNode is the virtual node that a Peering and what its peer says call for.
func wantedNode(p *v1alpha1.Peering, l *link, s linkState) Node {
	labels := map[string]string{}
	for k, v := range s.remote.Status.NodeLabels {
		labels[k] = v
	}
	for k, v := range p.Spec.Borrow.Labels {
		labels[k] = v
	}
	n := Node{
		Peer: p.Name, NodeName: nodeName(p.Spec.Borrow, p.Name), ClusterID: p.Spec.ClusterID,
		Labels: labels, Remote: l.client, RemoteConfig: l.access, Version: s.version, Offer: s.remote.Status.Offer,
		Namespaces: map[string]string{}, Lost: s.lost, Since: s.last,
	}
	if tenant := s.remote.Status.Tenant; tenant != nil {
		n.IngressClass = tenant.IngressClassName
		for _, ns := range tenant.Namespaces {
			n.Namespaces[ns.Name] = ns.RemoteName
		}
		n.Nameservers, n.ClusterDomain = announcedDNS(tenant.DNS)
	}
	if s.lost {
		n.Reason, n.Message = "PeerUnreachable", lostMessage(l.server(), s.err)
	}
	return n
}
