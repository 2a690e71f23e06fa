package scenario

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// followedIn is how fast the virtual node follows what the provider has free.
const followedIn = 2 * time.Second

// TestCapacityFollows: the node's allocatable is what the provider has free for this consumer, followed within 2 s, and
// the provider itself sees to it that the share is kept.
func TestCapacityFollows(t *testing.T) {
	s := begin(t)
	s.allocatable(soon, "128", "4 nodes of 32 CPUs are free")
	t.Run("PodsOfOthers", func(t *testing.T) { s.at(t).podsOfOthers() })
	t.Run("Cordon", func(t *testing.T) { s.at(t).cordoned() })
	t.Run("OwnPodsDoNotShrinkIt", func(t *testing.T) { s.at(t).ownPods() })
	t.Run("ShareOfHalf", func(t *testing.T) { s.at(t).shareOfHalf() })
	t.Run("QuotaOverTwoNamespaces", func(t *testing.T) { s.at(t).quotaOverTwoNamespaces() })
}

// allocatable waits until the virtual node offers that many CPUs.
func (s *scenario) allocatable(within time.Duration, cpu, why string) {
	s.Helper()
	want := resource.MustParse(cpu)
	s.eventually(within, why, func(ctx context.Context) error {
		node, err := s.node(ctx)
		if err != nil {
			return err
		}
		if got := node.Status.Allocatable[corev1.ResourceCPU]; got.Cmp(want) != 0 {
			return fmt.Errorf("node %s offers %s CPUs, want %s", nodeName, got.String(), cpu)
		}
		return nil
	})
}

func (s *scenario) podsOfOthers() {
	pods := s.provider.kube.CoreV1().Pods(metav1.NamespaceDefault)
	other := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "other"}, Spec: corev1.PodSpec{Containers: remoteSpec().Containers}}
	requesting("5")(other)
	_, err := pods.Create(s.ctx, other, metav1.CreateOptions{})
	s.check(err)
	s.allocatable(followedIn, "123", "the provider's own pod takes 5 CPUs")
	s.check(pods.Delete(s.ctx, "other", byForce()))
	s.allocatable(followedIn, "128", "the provider's own pod is gone")
}

func (s *scenario) cordoned() {
	s.cordon(west+"-node-1", true)
	s.allocatable(followedIn, "96", "a node is cordoned")
	s.cordon(west+"-node-1", false)
	s.allocatable(followedIn, "128", "the node takes pods again")
}

func (s *scenario) cordon(node string, on bool) {
	s.Helper()
	_, err := s.provider.kube.CoreV1().Nodes().Patch(s.ctx, node, types.MergePatchType,
		fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, on), metav1.PatchOptions{})
	s.check(err)
}

func (s *scenario) ownPods() {
	s.create(s.remotePod("own", requesting("3")))
	s.running("own")
	s.always(2*followedIn, "the node's allocatable includes what this consumer uses", func(ctx context.Context) error {
		node, err := s.node(ctx)
		if err != nil {
			return err
		}
		if got := node.Status.Allocatable[corev1.ResourceCPU]; got.Value() != 128 {
			return fmt.Errorf("it is %s CPUs, want 128", got.String())
		}
		return nil
	})
	s.deletePod("own", byForce())
}

func (s *scenario) shareOfHalf() {
	if r := s.spillway(s.ctx, peerArgs("--share", "50")...); r.code != 0 {
		s.Fatalf("peer --share 50: %s", r)
	}
	s.allocatable(followedIn, "64", "half of 128 CPUs is shared")
	if r := s.spillway(s.ctx, peerArgs("--share", "100")...); r.code != 0 {
		s.Fatalf("peer --share 100: %s", r)
	}
	s.allocatable(followedIn, "128", "everything is shared")
}

// quotaOverTwoNamespaces: the scheduler at home is passed over, as a consumer could that does not keep to the offer.
func (s *scenario) quotaOverTwoNamespaces() {
	s.Cleanup(func() {
		if r := s.spillway(s.ctx, peerArgs("--share-resources", "")...); r.code != 0 {
			s.Errorf("peer --share-resources '': %s", r)
		}
	})
	if r := s.spillway(s.ctx, peerArgs("--share-resources", "cpu=4")...); r.code != 0 {
		s.Fatalf("peer --share-resources cpu=4: %s", r)
	}
	s.allocatable(followedIn, "4", "no more than 4 CPUs are shared")
	onNode := func(pod *corev1.Pod) { pod.Spec.NodeName = nodeName }
	s.create(s.remotePod("first", onNode, requesting("3")))
	s.running("first")

	other := *s
	other.ns = s.namespace(true)
	second := s.tenantNamespace(other.ns)
	s.quota(second, "1", "the second namespace may take what the first leaves")
	other.create(other.remotePod("second", onNode, requesting("2")))
	s.eventually(soon, "the provider refuses what is above the share", func(ctx context.Context) error {
		return other.refused(ctx, "second", "RefusedByProvider")
	})
	s.deletePod("first", byForce())
	s.quota(second, "4", "the second namespace may take everything when the first is empty") // TestForeignPod waits for the next try
}

// quota waits until the provider enforces that many CPUs in one of its namespaces: the API server goes by what the quota
// controller has confirmed.
func (s *scenario) quota(namespace, cpu, why string) {
	s.Helper()
	want := resource.MustParse(cpu)
	s.eventually(followedIn, why, func(ctx context.Context) error {
		quota, err := s.provider.kube.CoreV1().ResourceQuotas(namespace).Get(ctx, "spillway", getOptions())
		if err != nil {
			return err
		}
		if hard := quota.Status.Hard["requests.cpu"]; hard.Cmp(want) != 0 {
			return fmt.Errorf("its quota is %s CPUs, want %s", hard.String(), cpu)
		}
		return nil
	})
}
