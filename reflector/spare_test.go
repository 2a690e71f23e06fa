package reflector

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
)

// TestLoop_OlderProvider: a provider that grants no right to a kind that came later runs pods all the same; when it grants the right, the
// objects follow.
func TestLoop_OlderProvider(t *testing.T) {
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "closed", Namespace: "shop", UID: "np-1"}}
	var older atomic.Bool
	older.Store(true)
	prepare := func(l *loop) {
		l.peer.PrependReactor("*", "networkpolicies", func(clienttesting.Action) (bool, runtime.Object, error) {
			return older.Load(), nil, apierrors.NewForbidden(networkingv1.Resource("networkpolicies"), "",
				fmt.Errorf("User \"consumer\" cannot list resource \"networkpolicies\""))
		})
	}
	runLoop(t, objects(localPod(), policy), nil, prepare, func(l *loop) {
		l.pass(30 * time.Second)
		created := 0
		for _, w := range l.writes(l.peer) {
			if w == "create pods shop-1f2e/web" {
				created++
			}
		}
		if created != 1 {
			t.Errorf("the twin was made %d times", created)
		}
		l.pass(10 * time.Minute)
		if n := len(l.writes(l.peer)); n > 25 {
			t.Errorf("%d attempts at the policy in ten minutes", n)
		}
		older.Store(false)
		l.pass(2 * time.Minute)
		if got := l.writes(l.peer); len(got) != 1 || got[0] != "create networkpolicies shop-1f2e/closed" {
			t.Errorf("the right is granted: %v", got)
		}
		l.writes(l.home)
		l.pass(10 * time.Minute)
		l.wrote("at rest", nil, nil)
	})
}
