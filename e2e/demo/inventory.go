package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// inventory is every object of a cluster, "resource namespace/name", with its UID. Events, the demo's own namespace at home, and what
// a cluster's gateways keep for themselves are left out.
type inventory struct {
	objects map[string]string
	kinds   int
}

// takeInventory asks the cluster for all objects of all kinds it knows.
func (c *cluster) takeInventory(ctx context.Context) (inventory, error) {
	out := inventory{objects: map[string]string{}}
	client, err := metadata.NewForConfig(c.config)
	if err != nil {
		return out, fmt.Errorf("make a client for %s: %w", c.name, err)
	}
	all, err := discovery.ServerPreferredResources(c.kube.Discovery())
	if err != nil {
		return out, fmt.Errorf("ask %s which kinds it knows: %w", c.name, err)
	}
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list"}}, all) {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return out, fmt.Errorf("ask %s which kinds it knows: %w", c.name, err)
		}
		for _, resource := range list.APIResources {
			if resource.Name == "events" || resource.Name == "componentstatuses" {
				continue
			}
			out.kinds++
			found, err := client.Resource(group.WithResource(resource.Name)).List(ctx, metav1.ListOptions{})
			if err != nil {
				return out, fmt.Errorf("list %s in %s: %w", resource.Name, c.name, err)
			}
			out.add(resource.Name, found.Items)
		}
	}
	return out, nil
}

func (inv inventory) add(resource string, items []metav1.PartialObjectMetadata) {
	for _, o := range items {
		if o.Namespace == namespace || resource == "namespaces" && o.Name == namespace || gateways(resource, o) {
			continue
		}
		name := o.Name
		if o.Namespace != corev1.NamespaceAll {
			name = o.Namespace + "/" + o.Name
		}
		inv.objects[resource+" "+name] = string(o.UID)
	}
}

// gateways says whether an object is what a cluster's own gateways have since its first peering, and keep for the next: their private
// keys, and the Leases by which they share the work.
func gateways(resource string, o metav1.PartialObjectMetadata) bool {
	return o.Namespace == v1alpha1.SystemNamespace &&
		(resource == "secrets" && o.Name == v1alpha1.TunnelSecret || resource == "leases" && strings.HasPrefix(o.Name, v1alpha1.GatewayPrefix))
}

// difference lists, sorted, what is new (+), gone (-) or another object of the same name (~).
func difference(before, now inventory) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(now.objects)) {
		if uid, ok := before.objects[name]; !ok {
			out = append(out, "+ "+name)
		} else if uid != now.objects[name] {
			out = append(out, "~ "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before.objects)) {
		if _, ok := now.objects[name]; !ok {
			out = append(out, "- "+name)
		}
	}
	return out
}

// checkSame waits until the cluster holds what it held before, and says what differs if it does not.
func (d *demo) checkSame(ctx context.Context, c *cluster) (inventory, error) {
	var now inventory
	var differs []string
	err := d.until(ctx, func(ctx context.Context) (bool, error) {
		var err error
		if now, err = c.takeInventory(ctx); err != nil {
			return false, err
		}
		differs = difference(c.before, now)
		return len(differs) == 0, nil
	})
	if err != nil && len(differs) > 0 {
		return now, fmt.Errorf("%s is not as it was before peering:\n       %s", c.name, strings.Join(differs, "\n       "))
	}
	return now, err
}
