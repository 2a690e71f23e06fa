package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// gatewayInstalled is the value of the gateway label on nodes that install chose: uninstall takes it away again.
	gatewayInstalled = "installed"

	// chosenGateways is how many nodes are chosen: one carries the traffic, the other stands by.
	chosenGateways = 2

	labelControlPlane = "node-role.kubernetes.io/control-plane"
)

// chooseGateways says which nodes are to be labelled as gateways.
func (i *installRun) chooseGateways() ([]string, error) {
	if i.wish.noTunnel || i.wish.command == "upgrade" {
		return nil, nil
	}
	return pickGateways(i.facts.nodes, i.wish.gatewayNodes)
}

// pickGateways says which of nodes are to be labelled: those that the user named and that are none yet, or, when none is
// labelled and none named, the first Ready workers by name.
func pickGateways(nodes []corev1.Node, said []string) ([]string, error) {
	if len(said) > 0 {
		return namedGateways(nodes, said)
	}
	if slices.ContainsFunc(nodes, func(n corev1.Node) bool { return isGateway(&n) }) {
		return nil, nil
	}
	var workers, masters []string
	for i := range nodes {
		node := &nodes[i]
		switch {
		case unfitGateway(node) != "":
		case isControlPlane(node):
			masters = append(masters, node.Name)
		default:
			workers = append(workers, node.Name)
		}
	}
	if len(workers) == 0 {
		workers = masters // a cluster of one node
	}
	slices.Sort(workers)
	return workers[:min(len(workers), chosenGateways)], nil
}

func namedGateways(nodes []corev1.Node, said []string) ([]string, error) {
	var wanted, known []string
	byName := map[string]*corev1.Node{}
	for i := range nodes {
		if !isVirtual(&nodes[i]) {
			byName[nodes[i].Name] = &nodes[i]
			known = append(known, nodes[i].Name)
		}
	}
	slices.Sort(known)
	for _, name := range said {
		node := byName[name]
		if node == nil {
			return nil, problemf("There are: "+orDash(strings.Join(known, ", "))+".", "--gateway-nodes names %q, and there is no such node", name)
		}
		if why := unfitGateway(node); why != "" && why != "it is not Ready" {
			return nil, problemf("Name another.", "node %s cannot be a gateway: %s", name, why)
		}
		if !isGateway(node) && !slices.Contains(wanted, name) {
			wanted = append(wanted, name)
		}
	}
	return wanted, nil
}

// unfitGateway says why node is not to be a gateway; empty: it may.
func unfitGateway(node *corev1.Node) string {
	switch {
	case isVirtual(node):
		return "it is a virtual node"
	case node.Status.NodeInfo.OperatingSystem != "" && node.Status.NodeInfo.OperatingSystem != "linux":
		return "its operating system is " + node.Status.NodeInfo.OperatingSystem
	case node.Spec.Unschedulable:
		return "it is cordoned"
	case !nodeReady(node):
		return "it is not Ready"
	}
	return ""
}

func isGateway(node *corev1.Node) bool {
	_, labelled := node.Labels[v1alpha1.LabelGateway]
	return labelled && !isVirtual(node)
}

// isVirtual says whether node stands for a peer, or for something else without a kernel.
func isVirtual(node *corev1.Node) bool {
	return node.Labels[v1alpha1.LabelPeer] != "" || node.Labels["type"] == "virtual-kubelet"
}

func isControlPlane(node *corev1.Node) bool {
	_, labelled := node.Labels[labelControlPlane]
	tainted := slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == labelControlPlane })
	return labelled || tainted
}

func nodeReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// labelGateways labels the nodes that were chosen.
func (i *installRun) labelGateways(ctx context.Context) error {
	if len(i.gateways) == 0 {
		return nil
	}
	return i.steps.run("the tunnel has gateways", func() (string, error) {
		for _, name := range i.gateways {
			if err := labelNode(ctx, i.home, name, gatewayInstalled); err != nil {
				return "", err
			}
			i.steps.changed = true
		}
		return strings.Join(i.gateways, ", "), nil
	})
}

// labelNode sets the gateway label of a node; takes it away for the empty value.
func labelNode(ctx context.Context, c *cluster, name, value string) error {
	var wanted any
	if value != "" {
		wanted = value
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]any{v1alpha1.LabelGateway: wanted}}})
	if err != nil {
		return fmt.Errorf("encode label of node %s: %w", name, err)
	}
	_, err = c.kube.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: managerInstall})
	return explain(c, "label node "+name, err)
}
