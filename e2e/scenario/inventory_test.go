package scenario

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// inventory is every object of a cluster that stays: "resource namespace/name", with what tells whether it is the same.
type inventory map[string]string

// takeInventory lists all objects of all kinds but Events, and Leases' changes.
func (s *side) takeInventory(ctx context.Context) (inventory, error) {
	out := inventory{}
	err := s.eachObject(ctx, metav1.ListOptions{}, func(kind string, o *metav1.PartialObjectMetadata) {
		out[fmt.Sprintf("%s %s/%s", kind, o.Namespace, o.Name)] = fmt.Sprintf("uid %s generation %d", o.UID, o.Generation)
	})
	return out, err
}

// carrying lists everything that carries a label of Spillway's.
func (s *side) carrying(ctx context.Context, label string) ([]string, error) {
	var out []string
	err := s.eachObject(ctx, metav1.ListOptions{LabelSelector: label}, func(kind string, o *metav1.PartialObjectMetadata) {
		out = append(out, fmt.Sprintf("%s %s/%s", kind, o.Namespace, o.Name))
	})
	return out, err
}

// eachObject calls visit for all objects of all kinds but Events.
func (s *side) eachObject(ctx context.Context, options metav1.ListOptions, visit func(string, *metav1.PartialObjectMetadata)) error {
	config := s.Config()
	config.WarningHandler = rest.NoWarnings{}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	resources, err := discovery.ServerPreferredResources(s.kube.Discovery())
	if err != nil {
		return err
	}
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list"}}, resources) {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return err
		}
		for _, r := range list.APIResources {
			if r.Name == "events" || r.Name == "componentstatuses" {
				continue
			}
			found, err := client.Resource(group.WithResource(r.Name)).List(ctx, options)
			if err != nil {
				return fmt.Errorf("list %s: %w", r.Name, err)
			}
			for i := range found.Items {
				visit(r.Name, &found.Items[i])
			}
		}
	}
	return nil
}

// difference tells, sorted, what came, went or changed from a to b.
func difference(a, b inventory) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if b[name] == "" {
			out = append(out, "- "+name)
		} else if a[name] != b[name] {
			out = append(out, "~ "+name+": "+a[name]+" → "+b[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if a[name] == "" {
			out = append(out, "+ "+name)
		}
	}
	return out
}

// unlike says what differs from an earlier inventory; nil when nothing does.
func (s *side) unlike(ctx context.Context, before inventory) error {
	now, err := s.takeInventory(ctx)
	if err != nil {
		return err
	}
	if d := difference(before, now); len(d) > 0 {
		return fmt.Errorf("cluster %s differs:\n%s", s.Name(), strings.Join(d, "\n"))
	}
	return nil
}

// unclean says what in the cluster carries a mark of Spillway's; nil when nothing does.
func (s *side) unclean(ctx context.Context) error {
	var found []string
	for _, label := range []string{v1alpha1.LabelOrigin, v1alpha1.LabelTenant, v1alpha1.LabelPeer} {
		marked, err := s.carrying(ctx, label)
		if err != nil {
			return err
		}
		found = append(found, marked...)
	}
	all, err := s.takeInventory(ctx)
	if err != nil {
		return err
	}
	delete(all, "secrets "+v1alpha1.SystemNamespace+"/"+v1alpha1.WebhookName) // of policies, which need no peering
	for name := range all {
		if strings.HasPrefix(name, "peerings ") || strings.Contains(name, nodeName) || strings.Contains(name, "spillway-tenant-e") ||
			strings.HasPrefix(name, "secrets "+v1alpha1.SystemNamespace) {
			found = append(found, name)
		}
	}
	if len(found) > 0 {
		slices.Sort(found)
		return fmt.Errorf("cluster %s still has:\n%s", s.Name(), strings.Join(slices.Compact(found), "\n"))
	}
	return nil
}
