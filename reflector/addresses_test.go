package reflector

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/internal/address"
)

// TestLoop_AddressesOfThePeer: a pod shows the address under which home reaches its twin, follows when that changes, and
// shows none when home does not reach it.
func TestLoop_AddressesOfThePeer(t *testing.T) {
	table := func(as string) *address.Table {
		table, err := address.NewTable([]address.Alias{{Range: netip.MustParsePrefix("10.101.0.0/16"), As: netip.MustParsePrefix(as)}})
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	prepare := func(l *loop) { l.pair.SetAddresses(table("100.70.0.0/16")) }
	runLoop(t, objects(localPod()), objects(twinOf(localPod(), running)), prepare, func(l *loop) {
		shows := func(what, want string) {
			pod, err := l.home.CoreV1().Pods("shop").Get(t.Context(), "web", metav1.GetOptions{})
			if err != nil {
				l.Fatal(err)
			}
			var got []string
			for _, ip := range pod.Status.PodIPs {
				got = append(got, ip.IP)
			}
			if pod.Status.PodIP != want || want != "" && (len(got) != 1 || got[0] != want) || want == "" && len(got) > 0 {
				l.Errorf("%s: the pod shows %q and %q, want %q", what, pod.Status.PodIP, got, want)
			}
		}
		shows("start", "100.70.0.7")
		l.wrote("start", []string{"patch pods/status shop/web"}, nil)
		l.pair.SetAddresses(table("100.70.0.0/16"))
		l.settle()
		l.wrote("the same again", nil, nil)
		l.pair.SetAddresses(table("100.99.0.0/16"))
		l.settle()
		l.wrote("another alias", []string{"patch pods/status shop/web"}, nil)
		shows("another alias", "100.99.0.7")
		l.pair.SetAddresses(&address.Table{})
		l.settle()
		shows("in no range", "")
		l.pair.SetAddresses(nil)
		l.settle()
		shows("no tunnel", "10.101.0.7")
	})
}

// TestLoop_AddressOfTheNode: a pod whose twin has a node shows the address of the virtual node.
func TestLoop_AddressOfTheNode(t *testing.T) {
	placed := func(twin *corev1.Pod) { twin.Status.HostIP = "192.0.2.9" }
	prepare := func(l *loop) { l.pair.cfg.NodeIPs = []netip.Addr{netip.MustParseAddr("172.16.0.1")} }
	runLoop(t, objects(localPod()), objects(twinOf(localPod(), running, placed)), prepare, func(l *loop) {
		l.wrote("start", []string{"patch pods/status shop/web"}, nil)
		pod := l.localPod()
		if pod.Status.HostIP != "172.16.0.1" || len(pod.Status.HostIPs) != 1 || pod.Status.HostIPs[0].IP != "172.16.0.1" {
			l.Errorf("the pod shows %q and %v", pod.Status.HostIP, pod.Status.HostIPs)
		}
		if cached, ok := l.pair.Pod("shop", "web"); !ok || cached.Status.HostIP != "172.16.0.1" {
			l.Errorf("Pod gives %v, %v", cached, ok)
		}
		if remote, ok := l.pair.RemoteNamespace("shop"); !ok || remote != "shop-1f2e" {
			l.Errorf("the remote namespace is %q, %v", remote, ok)
		}
		if remote, ok := l.pair.RemoteNamespace("other"); ok {
			l.Errorf("a namespace that does not leave is %q there", remote)
		}
		another := localPod(func(pod *corev1.Pod) { pod.UID = "another" })
		if l.pair.Absent(pod) || !l.pair.Absent(another) {
			l.Errorf("the twin is that of %s: it is absent: %t, that of a pod made anew: %t", pod.UID, l.pair.Absent(pod), l.pair.Absent(another))
		}
		l.pass(time.Minute)
		l.wrote("an idle minute", nil, nil)
	})
}
