package peering

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/util/connrotation"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestLink_ThroughTheTunnel: the API server is reached at its address in the tunnel, under the name of its certificate,
// and nowhere else.
func TestLink_ThroughTheTunnel(t *testing.T) {
	var names sync.Map
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { names.Store(r.Host+" "+r.TLS.ServerName, true) }))
	server.StartTLS()
	defer server.Close()
	l := &link{endpoint: v1alpha1.APIEndpoint{Server: "https://127.0.0.1:1", Via: v1alpha1.APIViaTunnel}}
	l.dialer, l.streams = connrotation.NewDialer(l.dialPeer), connrotation.NewDialer(l.dialPeer)
	config := l.config()
	config.CAData, config.Insecure = nil, true // the test's certificate is for other names; ServerName is sent all the same
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		answer, err := client.Get(config.Host + "/readyz")
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	}
	if err := get(); !errors.Is(err, errNoAddress) {
		t.Errorf("before the address is known: %v, want %v", err, errNoAddress)
	}
	l.through(server.Listener.Addr().String())
	if err := get(); err != nil {
		t.Fatal(err)
	}
	if _, ok := names.Load("kubernetes.default.svc kubernetes.default.svc"); !ok {
		names.Range(func(k, _ any) bool { t.Errorf("the server was called %s", k); return true })
	}
	l.through("127.0.0.1:1")
	if err := get(); err == nil {
		t.Error("the address changed, but the old connection is still used")
	}
}

func TestLink_SameWay(t *testing.T) {
	direct := v1alpha1.APIEndpoint{Server: "https://cloud:6443"}
	tunnel, named := direct, direct
	tunnel.Via, named.Via = v1alpha1.APIViaTunnel, v1alpha1.APIDirect
	l := &link{endpoint: direct}
	if l.same(&tunnel) || !l.same(&named) {
		t.Error("a link must be made anew when the way changes, and only then")
	}
}

// TestCourier: the peer is written to only when it knows something else, and again after it did not take the letter or
// somebody changed it.
func TestCourier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: networkConfigMap, Namespace: "spillway-tenant-home"}}
		peer := fake.NewClientset(box)
		var broken atomic.Bool
		broken.Store(true)
		peer.PrependReactor("patch", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
			return broken.Load(), nil, errors.New("connection refused")
		})
		l := &link{name: "cloud", client: peer, log: zap.NewNop(), courier: newCourier(), endpoint: v1alpha1.APIEndpoint{TenantNamespace: box.Namespace}}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { l.deliver(ctx) })
		defer running.Wait()
		defer cancel()
		pass := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		patches := func() (n int) {
			for _, a := range peer.Actions() {
				if a.GetVerb() == "patch" {
					n++
				}
			}
			peer.ClearActions()
			return n
		}
		read := func() string {
			have, err := peer.CoreV1().ConfigMaps(box.Namespace).Get(t.Context(), box.Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return have.Data[networkKey]
		}
		one := &v1alpha1.ClusterNetwork{SampleNodes: []string{"192.168.1.1"}}
		l.hand(one)
		pass(time.Minute)
		if got := patches(); got < 4 || got > 8 {
			t.Errorf("%d tries in a minute at a peer that does not answer", got)
		}
		broken.Store(false)
		pass(time.Minute)
		want := `{"sampleNodes":["192.168.1.1"]}`
		if diff := cmp.Diff(want, read()); diff != "" || patches() != 1 {
			t.Errorf("the peer answers again (-want +got):\n%s", diff)
		}
		l.hand(one.DeepCopy())
		pass(time.Hour)
		if got := patches(); got != 0 {
			t.Errorf("%d writes although nothing changed", got)
		}
		box.Data = map[string]string{networkKey: "{}"}
		if _, err := peer.CoreV1().ConfigMaps(box.Namespace).Update(t.Context(), box, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		pass(lookAfterLetter)
		if diff := cmp.Diff(want, read()); diff != "" {
			t.Errorf("somebody changed it (-want +got):\n%s", diff)
		}
	})
}
