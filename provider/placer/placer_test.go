package placer

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestPlacer_BeginsWhenItIsNeeded: a cluster without bursts and Migrations is not watched, unless an earlier process has left something.
func TestPlacer_BeginsWhenItIsNeeded(t *testing.T) {
	never := burstPolicy()
	never.Spec.When = v1alpha1.OffloadNever
	released := webPod("moving")
	released.Labels[v1alpha1.LabelMoving] = "uid"
	for name, row := range map[string]struct {
		policy *v1alpha1.OffloadPolicy // nil: none
		pods   []runtime.Object
		begins bool
	}{
		"no policy":                    {nil, []runtime.Object{webPod("web")}, false},
		"a policy of another kind":     {never, []runtime.Object{webPod("web")}, false},
		"a policy that bursts":         {burstPolicy(), nil, true},
		"a pod that waits for us":      {nil, []runtime.Object{webPod("web"), webPod("gated", behindGate)}, true},
		"a pod that was let go by one": {nil, []runtime.Object{released}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policies := &fakePolicies{sets: map[string]policy.Set{}}
				policies.unknown.Store(true)
				if row.policy != nil {
					policies.sets["shop"] = policy.NewSet([]*v1alpha1.OffloadPolicy{row.policy}, nil)
				}
				client := fake.NewClientset(row.pods...)
				failures := 2
				client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
					failures--
					return failures >= 0, &corev1.PodList{}, errors.New("no answer")
				})
				p, err := New(Config{Client: client, REST: &rest.Config{}, Policies: policies, Log: zap.NewNop()})
				if err != nil {
					t.Fatal(err)
				}
				changed := newBell()
				begun := make(chan bool, 1)
				go func() { begun <- p.await(t.Context(), changed) }()
				<-time.After(5 * lookEvery)
				if len(client.Actions()) != 0 {
					t.Error("looked before the policies are known")
				}
				policies.unknown.Store(false)
				<-time.After(5 * lookEvery)
				before := len(client.Actions())
				<-time.After(time.Hour)
				if len(client.Actions()) != before {
					t.Error("looks again and again")
				}
				select {
				case <-begun:
					if !row.begins {
						t.Error("begun for nothing")
					}
				default:
					if row.begins {
						t.Error("not begun")
					}
				}
				if !row.begins {
					policies.sets = map[string]policy.Set{"shop": policy.NewSet([]*v1alpha1.OffloadPolicy{burstPolicy()}, nil)}
					changed.ring()
					if synctest.Wait(); !<-begun {
						t.Error("not begun when there is a policy")
					}
				}
			})
		})
	}
}
