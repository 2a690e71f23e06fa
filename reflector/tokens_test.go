package reflector

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	authenticationv1 "k8s.io/api/authentication/v1"
)

// TestLoop_Tokens: a pod that mounts a token has it at the peer before it starts, a new one before the old one ends, and
// nothing is left of it when the pod is gone.
func TestLoop_Tokens(t *testing.T) {
	local := localPod(func(pod *corev1.Pod) {
		pod.Spec.ServiceAccountName = "web"
		pod.Spec.Volumes = []corev1.Volume{{Name: "kube-api-access-x", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}},
		}}}}
	})
	roots := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: rootCA, Namespace: "shop"}, Data: map[string]string{"ca.crt": "PEM"}}
	prepare := func(l *loop) {
		l.pair.SetHomeAPI(netip.MustParseAddrPort("100.71.0.1:443"))
		l.home.PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if a.GetSubresource() != "token" {
				return false, nil, nil
			}
			return true, &authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{
				Token: "abc", ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour)),
			}}, nil
		})
	}
	runLoop(t, objects(local, roots), nil, prepare, func(l *loop) {
		secret := "secrets shop-1f2e/spillway-token-" + string(local.UID)
		requested := []string{"create serviceaccounts/token shop/"}
		l.wrote("start", requested, []string{"create " + secret, "create pods shop-1f2e/web"})
		l.pass(47 * time.Minute)
		l.wrote("while the token is good", nil, nil)
		l.pass(2 * time.Minute)
		l.wrote("before it ends", requested, []string{"update " + secret})
		l.remove(l.home, "pods", "shop", "web")
		l.settle()
		gone := l.writes(l.peer)
		l.writes(l.home)
		for _, w := range gone {
			if w == "delete "+secret {
				return
			}
		}
		t.Errorf("the pod is gone, writes at the peer: %v", gone)
	})
}
