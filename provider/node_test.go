package provider

import (
	"flag"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

func peerWithOffer() Peer {
	return Peer{
		Peer: "cloud", NodeName: "spillway-cloud", ClusterID: "id-2", Version: "v1.36.3",
		Labels: map[string]string{corev1.LabelArchStable: "arm64", LabelPeer: "of the user"},
		Offer:  corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")},
	}
}

func TestWantedState(t *testing.T) {
	lost := peerWithOffer()
	lost.Lost, lost.Reason, lost.Message = true, "PeerUnreachable", "no answer"
	rows := map[string]struct {
		peer   Peer
		ready  bool
		reason string
	}{
		"a peer that answers": {peerWithOffer(), true, "PeerReady"},
		"a peer that is lost": {lost, false, "PeerUnreachable"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			s := wantedState(row.peer)
			if s.ready != row.ready || s.reason != row.reason {
				t.Errorf("ready %v, reason %s; want %v, %s", s.ready, s.reason, row.ready, row.reason)
			}
			if s.labels[LabelPeer] != "cloud" {
				t.Errorf("label %s is %q: a user's label must not replace it", LabelPeer, s.labels[LabelPeer])
			}
		})
	}
}

func TestNodeObject(t *testing.T) {
	n := newNode("spillway-cloud", "id-2", nil, wantedState(peerWithOffer()), func() {})
	node := n.object()
	if len(node.Spec.Taints) != 1 || node.Spec.Taints[0] != (corev1.Taint{Key: Taint, Value: "cloud", Effect: corev1.TaintEffectNoSchedule}) {
		t.Errorf("taints %v: pods that do not ask for it must stay off", node.Spec.Taints)
	}
	for label, want := range map[string]string{
		"type": "virtual-kubelet", corev1.LabelNodeExcludeBalancers: "true", corev1.LabelHostname: "spillway-cloud",
		corev1.LabelArchStable: "arm64", corev1.LabelOSStable: "linux",
	} {
		if node.Labels[label] != want {
			t.Errorf("label %s is %q, want %q", label, node.Labels[label], want)
		}
	}
	if cpu := node.Status.Allocatable.Cpu().String(); cpu != "4" {
		t.Errorf("allocatable cpu is %s, want 4", cpu)
	}
	if node.Spec.ProviderID != "spillway://id-2" || node.Status.NodeInfo.Architecture != "arm64" {
		t.Errorf("provider id %s, architecture %s", node.Spec.ProviderID, node.Status.NodeInfo.Architecture)
	}
}

// TestNodeObject_Golden is a node with a kubelet API as users see it.
func TestNodeObject_Golden(t *testing.T) {
	n := newNode("spillway-cloud", "id-2", nil, wantedState(peerWithOffer()), func() {})
	n.since = metav1.Unix(1_800_000_000, 0)
	n.setEndpoint(netip.MustParseAddrPort("192.0.2.7:10351"))
	got, err := yaml.Marshal(n.object())
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/node.yaml"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// TestNode_WritesOnlyDifferences counts the writes of a node's first half hour: registered once, one status every five
// minutes, one when the state changes and none when it is handed over again.
func TestNode_WritesOnlyDifferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		peer := peerWithOffer()
		n := newNode(peer.NodeName, peer.ClusterID, client, wantedState(peer), func() {})
		go n.run(t.Context())
		statuses := func() int {
			count := 0
			for _, a := range client.Actions() {
				if a.Matches("patch", "nodes") {
					count++
				}
			}
			client.ClearActions()
			return count
		}
		pass := func(d time.Duration) { <-time.After(d); synctest.Wait() }

		pass(time.Minute)
		node, err := client.CoreV1().Nodes().Get(t.Context(), peer.NodeName, metav1.GetOptions{})
		if err != nil || !ready(node) {
			t.Fatalf("after a minute: %v, ready %v", err, ready(node))
		}
		if registered, err := n.status(); !registered || err != nil {
			t.Errorf("registered %v, error %v", registered, err)
		}
		statuses()
		for range 100 {
			n.set(wantedState(peer))
		}
		pass(time.Minute)
		if got := statuses(); got != 0 {
			t.Errorf("%d statuses were written for an equal state, want none", got)
		}
		peer.Lost, peer.Reason = true, "PeerUnreachable"
		n.set(wantedState(peer))
		pass(time.Minute)
		if got := statuses(); got != 1 {
			t.Errorf("%d statuses were written for one change, want 1", got)
		}
		for range 100 {
			n.setEndpoint(netip.MustParseAddrPort("192.0.2.7:10351"))
		}
		pass(time.Minute)
		if got := statuses(); got != 1 {
			t.Errorf("%d statuses were written for a kubelet API, want 1", got)
		}
		pass(20 * time.Minute)
		if got := statuses(); got < 3 || got > 4 {
			t.Errorf("%d statuses were written in 20 quiet minutes, want one every five", got)
		}
	})
}

// TestNode_ComesBack: somebody deletes the node; the next change makes it again.
func TestNode_ComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		peer := peerWithOffer()
		n := newNode(peer.NodeName, peer.ClusterID, client, wantedState(peer), func() {})
		go n.run(t.Context())
		<-time.After(time.Second)
		synctest.Wait()
		if err := client.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("nodes"), "", peer.NodeName); err != nil {
			t.Fatal(err)
		}
		peer.Offer = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8")}
		n.set(wantedState(peer))
		<-time.After(time.Second)
		synctest.Wait()
		made := 0
		for _, a := range client.Actions() {
			if _, ok := a.(clienttesting.CreateAction); ok && a.Matches("create", "nodes") {
				made++
			}
		}
		if made != 2 {
			t.Errorf("the node was made %d times, want 2", made)
		}
	})
}

func ready(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
