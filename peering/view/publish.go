package view

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func equal[T comparable](a, b []T) bool { return slices.Equal(a, b) }

// Path is one measured tunnel of a peering.
type Path struct {
	Slot                     int
	Node                     string
	Up                       bool
	Reason                   string // why not Up, as in condition TunnelUp
	Transport, Endpoint      string
	RTT                      time.Duration // 0: not known
	LossPercent, MTU         int
	ReceivedBytes, SentBytes int64
	Since                    time.Time // of Up
}

// Publish writes a path into the status of a Peering, by server-side apply with one manager per slot, so that a gateway
// that takes a slot over replaces what the former one said. A Peering that is gone is no error.
func (v *View) Publish(ctx context.Context, peering string, p Path) error {
	status := v1alpha1.TunnelPath{
		Slot: int32(p.Slot), Node: p.Node, Up: p.Up, Reason: p.Reason, Transport: p.Transport, Endpoint: p.Endpoint,
		LossPercent: int32(p.LossPercent), MTU: int32(p.MTU), ReceivedBytes: p.ReceivedBytes, SentBytes: p.SentBytes,
		LastChangeTime: metav1.NewTime(p.Since),
	}
	if p.RTT > 0 {
		status.RTT = &metav1.Duration{Duration: p.RTT}
	}
	data, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": v1alpha1.PeeringKind,
		"metadata": map[string]any{"name": peering},
		"status":   map[string]any{"tunnel": map[string]any{"paths": []any{status}}},
	})
	if err != nil {
		return err
	}
	manager := fmt.Sprintf("spillway-gateway-%d", p.Slot)
	_, err = v.client.Patch(ctx, peering, types.ApplyPatchType, data,
		metav1.PatchOptions{FieldManager: manager, Force: ptr.To(true)}, "status")
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write path %d of Peering %s: %w", p.Slot, peering, err)
	}
	return nil
}

// LeaseName is the Lease in the system namespace that says who holds a slot.
func LeaseName(slot int) string { return fmt.Sprintf("spillway-gateway-%d", slot) }

// TakeLease makes node the holder of a slot's Lease and returns its epoch (leaseTransitions), which grows with every
// call. There is no expiry: who takes a slot has reason to believe that its holder is gone, and the holder that is not
// gone sees the change.
func (v *View) TakeLease(ctx context.Context, slot int, node string) (epoch uint64, err error) {
	leases := v.cfg.Client.CoordinationV1().Leases(v1alpha1.SystemNamespace)
	lease, err := leases.Get(ctx, LeaseName(slot), metav1.GetOptions{})
	now := metav1.NewMicroTime(time.Now())
	if apierrors.IsNotFound(err) {
		lease, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: LeaseName(slot), Namespace: v1alpha1.SystemNamespace},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: &node, AcquireTime: &now, RenewTime: &now, LeaseTransitions: ptr.To(int32(1)),
			},
		}, metav1.CreateOptions{})
		if err != nil {
			return 0, fmt.Errorf("create Lease %s: %w", LeaseName(slot), err)
		}
		return uint64(ptr.Deref(lease.Spec.LeaseTransitions, 1)), nil
	}
	if err != nil {
		return 0, fmt.Errorf("read Lease %s: %w", LeaseName(slot), err)
	}
	lease.Spec.HolderIdentity, lease.Spec.AcquireTime, lease.Spec.RenewTime = &node, &now, &now
	lease.Spec.LeaseTransitions = ptr.To(ptr.Deref(lease.Spec.LeaseTransitions, 0) + 1)
	if lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
		return 0, fmt.Errorf("take Lease %s: %w", LeaseName(slot), err)
	}
	return uint64(ptr.Deref(lease.Spec.LeaseTransitions, 1)), nil
}

// Holder reads who holds a slot's Lease: a gateway that was cut off finds out that it was replaced. Empty: nobody.
func (v *View) Holder(ctx context.Context, slot int) (node string, epoch uint64, err error) {
	lease, err := v.cfg.Client.CoordinationV1().Leases(v1alpha1.SystemNamespace).Get(ctx, LeaseName(slot), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("read Lease %s: %w", LeaseName(slot), err)
	}
	return ptr.Deref(lease.Spec.HolderIdentity, ""), uint64(ptr.Deref(lease.Spec.LeaseTransitions, 0)), nil
}
