package reflector

import (
	"net/netip"
	"testing"

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
