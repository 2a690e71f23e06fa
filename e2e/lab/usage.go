package lab

import (
	"context"
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// usageArgs make spillwayd tell tenants what their pods use, in clusters with real nodes: kwok's know nothing of it.
func (c *Cluster) usageArgs(ctx context.Context) ([]string, error) {
	if c.opts.Real == 0 {
		return nil, nil
	}
	address := c.lab.real.apiAddress(c.index)
	if err := c.standIn(ctx, address); err != nil {
		return nil, fmt.Errorf("make a pod that stands for spillwayd: %w", err)
	}
	return []string{"--usage-address", net.JoinHostPort(address, "0"), "--usage-pod", Spillwayd}, nil
}

// standIn makes a pod that has spillwayd's address and never runs: the API
// server hands requests for a Service on to addresses of pods only, and the
// lab's spillwayd is a process beside its cluster.
func (c *Cluster) standIn(ctx context.Context, address string) error {
	pods := c.client().CoreV1().Pods(SpillwayNamespace)
	_, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: Spillwayd},
		Spec: corev1.PodSpec{
			ServiceAccountName: Spillwayd,
			SchedulingGates:    []corev1.PodSchedulingGate{{Name: "spillway.dev/stand-in"}},
			Containers:         []corev1.Container{{Name: Spillwayd, Image: Spillwayd}},
		},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	status := fmt.Sprintf(`{"status":{"podIP":%[1]q,"podIPs":[{"ip":%[1]q}]}}`, address)
	_, err = pods.Patch(ctx, Spillwayd, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	return err
}
