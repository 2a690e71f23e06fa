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

// Migrations reads and writes the Migrations of a namespace; of all, to list and watch, when it was made for the empty name.
// Errors are those of the API server. Safe for concurrent use.
type Migrations interface {
	Create(ctx context.Context, migration *v1alpha1.Migration, opts metav1.CreateOptions) (*v1alpha1.Migration, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*v1alpha1.Migration, error)
	List(ctx context.Context, opts metav1.ListOptions) (*v1alpha1.MigrationList, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (*v1alpha1.Migration, error)
}

// NewMigrations returns a function that gives the client of a namespace, in the cluster that config points at. The config is
// copied, not kept.
func NewMigrations(config *rest.Config) (func(namespace string) Migrations, error) {
	restClient, scheme, err := newREST(config)
	if err != nil {
		return nil, err
	}
	codec := runtime.NewParameterCodec(scheme)
	return func(namespace string) Migrations {
		return gentype.NewClientWithList[*v1alpha1.Migration, *v1alpha1.MigrationList](
			v1alpha1.MigrationResource.Resource, restClient, codec, namespace,
			func() *v1alpha1.Migration { return &v1alpha1.Migration{} },
			func() *v1alpha1.MigrationList { return &v1alpha1.MigrationList{} },
		)
	}, nil
}
