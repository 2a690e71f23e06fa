package provider

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// TestNode_NamesItsTaint: a Node that an earlier version made says whose it is, once, and keeps what others wrote on it.
func TestNode_NamesItsTaint(t *testing.T) {
	other := corev1.Taint{Key: "maintenance", Value: "tonight", Effect: corev1.TaintEffectNoExecute}
	ours := corev1.Taint{Key: Taint, Effect: corev1.TaintEffectNoSchedule}
	named := corev1.Taint{Key: Taint, Value: "cloud", Effect: corev1.TaintEffectNoSchedule}
	for name, row := range map[string]struct {
		before, want []corev1.Taint
		writes       int
	}{
		"a taint without value":        {[]corev1.Taint{other, ours}, []corev1.Taint{other, named}, 1},
		"a taint with the peer's name": {[]corev1.Taint{named, other}, []corev1.Taint{named, other}, 0},
		"a taint that was taken away":  {[]corev1.Taint{other}, []corev1.Taint{other}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			peer := peerWithOffer()
			client := fake.NewClientset(&corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: peer.NodeName}, Spec: corev1.NodeSpec{Taints: row.before, Unschedulable: true},
			})
			n := newNode(peer.NodeName, peer.ClusterID, client, wantedState(peer), func() {})
			for range 2 {
				if err := n.nameTaint(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			got, err := client.CoreV1().Nodes().Get(t.Context(), peer.NodeName, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got.Spec.Taints); diff != "" || !got.Spec.Unschedulable {
				t.Errorf("taints (-want +got):\n%s; cordoned: %v", diff, got.Spec.Unschedulable)
			}
			writes := 0
			for _, a := range client.Actions() {
				if a.GetVerb() == "patch" {
					writes++
				}
			}
			if writes != row.writes {
				t.Errorf("%d writes, want %d", writes, row.writes)
			}
		})
	}
	if err := newNode("new", "id", fake.NewClientset(), wantedState(peerWithOffer()), func() {}).nameTaint(t.Context()); err != nil {
		t.Errorf("a Node that is not there yet: %v", err)
	}
}
