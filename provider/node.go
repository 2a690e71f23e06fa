package provider

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	vknode "github.com/virtual-kubelet/virtual-kubelet/node"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// leaseSeconds and leaseEvery are those of a kubelet: six renewals a minute.
	leaseSeconds = 40
	leaseEvery   = 10 * time.Second
	// statusEvery is how often the node's status is written when nothing changed.
	statusEvery = 5 * time.Minute
	// registerRetry is how long to wait before a node that could not be registered is tried again.
	registerRetry = time.Second
)

// Labels and taint of every virtual node, besides those every node has.
const (
	// LabelPeer carries the name of the peering.
	LabelPeer = "spillway.dev/peer"
	// Taint keeps off every pod that does not tolerate it. Its value is the name of the peering, so that a toleration can mean one
	// peer alone.
	Taint = "spillway.dev/virtual-node"
	// labelType is what other virtual kubelets carry too: system DaemonSets are commonly written to avoid it.
	labelType      = "type"
	labelTypeValue = "virtual-kubelet"
)

// nodeState is what a Node object should say. Plain values; compare with equal.
type nodeState struct {
	labels      map[string]string
	allocatable corev1.ResourceList
	version     string // Kubernetes version of the peer
	ready       bool
	reason      string
	message     string
}

func (s nodeState) equal(o nodeState) bool {
	return maps.Equal(s.labels, o.labels) && apiequality.Semantic.DeepEqual(s.allocatable, o.allocatable) &&
		s.version == o.version && s.ready == o.ready && s.reason == o.reason && s.message == o.message
}

// node keeps one Node object and its Lease as its state says, through virtual-kubelet's NodeController. It implements
// vknode.NodeProvider.
type node struct {
	name      string
	clusterID string // of the peer
	client    kubernetes.Interface

	mu         sync.Mutex
	state      nodeState      // guarded by mu
	since      metav1.Time    // guarded by mu; when state.ready last changed
	endpoint   netip.AddrPort // guarded by mu; of the kubelet API; not valid when there is none
	registered bool           // guarded by mu
	err        error          // guarded by mu; why the node could not be registered or updated
	changed    chan struct{}  // capacity 1: state differs from what was last handed to the NodeController
	noteState  func()         // called when registered or err changed
}

func newNode(name, clusterID string, client kubernetes.Interface, state nodeState, noteState func()) *node {
	return &node{
		name: name, clusterID: clusterID, client: client, state: state, since: metav1.Now(),
		changed: make(chan struct{}, 1), noteState: noteState,
	}
}

// set hands over the whole wanted state. A change is written at once, an equal state costs nothing.
func (n *node) set(state nodeState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state.equal(state) {
		return
	}
	if n.state.ready != state.ready {
		n.since = metav1.Now()
	}
	n.state = state
	n.signal()
}

// setEndpoint says where the node's kubelet API is. The address is that of the node too.
func (n *node) setEndpoint(at netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endpoint != at {
		n.endpoint = at
		n.signal()
	}
}

func (n *node) signal() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// run keeps the node registered until ctx ends.
func (n *node) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := n.runOnce(ctx)
		n.setRegistered(false, err)
		select {
		case <-ctx.Done():
		case <-time.After(registerRetry):
		}
	}
}

func (n *node) runOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case <-n.changed: // is in the object
	default:
	}
	if err := n.nameTaint(ctx); err != nil {
		return err
	}
	controller, err := vknode.NewNodeController(n, n.object(), n.client.CoreV1().Nodes(),
		vknode.WithNodeEnableLeaseV1WithRenewInterval(
			n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease), leaseSeconds, leaseEvery),
		vknode.WithNodePingInterval(leaseEvery),
		vknode.WithNodeStatusUpdateInterval(statusEvery),
		vknode.WithNodeStatusUpdateErrorHandler(n.statusFailed),
	)
	if err != nil {
		return err
	}
	go func() {
		select {
		case <-controller.Ready():
			n.setRegistered(true, nil)
		case <-controller.Done():
		}
	}()
	return controller.Run(ctx)
}

// statusFailed makes the node again when somebody deleted it, and sees to it that any other failed write is repeated
// soon: the NodeController itself would wait for the next regular one.
func (n *node) statusFailed(ctx context.Context, err error) error {
	if !apierrors.IsNotFound(err) {
		time.AfterFunc(registerRetry, n.signal)
		return err
	}
	_, err = n.client.CoreV1().Nodes().Create(ctx, n.object(), metav1.CreateOptions{})
	return err
}

func (n *node) setRegistered(registered bool, err error) {
	n.mu.Lock()
	same := n.registered == registered && n.err == err
	n.registered, n.err = registered, err
	n.mu.Unlock()
	if !same {
		n.noteState()
	}
}

func (n *node) status() (registered bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.registered, n.err
}

// Ping implements vknode.NodeProvider. The Lease says that this process lives, not that the peer answers: that is what
// the Ready condition says.
func (n *node) Ping(ctx context.Context) error { return ctx.Err() }

// NotifyNodeStatus implements vknode.NodeProvider.
func (n *node) NotifyNodeStatus(ctx context.Context, notify func(*corev1.Node)) {
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-n.changed:
				notify(n.object())
			}
		}
	}()
}

// object is the wanted Node.
func (n *node) object() *corev1.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	labels := map[string]string{
		corev1.LabelHostname:             n.name,
		corev1.LabelOSStable:             "linux",
		corev1.LabelNodeExcludeBalancers: "true",
		labelType:                        labelTypeValue,
	}
	maps.Copy(labels, n.state.labels)
	addresses, endpoints := addressesOf(n.name, n.endpoint)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: labels},
		Spec: corev1.NodeSpec{
			ProviderID: "spillway://" + n.clusterID,
			Taints:     []corev1.Taint{{Key: Taint, Value: n.state.labels[LabelPeer], Effect: corev1.TaintEffectNoSchedule}},
		},
		Status: corev1.NodeStatus{
			Capacity:    n.state.allocatable,
			Allocatable: n.state.allocatable,
			Conditions:  conditions(n.state, n.since),
			Addresses:   addresses,

			DaemonEndpoints: endpoints,
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: n.state.version, OperatingSystem: "linux", Architecture: n.state.labels[corev1.LabelArchStable],
			},
		},
	}
}

// addressesOf says where a node is. The API server asks its kubelet API at the first address of the type that it prefers; without a
// port it would ask port 10250, where another machine's kubelet may be: a node without kubelet API has no address but its name. One
// with it has no name among them, which nobody could resolve and API servers prefer unless told otherwise.
func addressesOf(name string, endpoint netip.AddrPort) (addresses []corev1.NodeAddress, endpoints corev1.NodeDaemonEndpoints) {
	if !endpoint.IsValid() {
		return []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}, endpoints
	}
	endpoints.KubeletEndpoint.Port = int32(endpoint.Port())
	return []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: endpoint.Addr().String()}}, endpoints
}

// conditions are those of a kubelet. A peer has no disk or memory of its own to be short of.
func conditions(s nodeState, since metav1.Time) []corev1.NodeCondition {
	ready := corev1.ConditionFalse
	if s.ready {
		ready = corev1.ConditionTrue
	}
	out := []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: ready, Reason: s.reason, Message: s.message, LastTransitionTime: since,
	}}
	for _, t := range []corev1.NodeConditionType{
		corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeNetworkUnavailable,
	} {
		out = append(out, corev1.NodeCondition{
			Type: t, Status: corev1.ConditionFalse, Reason: "NotApplicable", LastTransitionTime: since,
		})
	}
	return slices.Clip(out)
}
