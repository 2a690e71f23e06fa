package reflector

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Drain asks every local pod on the node to end, so that its controller makes another elsewhere. With force their
// objects go at once, without waiting for the peer: for a peer that does not answer. It returns how many pods are left;
// call it again until none is. Idempotent.
func (p *Pair) Drain(ctx context.Context, force bool) (left int, err error) {
	var errs []error
	pods, synced := p.Pods()
	if !synced {
		return 0, fmt.Errorf("drain node %s: its pods are not known yet", p.cfg.Node)
	}
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil && !force {
			continue
		}
		opts := metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))}
		if force {
			opts.GracePeriodSeconds = new(int64)
		}
		err := p.home.cfg.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, opts)
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			errs = append(errs, fmt.Errorf("delete pod %s/%s: %w", pod.Namespace, pod.Name, err))
		}
	}
	return len(pods), errors.Join(errs...)
}
