package joined

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// remoteNamespace is what a namespace of east is called at a provider.
func (w *world) remoteNamespace(t *testing.T, provider, namespace string) string {
	t.Helper()
	list, err := w.sides[provider].kube.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range list.Items {
		if ns.Annotations[v1alpha1.AnnotationOriginNamespace] == namespace {
			return ns.Name
		}
	}
	t.Fatalf("%s has no namespace for %s", provider, namespace)
	return ""
}

// TestServices: from where a twin runs, a Service of home leads to the pods of home and to twins, under its name and under
// an address of the provider; who answers sees the caller 1:1. It follows what becomes of the endpoints at home.
func TestServices(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t, "home", "away")
	home := w.pods(t, ns, "home", "", 2)
	away := w.pods(t, ns, "away", west, 2)
	w.opened(t, home, away)
	remote := w.remoteNamespace(t, west, ns)
	address := func(name string) netip.AddrPort {
		var svc *corev1.Service
		eventually(t, soon, "Service "+name+" is at "+west, func(ctx context.Context) (err error) {
			svc, err = w.sides[west].kube.CoreV1().Services(remote).Get(ctx, name, metav1.GetOptions{})
			return err
		})
		return netip.AddrPortFrom(netip.MustParseAddr(svc.Spec.ClusterIP), podPort)
	}
	for _, name := range []string{"home", "away"} {
		to := address(name)
		for _, a := range away {
			eventually(t, soon, a.pod+" reaches Service "+name, func(context.Context) error {
				if got := a.call(call{Proto: "tcp", To: to, Size: 3000}); got.Error != "" {
					return fmt.Errorf("%s: %s", to, got.Error)
				}
				return nil
			})
		}
		w.resolves(t, west, away[0], name+"."+remote+".svc.cluster.local.", to.Addr())
	}
	for range 8 { // both endpoints get some
		w.cell(t, away[0], call{Proto: "tcp", To: address("home"), Size: 10}, away[0].addr)
	}
	nobody := []byte(`{"metadata":{"labels":{"app":"nobody"}}}`)
	for _, h := range home {
		if _, err := w.sides[east].kube.CoreV1().Pods(ns).Patch(t.Context(), h.pod, types.MergePatchType, nobody, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	took := eventually(t, soon, "the Service has no endpoints left", func(context.Context) error {
		if got := away[0].call(call{Proto: "tcp", To: address("home"), Size: 10}); got.Error == "" {
			return fmt.Errorf("%s still answers", address("home"))
		}
		return nil
	})
	t.Logf("twins reach Services of home and of twins by name and address; %s after the last pod left one, nobody answers there", round(took))
}

// TestEndpointsOfALostPeer: where a twin runs, endpoints at a home that is cut off are not ready within 5 s, and ready again
// when it is back.
func TestEndpointsOfALostPeer(t *testing.T) {
	w := theWorld(t)
	defer w.heal(t)
	ns := w.namespace(t, "home", "away")
	home := w.pods(t, ns, "home", "", 2)
	away := w.pods(t, ns, "away", west, 1)
	w.opened(t, home, away)
	remote := w.remoteNamespace(t, west, ns)
	ready := func(want bool) func(context.Context) error {
		return func(ctx context.Context) error {
			list, err := w.sides[west].kube.DiscoveryV1().EndpointSlices(remote).List(ctx, metav1.ListOptions{
				LabelSelector: discoveryv1.LabelServiceName + "=home," + discoveryv1.LabelManagedBy + "=" + v1alpha1.ManagedBySpillway,
			})
			if err != nil {
				return err
			}
			count := 0
			for _, s := range list.Items {
				for _, e := range s.Endpoints {
					if *e.Conditions.Ready == want {
						count++
					}
				}
			}
			if count != len(home) {
				return fmt.Errorf("%d endpoints are ready=%v", count, want)
			}
			return nil
		}
	}
	eventually(t, soon, "the endpoints are ready", ready(true))
	eventually(t, soon, "the tunnel is up", w.sides[west].is(true, east))
	if err := w.fault(t.Context(), w.between(east, west, "")...); err != nil {
		t.Fatal(err)
	}
	lost := eventually(t, soon, "the endpoints are not ready", ready(false))
	w.heal(t)
	back := eventually(t, soon, "the endpoints are ready again", ready(true))
	t.Logf("endpoints of a home that is cut off are not ready after %s, ready again %s after it is back", round(lost), round(back))
	if worst := max(lost, back); worst > 5*time.Second {
		t.Errorf("%s, want 5 s at most", round(worst))
	}
}

// TestNamesOfHome: where namespaces are called as at home, so are Services of other namespaces.
func TestNamesOfHome(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t, "front")
	away := w.pods(t, ns, "away", far, 1)[0]
	if remote := w.remoteNamespace(t, far, ns); remote != ns {
		t.Fatalf("namespace %s is called %s at %s", ns, remote, far)
	}
	svc, err := w.sides[far].kube.CoreV1().Services(ns).Get(t.Context(), "front", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.resolves(t, far, away, "front."+ns+".svc.cluster.local.", netip.MustParseAddr(svc.Spec.ClusterIP))
}

// resolves has a pod at a provider ask the DNS there.
func (w *world) resolves(t *testing.T, provider string, from *caller, name string, want netip.Addr) {
	t.Helper()
	dns, err := w.sides[provider].kube.CoreV1().Services("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(dns.Spec.ClusterIP), 53)
	eventually(t, soon, "the DNS of "+provider+" knows "+name, func(context.Context) error {
		if got := from.call(call{Proto: "dns", To: to, Name: name}); got.Source != want.String() {
			return fmt.Errorf("%s is %q, want %s: %s", name, got.Source, want, got.Error)
		}
		return nil
	})
}
