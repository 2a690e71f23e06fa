package footprint

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// pageSize is how many objects are asked for at once.
const pageSize = 500

// OfCluster takes down every object of every kind that the cluster can list, "resource[.group] [namespace/]name". Events and what is
// measured are not objects in this sense. It needs the rights of an administrator.
func OfCluster(ctx context.Context, config *rest.Config) (Footprint, error) {
	config = rest.CopyConfig(config)
	config.WarningHandler = rest.NoWarnings{} // of kinds that are old
	config.QPS, config.Burst = 200, 200       // one list per kind
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	kinds, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	all, err := kinds.ServerPreferredResources()
	if err != nil {
		return nil, fmt.Errorf("ask %s which kinds it knows: %w", config.Host, err)
	}
	out := Footprint{}
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list"}}, all) {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("read which kinds %s knows: %w", config.Host, err)
		}
		for _, r := range list.APIResources {
			if fleeting(group.Group, r.Name) {
				continue
			}
			if err := out.addAll(ctx, client.Resource(group.WithResource(r.Name)), named(r.Name, group.Group)); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// fleeting says whether the objects of a kind come and go, or change, with nobody's doing.
func fleeting(group, resource string) bool {
	switch {
	case resource == "events", resource == "componentstatuses":
		return true
	case group == "metrics.k8s.io", group == "custom.metrics.k8s.io", group == "external.metrics.k8s.io":
		return true
	}
	return group == "internal.apiserver.k8s.io" // what API servers tell each other
}

func named(resource, group string) string {
	if group == "" {
		return resource
	}
	return resource + "." + group
}

func (f Footprint) addAll(ctx context.Context, client dynamic.ResourceInterface, kind string) error {
	options := metav1.ListOptions{Limit: pageSize}
	for {
		list, err := client.List(ctx, options)
		if err != nil {
			return fmt.Errorf("list %s: %w", kind, err)
		}
		for i := range list.Items {
			f.addObject(kind, &list.Items[i])
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}

func (f Footprint) addObject(kind string, o *unstructured.Unstructured) {
	name := kind + " " + o.GetName()
	if ns := o.GetNamespace(); ns != corev1.NamespaceAll {
		name = kind + " " + ns + "/" + o.GetName()
	}
	f[name] = linesOf(kind, o.Object)
}
