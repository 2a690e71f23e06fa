package live

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// TestStream tells what is there, what comes and what changes, not what goes, and ends with its context.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(configMap("a", "1", "1"))
		var seen []string
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Stream(ctx, "test", ListWatch(client, client.CoreV1().ConfigMaps("shop"), nil), func(o *corev1.ConfigMap) {
				seen = append(seen, o.Name+"@"+o.ResourceVersion)
			})
		}()
		wait := func() {
			<-time.After(time.Second)
			synctest.Wait()
		}
		wait()
		api := client.CoreV1().ConfigMaps("shop")
		for _, do := range []func() error{
			func() error {
				_, err := api.Create(ctx, configMap("b", "2", "2"), metav1.CreateOptions{})
				return err
			},
			func() error {
				_, err := api.Update(ctx, configMap("b", "2", "3"), metav1.UpdateOptions{})
				return err
			},
			func() error { return api.Delete(ctx, "a", metav1.DeleteOptions{}) },
		} {
			if err := do(); err != nil {
				t.Fatal(err)
			}
			wait()
		}
		if diff := cmp.Diff([]string{"a@1", "b@2", "b@3"}, seen); diff != "" {
			t.Errorf("seen (-want +got):\n%s", diff)
		}
		cancel()
		<-ended
	})
}
