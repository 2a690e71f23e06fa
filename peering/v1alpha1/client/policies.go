package client

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Policies reads and writes the OffloadPolicies of a namespace; of all, to list and watch, when it was made for the empty name.
// Errors are those of the API server. Safe for concurrent use.
type Policies interface {
	Create(ctx context.Context, policy *v1alpha1.OffloadPolicy, opts metav1.CreateOptions) (*v1alpha1.OffloadPolicy, error)
	Update(ctx context.Context, policy *v1alpha1.OffloadPolicy, opts metav1.UpdateOptions) (*v1alpha1.OffloadPolicy, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*v1alpha1.OffloadPolicy, error)
	List(ctx context.Context, opts metav1.ListOptions) (*v1alpha1.OffloadPolicyList, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (*v1alpha1.OffloadPolicy, error)
}

// NewPolicies returns a function that gives the client of a namespace, in the cluster that config points at. The config is
// copied, not kept.
func NewPolicies(config *rest.Config) (func(namespace string) Policies, error) {
	restClient, scheme, err := newREST(config)
	if err != nil {
		return nil, err
	}
	codec := runtime.NewParameterCodec(scheme)
	return func(namespace string) Policies {
		return gentype.NewClientWithList[*v1alpha1.OffloadPolicy, *v1alpha1.OffloadPolicyList](
			v1alpha1.OffloadPolicyResource.Resource, restClient, codec, namespace,
			func() *v1alpha1.OffloadPolicy { return &v1alpha1.OffloadPolicy{} },
			func() *v1alpha1.OffloadPolicyList { return &v1alpha1.OffloadPolicyList{} },
		)
	}, nil
}
