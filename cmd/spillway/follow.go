package main

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// relistAfter is the pause before a broken watch is started again: long enough not to hammer an API server that is
// just coming back, short enough for somebody who waits.
const relistAfter = 200 * time.Millisecond

// object is what follow keeps.
type object interface {
	runtime.Object
	GetNamespace() string
	GetName() string
}

// source lists and watches the objects of one kind in one cluster.
type source[T object] struct {
	list  func(context.Context, metav1.ListOptions) (items []T, version string, err error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// follow shows see the objects that match selector (keys: namespace/name), now and after each change, until see
// returns true. It survives broken watches and returns an error when ctx ends or when the user may not do this. see
// must not keep or change the map.
func follow[T object](ctx context.Context, from source[T], selector metav1.ListOptions, see func(map[string]T) bool) error {
	var last error
	for {
		done, err := followOnce(ctx, from, selector, see)
		switch {
		case done:
			return nil
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
			return err
		case err != nil && ctx.Err() == nil:
			last = err
		}
		select {
		case <-ctx.Done():
			if last != nil {
				return fmt.Errorf("%w (%w)", ctx.Err(), last)
			}
			return ctx.Err()
		case <-time.After(relistAfter):
		}
	}
}

// followOnce lists, then watches until see is satisfied (done) or the watch ends.
func followOnce[T object](ctx context.Context, from source[T], selector metav1.ListOptions, see func(map[string]T) bool) (done bool, err error) {
	items, version, err := from.list(ctx, selector)
	if err != nil {
		return false, err
	}
	known := make(map[string]T, len(items))
	for _, item := range items {
		known[item.GetNamespace()+"/"+item.GetName()] = item
	}
	if see(known) {
		return true, nil
	}
	selector.ResourceVersion = version
	watcher, err := from.watch(ctx, selector)
	if err != nil {
		return false, err
	}
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case event, open := <-watcher.ResultChan():
			if !open {
				return false, nil
			}
			if event.Type == watch.Error {
				return false, apierrors.FromObject(event.Object)
			}
			if note(known, event) && see(known) {
				return true, nil
			}
		}
	}
}

// note brings known up to date with event and says whether it told something.
func note[T object](known map[string]T, event watch.Event) bool {
	item, ok := event.Object.(T)
	if !ok {
		return false
	}
	key := item.GetNamespace() + "/" + item.GetName()
	switch event.Type {
	case watch.Added, watch.Modified:
		known[key] = item
	case watch.Deleted:
		delete(known, key)
	default:
		return false
	}
	return true
}

// named selects the one object of this name.
func named(name string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
}

// onNode selects the pods bound to the node of this name.
func onNode(node string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String()}
}

func peeringsOf(c *cluster) source[*v1alpha1.Peering] {
	return source[*v1alpha1.Peering]{
		list: func(ctx context.Context, opts metav1.ListOptions) ([]*v1alpha1.Peering, string, error) {
			list, err := c.peerings.List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return pointers(list.Items), list.ResourceVersion, nil
		},
		watch: c.peerings.Watch,
	}
}

func podsOf(c *cluster) source[*corev1.Pod] { return podsWithin(c, metav1.NamespaceAll) }

// podsWithin is about the pods of a namespace; of all, for the empty name.
func podsWithin(c *cluster, namespace string) source[*corev1.Pod] {
	pods := c.kube.CoreV1().Pods(namespace)
	return source[*corev1.Pod]{
		list: func(ctx context.Context, opts metav1.ListOptions) ([]*corev1.Pod, string, error) {
			list, err := pods.List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return pointers(list.Items), list.ResourceVersion, nil
		},
		watch: pods.Watch,
	}
}

func nodesOf(c *cluster) source[*corev1.Node] {
	nodes := c.kube.CoreV1().Nodes()
	return source[*corev1.Node]{
		list: func(ctx context.Context, opts metav1.ListOptions) ([]*corev1.Node, string, error) {
			list, err := nodes.List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return pointers(list.Items), list.ResourceVersion, nil
		},
		watch: nodes.Watch,
	}
}

// leasesOf is about the Leases in Spillway's own namespace.
func leasesOf(c *cluster) source[*coordinationv1.Lease] {
	leases := c.kube.CoordinationV1().Leases(v1alpha1.SystemNamespace)
	return source[*coordinationv1.Lease]{
		list: func(ctx context.Context, opts metav1.ListOptions) ([]*coordinationv1.Lease, string, error) {
			list, err := leases.List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return pointers(list.Items), list.ResourceVersion, nil
		},
		watch: leases.Watch,
	}
}

// pointers points at each of items.
func pointers[T any](items []T) []*T {
	all := make([]*T, len(items))
	for i := range items {
		all[i] = &items[i]
	}
	return all
}
