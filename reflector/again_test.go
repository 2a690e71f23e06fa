package reflector

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
)

// TestLoop_OneRefusalDoesNotHoldUpTheRest: the provider refuses an image; a container for debugging follows all the same, and neither is sent again
// and again.
func TestLoop_OneRefusalDoesNotHoldUpTheRest(t *testing.T) {
	prepare := func(l *loop) {
		l.peer.PrependReactor("patch", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
			refused := a.GetSubresource() == ""
			return refused, nil, apierrors.NewForbidden(corev1.Resource("pods"), "web", fmt.Errorf("no such registry here"))
		})
	}
	changedImage := func(pod *corev1.Pod) { pod.Spec.Containers[0].Image = "example.org/app:2" }
	runLoop(t, objects(localPod(running)), objects(twinOf(localPod(), running)), prepare, func(l *loop) {
		l.writes(l.home)
		l.put(l.home, "pods", changed(l.localPod(), []func(*corev1.Pod){changedImage}))
		l.settle()
		l.writes(l.home)
		if diff := cmp.Diff([]string{"patch pods shop-1f2e/web"}, l.writes(l.peer)); diff != "" {
			t.Errorf("the image (-want +got):\n%s", diff)
		}
		l.put(l.home, "pods", changed(l.localPod(), []func(*corev1.Pod){func(pod *corev1.Pod) {
			pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "a"}}}
		}}))
		l.settle()
		if diff := cmp.Diff([]string{"patch pods/ephemeralcontainers shop-1f2e/web"}, l.writes(l.peer)); diff != "" {
			t.Errorf("the container for debugging (-want +got):\n%s", diff)
		}
		l.pass(2 * time.Minute)
		images := 0
		for _, w := range l.writes(l.peer) {
			if w == "patch pods shop-1f2e/web" {
				images++
			}
		}
		if images > 4 {
			t.Errorf("the image was sent %d times in two minutes", images)
		}
	})
}
