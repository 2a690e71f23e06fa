package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// podRanges cuts one /24 per node out of a cluster's pod range: number i goes
// to the node of that number, real nodes first.
type podRanges netip.Prefix

const nodeBits = 24

// node returns the range of node number i; false when there are not so many.
func (r podRanges) node(i int) (netip.Prefix, bool) {
	all := netip.Prefix(r)
	if all.Bits() > nodeBits || i >= 1<<(nodeBits-all.Bits()) {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addTo(all.Addr(), uint32(i)<<(32-nodeBits)), nodeBits), true
}

func addTo(a netip.Addr, n uint32) netip.Addr {
	b := a.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
	return netip.AddrFrom4(b)
}

// simulatedNodes makes the Node objects that kwok then brings to life. index
// is the cluster's number in the lab.
func simulatedNodes(index int, o ClusterOptions) []*corev1.Node {
	ranges := podRanges(netip.MustParsePrefix(o.PodCIDR))
	hosts := netip.AddrFrom4([4]byte{172, 20, byte(index * 4), 0})
	var nodes []*corev1.Node
	for _, g := range o.Simulated {
		for i := range g.Count {
			n := simulatedNode(fmt.Sprintf("%s-%d", g.Prefix, i+1), g)
			number := len(nodes)
			n.Status.Addresses = []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: addTo(hosts, uint32(number+1)).String()},
				{Type: corev1.NodeHostName, Address: n.Name},
			}
			if p, ok := ranges.node(o.Real + number); ok {
				n.Spec.PodCIDR, n.Spec.PodCIDRs = p.String(), []string{p.String()}
			}
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func simulatedNode(name string, g NodeGroup) *corev1.Node {
	labels := map[string]string{
		simulatedLabel:         "true",
		corev1.LabelHostname:   name,
		corev1.LabelOSStable:   "linux",
		corev1.LabelArchStable: runtime.GOARCH,
	}
	for k, v := range g.Labels {
		labels[k] = v
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       corev1.NodeSpec{Taints: g.Taints},
		Status: corev1.NodeStatus{
			Capacity: g.Capacity, Allocatable: g.Capacity,
			NodeInfo: corev1.NodeSystemInfo{
				Architecture: runtime.GOARCH, OperatingSystem: "linux", KubeletVersion: kubernetesVersion,
			},
		},
	}
}

// createNodes makes the nodes; one that is there already is left as it is.
func createNodes(ctx context.Context, client kubernetes.Interface, nodes []*corev1.Node) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, n := range nodes {
		g.Go(func() error {
			_, err := client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
			if err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("create node %s: %w", n.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// waitUsable waits until count simulated nodes are Ready without a not-ready taint, and
// pods can be created in namespace default (its ServiceAccount is there).
func waitUsable(ctx context.Context, client kubernetes.Interface, count int) error {
	err := poll(ctx, 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("wait for the default service account: %w", err)
	}
	err = poll(ctx, 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0", LabelSelector: simulatedLabel})
		if err != nil {
			return false, err
		}
		if ready := countReady(list.Items); ready < count {
			return false, fmt.Errorf("%d of %d are Ready", ready, count)
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the nodes: %w", err)
	}
	return nil
}

func countReady(nodes []corev1.Node) int {
	n := 0
	for i := range nodes {
		if nodeReady(&nodes[i]) {
			n++
		}
	}
	return n
}

func nodeReady(n *corev1.Node) bool {
	for _, t := range n.Spec.Taints {
		if t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable {
			return false
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// setSimulated gives a node to kwok or takes it away: then its lease is no
// longer renewed and its pods stand still, as if its kubelet had died.
func setSimulated(ctx context.Context, client kubernetes.Interface, node string, on bool) error {
	value := "null"
	if on {
		value = `"true"`
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, simulatedLabel, value)
	_, err := client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("patch node %s: %w", node, err)
	}
	return nil
}

// poll calls f until it says true or ctx is done; then it returns f's last
// error, or why ctx was done.
func poll(ctx context.Context, every time.Duration, f func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var last error
	for {
		ok, err := f(ctx)
		if ok {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if last == nil {
				last = context.Cause(ctx)
			}
			return last
		case <-ticker.C:
		}
	}
}
