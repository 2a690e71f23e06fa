package scenario

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestTenantNamespaceDeleted: the provider's administrator deletes a tenant's namespace, and something holds it half-way. New pods are
// refused in the provider's words; when it has gone it is made again, and everything runs by itself.
func TestTenantNamespaceDeleted(t *testing.T) {
	t.Parallel() // as TestForeignPod
	s := begin(t)
	remote := s.tenantNamespace(s.ns)
	s.create(s.remotePod("before"))
	before, twin := s.running("before")
	there := s.provider.kube.CoreV1()
	_, err := there.ConfigMaps(remote).Create(s.ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "holds", Finalizers: []string{"example.org/holds"}}}, metav1.CreateOptions{})
	s.check(err)
	s.check(there.Namespaces().Delete(s.ctx, remote, metav1.DeleteOptions{}))
	s.create(s.remotePod("meanwhile"))
	s.eventually(soon, "the user is told", func(ctx context.Context) error {
		return s.told(ctx, refusal{name: "meanwhile", reason: "RefusedByProvider", words: "being terminated"})
	})
	_, err = there.ConfigMaps(remote).Patch(s.ctx, "holds", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	s.check(err)
	s.eventually(90*time.Second, "both run in a namespace that was made again", func(ctx context.Context) error {
		for _, name := range []string{"before", "meanwhile"} {
			pod, err := s.local(ctx, name)
			if err != nil {
				return err
			}
			now, err := s.twin(ctx, pod.UID)
			if err := errors.Join(ready(pod), err); err != nil {
				return err
			}
			if now.UID == twin.UID || name == "before" && pod.UID != before.UID {
				return fmt.Errorf("twin %s of %s", now.UID, name)
			}
		}
		return nil
	})
}
