// Package client reads and writes the kinds of peering/v1alpha1 over the Kubernetes API.
//
// It knows how to reach the API server, and nothing of what the objects mean:
//
//	peerings, err := client.New(config)
//	peering, err := peerings.Get(ctx, "cloud", metav1.GetOptions{})
package client

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Peerings reads and writes Peering objects. Errors are those of the API server (k8s.io/apimachinery/pkg/api/errors).
// Safe for concurrent use.
type Peerings interface {
	Create(ctx context.Context, peering *v1alpha1.Peering, opts metav1.CreateOptions) (*v1alpha1.Peering, error)
	Update(ctx context.Context, peering *v1alpha1.Peering, opts metav1.UpdateOptions) (*v1alpha1.Peering, error)
	UpdateStatus(ctx context.Context, peering *v1alpha1.Peering, opts metav1.UpdateOptions) (*v1alpha1.Peering, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*v1alpha1.Peering, error)
	List(ctx context.Context, opts metav1.ListOptions) (*v1alpha1.PeeringList, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (*v1alpha1.Peering, error)
}

// New returns a client for the cluster that config points at. The config is copied, not kept.
func New(config *rest.Config) (Peerings, error) {
	restClient, scheme, err := newREST(config)
	if err != nil {
		return nil, err
	}
	return gentype.NewClientWithList[*v1alpha1.Peering, *v1alpha1.PeeringList](
		v1alpha1.PeeringResource.Resource, restClient, runtime.NewParameterCodec(scheme), metav1.NamespaceNone,
		func() *v1alpha1.Peering { return &v1alpha1.Peering{} },
		func() *v1alpha1.PeeringList { return &v1alpha1.PeeringList{} },
	), nil
}

// newREST returns a client that knows the kinds of v1alpha1, and their scheme.
func newREST(config *rest.Config) (rest.Interface, *runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, nil, err
	}
	config = rest.CopyConfig(config)
	config.GroupVersion = &v1alpha1.GroupVersion
	config.APIPath = "/apis"
	config.ContentType = runtime.ContentTypeJSON // custom resources have no protobuf form
	config.AcceptContentTypes = runtime.ContentTypeJSON
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	restClient, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make client for %s: %w", config.Host, err)
	}
	return restClient, scheme, nil
}
