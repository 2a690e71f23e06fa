package peering

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// removeUnwanted takes away what a Peering no longer wants, and then its finalizer.
func (c *Controller) removeUnwanted(ctx context.Context, p *v1alpha1.Peering, borrows, shares bool,
	status *v1alpha1.PeeringStatus) (time.Duration, error) {
	if !borrows && slices.Contains(p.Finalizers, finalizerConsumer) {
		gone, err := c.removeNode(ctx, p)
		if err != nil || !gone {
			return removeEvery, err
		}
		status.Nodes = nil
		return 0, c.dropFinalizer(ctx, p, finalizerConsumer)
	}
	if !shares && slices.Contains(p.Finalizers, finalizerProvider) {
		gone, err := c.tenants.remove(ctx, p)
		if err != nil || !gone {
			return removeEvery, err
		}
		status.Offer, status.Tenant, status.NodeLabels = nil, nil, nil
		return 0, c.dropFinalizer(ctx, p, finalizerProvider)
	}
	return 0, nil
}

// removeNode takes the virtual node and its pods away; when the peer answers, its namespaces are handed back too.
func (c *Controller) removeNode(ctx context.Context, p *v1alpha1.Peering) (gone bool, err error) {
	l := c.links[p.Name]
	if l == nil && p.Spec.API != nil {
		l, _ = c.ensureLink(ctx, p) // without one the peer cannot be told, and need not be
	}
	// The pods of a peer that does not answer are not waited for. A first answer gets a moment to arrive.
	force := l == nil || l.unusable(time.Now())
	if l != nil && !force {
		s := l.state()
		if !s.answered || s.remote == nil {
			return false, nil
		}
		if _, running := c.cfg.Nodes.State(p.Name); !running && hasOffer(s.remote) && p.Spec.Borrow != nil {
			n := wantedNode(p, l, s)
			c.cfg.Policies.setPlace(n, false)
			c.cfg.Nodes.Ensure(n) // after a restart: the pods' twins must be seen to end
		}
	}
	gone, _, err = c.cfg.Nodes.Remove(ctx, p.Name, nodeName(p.Spec.Borrow, p.Name), force)
	if err != nil || !gone {
		return false, err
	}
	if l != nil && !force {
		if err := l.request(ctx, nil); err != nil {
			c.cfg.Log.Warn("namespaces not handed back", zap.String("peer", p.Name), zap.Error(err))
		}
	}
	c.closeLink(p.Name)
	delete(c.last, p.Name)
	c.cfg.Policies.dropPlace(nodeName(p.Spec.Borrow, p.Name))
	return true, nil
}

func (c *Controller) addFinalizers(ctx context.Context, p *v1alpha1.Peering, borrows, shares bool) (bool, error) {
	wanted := slices.Clone(p.Finalizers)
	if borrows && !slices.Contains(wanted, finalizerConsumer) {
		wanted = append(wanted, finalizerConsumer)
	}
	if shares && !slices.Contains(wanted, finalizerProvider) {
		wanted = append(wanted, finalizerProvider)
	}
	if len(wanted) == len(p.Finalizers) {
		return false, nil
	}
	return true, c.setFinalizers(ctx, p, wanted)
}

func (c *Controller) dropFinalizer(ctx context.Context, p *v1alpha1.Peering, name string) error {
	return c.setFinalizers(ctx, p, slices.DeleteFunc(slices.Clone(p.Finalizers), func(f string) bool { return f == name }))
}

func (c *Controller) setFinalizers(ctx context.Context, p *v1alpha1.Peering, finalizers []string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers": finalizers, "resourceVersion": p.ResourceVersion,
	}})
	if err != nil {
		return err
	}
	_, err = c.client.Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: v1alpha1.FieldManager})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("set finalizers of Peering %s: %w", p.Name, err)
	}
	return nil
}
