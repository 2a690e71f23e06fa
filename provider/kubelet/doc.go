// Package kubelet answers as the kubelets of virtual nodes: logs, exec, attach and port-forward go on to the peer's API server,
// what pods use comes from the peer's kubelets, and callers are let in as a kubelet lets them in.
//
// Streams are not taken apart here: an upgraded connection is handed on byte for byte, as an API server does with its kubelets,
// so that every protocol that both ends speak works (SPDY, WebSocket, remotecommand v1 to v5), with its half-closes and exit codes.
package kubelet

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Node is a virtual node as its kubelet API sees it. Safe for concurrent use.
type Node interface {
	// Name of the Node object.
	Name() string
	// Peer is the name of the peering.
	Peer() string
	// Pods lists the local pods bound to the node. Shared: do not change them.
	Pods() []*corev1.Pod
	// Pod gives one of them; false when there is none of that name on the node. Shared: do not change it.
	Pod(namespace, name string) (*corev1.Pod, bool)
	// RemoteNamespace is where the twins of a local namespace's pods are, under the same names; false while there is none.
	RemoteNamespace(local string) (remote string, ok bool)
	// Absent says that a pod has no twin at the peer: whatever has its name there is not to be taken for it. False while that is not
	// known.
	Absent(pod *corev1.Pod) bool
	// Remote reaches the peer's API server as this cluster's tenant. Shared: do not change it.
	Remote() *rest.Config
	// Lost says why the peer is not asked; nil while it answers.
	Lost() error
}

// Usage tells what the pods of a node use, under their home names and UIDs. Errors are sentences for whoever asked.
type Usage interface {
	// Resource is /metrics/resource, Cadvisor /metrics/cadvisor, in the text format of Prometheus.
	Resource(ctx context.Context, node Node) ([]byte, error)
	Cadvisor(ctx context.Context, node Node) ([]byte, error)
	// Summary is /stats/summary.
	Summary(ctx context.Context, node Node) (*statsv1alpha1.Summary, error)
}
