package peering

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
)

// clusterProperty is the path of the property that names a cluster within its cluster set (KEP-2149).
const clusterProperty = "/apis/about.k8s.io/%s/clusterproperties/cluster.clusterset.k8s.io"

// ClusterID reads the id of the cluster behind client: its ClusterProperty where one is set, else the UID of the
// namespace kube-system. Errors are those of the API server.
func ClusterID(ctx context.Context, client kubernetes.Interface) (string, error) {
	for _, version := range []string{"v1beta1", "v1alpha1"} {
		body, err := client.Discovery().RESTClient().Get().AbsPath(fmt.Sprintf(clusterProperty, version)).
			SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read the cluster's id: %w", err)
		}
		var property struct{ Spec struct{ Value string } }
		if err := json.Unmarshal(body, &property); err == nil && property.Spec.Value != "" {
			return property.Spec.Value, nil
		}
	}
	system, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read the cluster's id: %w", err)
	}
	return string(system.UID), nil
}
