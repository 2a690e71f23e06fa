package scenario

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func listOptions() metav1.ListOptions { return metav1.ListOptions{} }

func background() metav1.DeleteOptions {
	policy := metav1.DeletePropagationBackground
	return metav1.DeleteOptions{PropagationPolicy: &policy}
}

// TestOffloadOnlyWhereAllowed: a pod leaves only when its namespace allows it and it tolerates the taint, and DaemonSets
// never do.
func TestOffloadOnlyWhereAllowed(t *testing.T) {
	s := begin(t)
	t.Run("NamespaceDoesNotAllowIt", func(t *testing.T) { s.at(t).namespaceMustAllow() })
	t.Run("TaintKeepsPodsOff", func(t *testing.T) { s.at(t).taintKeepsPodsOff() })
	t.Run("DaemonSetStaysHome", func(t *testing.T) { s.at(t).daemonSetStaysHome() })
}

// at is the same scenario in a subtest.
func (s *scenario) at(t *testing.T) *scenario {
	sub := *s
	sub.T = t
	return &sub
}

func (s *scenario) namespaceMustAllow() {
	s.ns = s.namespace(false)
	s.create(s.remotePod("web"))
	s.eventually(soon, "the user is told", func(ctx context.Context) error {
		if err := s.refused(ctx, "web", "OffloadNotAllowed"); err != nil {
			return err
		}
		return s.hasEvent(ctx, "web", "OffloadNotAllowed")
	})
	twins, err := s.twins(s.ctx)
	s.check(err)
	if len(twins) > 0 {
		s.Errorf("a pod that may not leave has a twin in %s", twins[0].Namespace)
	}
	if remote, err := s.findTenantNamespace(s.ctx, s.ns); err == nil {
		s.Logf("the provider has namespace %s for it, since a pod waits", remote)
	}

	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, v1alpha1.LabelOffload, v1alpha1.OffloadEnabled)
	_, err = s.consumer.kube.CoreV1().Namespaces().Patch(s.ctx, s.ns, types.MergePatchType, patch, metav1.PatchOptions{})
	s.check(err)
	local, _ := s.running("web")
	if c := condition(local, "spillway.dev/Offloaded"); c != nil {
		s.Errorf("a running pod still says %s: %s", c.Reason, c.Message)
	}
}

func (s *scenario) taintKeepsPodsOff() {
	s.create(s.remotePod("stranger", func(pod *corev1.Pod) { pod.Spec.Tolerations = nil }))
	s.eventually(soon, "the scheduler refuses", func(ctx context.Context) error {
		pod, err := s.local(ctx, "stranger")
		if err != nil {
			return err
		}
		if c := condition(pod, corev1.PodScheduled); c == nil || c.Reason != corev1.PodReasonUnschedulable {
			return fmt.Errorf("pod on node %q: %s", pod.Spec.NodeName, words(pod))
		}
		return nil
	})
	s.deletePod("stranger", byForce())
}

func (s *scenario) daemonSetStaysHome() {
	labels := map[string]string{"app": "agent"}
	spec := remoteSpec()
	spec.NodeSelector = nil
	spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	_, err := s.consumer.kube.AppsV1().DaemonSets(s.ns).Create(s.ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent", Namespace: s.ns},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	s.check(err)
	var refused string
	s.eventually(soon, "it runs on the four real nodes and on no other", func(ctx context.Context) error {
		pods, err := s.localPods(ctx)
		if err != nil {
			return err
		}
		running := 0
		for i := range pods {
			if pods[i].Spec.NodeName == nodeName {
				refused = pods[i].Name
			} else if ready(&pods[i]) == nil {
				running++
			}
		}
		if running != 4 || refused == "" {
			return fmt.Errorf("%d run, on the virtual node: %q", running, refused)
		}
		return s.refused(ctx, refused, "OffloadNotAllowed")
	})
	twins, err := s.twins(s.ctx)
	s.check(err)
	if len(twins) > 0 {
		s.Errorf("a pod of a DaemonSet has a twin: %s", twins[0].Name)
	}
	s.check(s.consumer.kube.AppsV1().DaemonSets(s.ns).Delete(s.ctx, "agent", background()))
	s.eventually(soon, "its pods go", s.empty)
}
