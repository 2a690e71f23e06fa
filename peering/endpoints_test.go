package peering

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestFarEndpoints: endpoints of a consumer that is not reached are not ready, those of others are; afterwards each is what
// its consumer said. Nothing is written twice.
func TestFarEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slice := func(name, origin string) *discoveryv1.EndpointSlice {
			return &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{
					discoveryv1.LabelManagedBy: v1alpha1.ManagedBySpillway, v1alpha1.LabelOrigin: origin,
				}},
				Endpoints: []discoveryv1.Endpoint{
					{Addresses: []string{"100.71.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true)}},
					{Addresses: []string{"100.71.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true), Terminating: ptr.To(true)}},
				},
			}
		}
		client := fake.NewClientset(slice("web", "lost"), slice("db", "well"))
		f := newFarEndpoints(client, zaptest.NewLogger(t))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { f.run(ctx) })
		defer running.Wait()
		defer cancel()
		expect := func(what string, want map[string][2]bool, writes int) {
			t.Helper()
			<-time.After(time.Minute)
			synctest.Wait()
			patches := 0
			for _, a := range client.Actions() {
				if a.GetVerb() == "patch" {
					patches++
				}
			}
			if patches != writes {
				t.Errorf("%s: %d writes, want %d", what, patches, writes)
			}
			for name, ready := range want {
				got, err := client.DiscoveryV1().EndpointSlices("shop").Get(ctx, name, metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for i, e := range got.Endpoints {
					if *e.Conditions.Ready != ready[0] && i == 0 || *e.Conditions.Serving != ready[1] {
						t.Errorf("%s: endpoint %d of %s is %+v", what, i, name, e.Conditions)
					}
				}
				if !*got.Endpoints[1].Conditions.Terminating {
					t.Errorf("%s: %s forgets what terminates", what, name)
				}
			}
		}
		yes, no := [2]bool{true, true}, [2]bool{false, false}
		expect("all is well", map[string][2]bool{"web": yes, "db": yes}, 0)
		f.set("lost", true)
		expect("one is lost", map[string][2]bool{"web": no, "db": yes}, 1)
		f.set("lost", true)
		expect("it is still lost", map[string][2]bool{"web": no, "db": yes}, 1)
		f.set("lost", false)
		expect("it is back", map[string][2]bool{"web": yes, "db": yes}, 2)
	})
}
