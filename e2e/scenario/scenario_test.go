package scenario

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// soon is how long something may take that takes milliseconds on a quiet machine.
const soon = 20 * time.Second

// scenario is one test on a world, with a namespace of its own in the consumer.
type scenario struct {
	*testing.T
	*world
	ctx context.Context // of the test; still alive in its cleanups
	ns  string          // in the consumer; its pods may leave
}

// begin returns a scenario on the shared world, peered, with a namespace whose pods may leave the consumer.
func begin(t *testing.T) *scenario {
	t.Helper()
	return beginOn(t, theWorld(t))
}

func beginOn(t *testing.T, w *world) *scenario {
	t.Helper()
	s := bare(t, w)
	s.ensurePeered()
	s.ns = s.namespace(true)
	s.tenantNamespace(s.ns)
	return s
}

// bare returns a scenario that does not care for the peering and has no namespace.
func bare(t *testing.T, w *world) *scenario {
	t.Helper()
	s := &scenario{T: t, world: w, ctx: context.WithoutCancel(t.Context())}
	t.Cleanup(func() {
		if t.Failed() {
			for _, side := range []*side{w.consumer, w.provider} {
				t.Logf("the end of %s:\n%s", side.spillwayd.Log(), logTail(side.spillwayd, 60))
			}
		}
	})
	return s
}

// ensurePeered peers the clusters, which costs nothing when they are.
func (s *scenario) ensurePeered() {
	s.Helper()
	if r := s.spillway(s.ctx, peerArgs()...); r.code != 0 {
		s.Fatalf("peer: %s", r)
	}
}

// check fails the test on an error.
func (s *scenario) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// eventually waits until holds returns nil, and fails the test with its last error otherwise. It returns how long that
// took.
func (s *scenario) eventually(within time.Duration, what string, holds func(context.Context) error) time.Duration {
	s.Helper()
	took, err := poll(s.ctx, within, holds)
	if err != nil {
		s.Fatalf("%s: not within %s: %v", what, within, err)
	}
	s.Logf("%s: after %s", what, took.Round(time.Millisecond))
	return took
}

// always fails the test when holds returns an error before the time is over.
func (s *scenario) always(during time.Duration, what string, holds func(context.Context) error) {
	s.Helper()
	var broken error
	_, _ = poll(s.ctx, during, func(ctx context.Context) error {
		if broken = holds(ctx); broken != nil && ctx.Err() == nil {
			return nil
		}
		broken = nil
		return errors.New("holds")
	})
	if broken != nil {
		s.Fatalf("%s: %v", what, broken)
	}
}

// poll asks until holds returns nil; otherwise it returns its last error.
func poll(ctx context.Context, within time.Duration, holds func(context.Context) error) (time.Duration, error) {
	begun := time.Now()
	last := errors.New("never looked")
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, within, true, func(ctx context.Context) (bool, error) {
		err := holds(ctx)
		if err == nil || ctx.Err() == nil || last == nil {
			last = err
		}
		return err == nil, nil
	})
	if err != nil {
		return time.Since(begun), last
	}
	return time.Since(begun), nil
}

func getOptions() metav1.GetOptions { return metav1.GetOptions{} }

// namespace makes a namespace in the consumer and takes it away, with its pods and their twins, when the test is over.
func (s *scenario) namespace(mayLeave bool) string {
	s.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "t-" + rand.String(6)}}
	if mayLeave {
		ns.Labels = map[string]string{v1alpha1.LabelOffload: v1alpha1.OffloadEnabled}
	}
	core := s.consumer.kube.CoreV1()
	_, err := core.Namespaces().Create(s.ctx, ns, metav1.CreateOptions{})
	s.check(err)
	s.Cleanup(func() { s.dropNamespace(ns.Name) })
	s.eventually(soon, "namespace "+ns.Name+" is usable", func(ctx context.Context) error {
		_, err := core.ServiceAccounts(ns.Name).Get(ctx, "default", getOptions())
		return err
	})
	return ns.Name
}

// dropNamespace waits for the pods and their twins only: Kubernetes takes some ten seconds to let a namespace go.
func (s *scenario) dropNamespace(name string) {
	if err := s.consumer.kube.CoreV1().Namespaces().Delete(s.ctx, name, metav1.DeleteOptions{}); err != nil {
		s.Errorf("delete namespace %s: %v", name, err)
		return
	}
	last := *s
	last.ns = name
	if _, err := poll(s.ctx, time.Minute, last.empty); err != nil {
		s.Errorf("namespace %s does not go: %v", name, err)
	}
}

// noneTerminating says which namespaces are still going; nil when none is, and the provider has those of the consumer only
// that there are.
func (s *scenario) noneTerminating(ctx context.Context) error {
	for _, side := range []*side{s.consumer, s.provider} {
		list, err := side.kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, ns := range list.Items {
			if ns.DeletionTimestamp != nil {
				return fmt.Errorf("namespace %s of cluster %s is still going: %v", ns.Name, side.Name(), ns.Status.Conditions)
			}
			local, ok := ns.Annotations[v1alpha1.AnnotationOriginNamespace]
			if !ok {
				continue
			}
			if _, err := s.consumer.kube.CoreV1().Namespaces().Get(ctx, local, getOptions()); err != nil {
				return fmt.Errorf("namespace %s of the provider is for one of the consumer that is not there: %w", ns.Name, err)
			}
		}
	}
	return nil
}

// tenantNamespace waits for the namespace of the provider that stands for one of the consumer, and returns its name.
func (s *scenario) tenantNamespace(local string) (remote string) {
	s.Helper()
	s.eventually(soon, "namespace "+local+" has its twin", func(ctx context.Context) (err error) {
		remote, err = s.findTenantNamespace(ctx, local)
		return err
	})
	return remote
}

func (s *scenario) findTenantNamespace(ctx context.Context, local string) (string, error) {
	list, err := s.provider.kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{
		LabelSelector: v1alpha1.LabelTenant + "=" + s.consumer.id,
	})
	if err != nil {
		return "", err
	}
	for _, ns := range list.Items {
		if ns.Annotations[v1alpha1.AnnotationOriginNamespace] == local {
			return ns.Name, nil
		}
	}
	return "", fmt.Errorf("the provider has no namespace for %s", local)
}

// remotePod is a pod that can only run on the virtual node.
func (s *scenario) remotePod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns, Labels: map[string]string{"app": name}},
		Spec:       remoteSpec(),
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

func remoteSpec() corev1.PodSpec {
	return corev1.PodSpec{
		NodeSelector: map[string]string{v1alpha1.LabelPeer: west},
		Tolerations:  []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}},
		Containers: []corev1.Container{{
			Name: "app", Image: "spillway.dev/lab/app:v1", ImagePullPolicy: corev1.PullNever,
			Args: []string{"sleep"},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi"),
			}},
		}},
	}
}

func never(pod *corev1.Pod) { pod.Spec.RestartPolicy = corev1.RestartPolicyNever }

func withGrace(seconds int64) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.TerminationGracePeriodSeconds = &seconds }
}

func requesting(cpu string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
}

// runFor makes simulated containers end by themselves.
func runFor(d time.Duration) map[string]string {
	return map[string]string{"lab.spillway.dev/run-for": d.String()}
}

func (s *scenario) create(pod *corev1.Pod) *corev1.Pod {
	s.Helper()
	made, err := s.consumer.kube.CoreV1().Pods(pod.Namespace).Create(s.ctx, pod, metav1.CreateOptions{})
	s.check(err)
	return made
}

// local reads a pod of the consumer.
func (s *scenario) local(ctx context.Context, name string) (*corev1.Pod, error) {
	return s.consumer.kube.CoreV1().Pods(s.ns).Get(ctx, name, getOptions())
}

// localPods lists the pods of the test's namespace in the consumer.
func (s *scenario) localPods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := s.consumer.kube.CoreV1().Pods(s.ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// twins lists the twins in the provider of the pods of the test's namespace.
func (s *scenario) twins(ctx context.Context) ([]corev1.Pod, error) {
	list, err := s.provider.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		LabelSelector: v1alpha1.LabelOrigin + "=" + s.consumer.id,
	})
	if err != nil {
		return nil, err
	}
	var out []corev1.Pod
	for _, pod := range list.Items {
		if pod.Annotations[v1alpha1.AnnotationOriginNamespace] == s.ns {
			out = append(out, pod)
		}
	}
	return out, nil
}

// twin finds the one twin of a local pod.
func (s *scenario) twin(ctx context.Context, local types.UID) (*corev1.Pod, error) {
	all, err := s.twins(ctx)
	if err != nil {
		return nil, err
	}
	var found *corev1.Pod
	for i := range all {
		if originOf(&all[i]) != local {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("pod %s has two twins", local)
		}
		found = &all[i]
	}
	if found == nil {
		return nil, fmt.Errorf("pod %s has no twin", local)
	}
	return found, nil
}

func originOf(twin *corev1.Pod) types.UID {
	return types.UID(twin.Annotations[v1alpha1.AnnotationOriginUID])
}

// running waits until a pod and its twin are Running and Ready, and returns both.
func (s *scenario) running(name string) (local, twin *corev1.Pod) {
	s.Helper()
	s.eventually(soon, "pod "+name+" runs", func(ctx context.Context) (err error) {
		if local, err = s.local(ctx, name); err != nil {
			return err
		}
		if err := ready(local); err != nil {
			return err
		}
		twin, err = s.twin(ctx, local.UID)
		return err
	})
	return local, twin
}

// ready says why a pod is not Running and Ready; nil when it is.
func ready(pod *corev1.Pod) error {
	if pod.DeletionTimestamp != nil {
		return fmt.Errorf("pod %s is being deleted", pod.Name)
	}
	if pod.Status.Phase != corev1.PodRunning || !isTrue(pod, corev1.PodReady) {
		return fmt.Errorf("pod %s on node %q is %s: %s", pod.Name, pod.Spec.NodeName, pod.Status.Phase, words(pod))
	}
	return nil
}

func isTrue(pod *corev1.Pod, kind corev1.PodConditionType) bool {
	c := condition(pod, kind)
	return c != nil && c.Status == corev1.ConditionTrue
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// words are the conditions of a pod that are not True.
func words(pod *corev1.Pod) string {
	text := ""
	for _, c := range pod.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			text += fmt.Sprintf("%s=%s %s %s; ", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	return text
}

// refused says why a pod does not show this reason in its condition; nil when it does.
func (s *scenario) refused(ctx context.Context, name, reason string) error {
	pod, err := s.local(ctx, name)
	if err != nil {
		return err
	}
	c := condition(pod, "spillway.dev/Offloaded")
	if c == nil || c.Status != corev1.ConditionFalse || c.Reason != reason {
		return fmt.Errorf("pod %s does not say %s but: %s", name, reason, words(pod))
	}
	return nil
}

// hasEvent says why a pod has no Event with this reason; nil when it has.
func (s *scenario) hasEvent(ctx context.Context, name, reason string) error {
	events, err := s.consumer.kube.CoreV1().Events(s.ns).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.kind=Pod,reason=" + reason + ",involvedObject.name=" + name,
	})
	if err != nil {
		return err
	}
	if len(events.Items) == 0 {
		return fmt.Errorf("pod %s has no Event %s", name, reason)
	}
	return nil
}

// node reads the virtual node.
func (s *scenario) node(ctx context.Context) (*corev1.Node, error) {
	return s.consumer.kube.CoreV1().Nodes().Get(ctx, nodeName, getOptions())
}

// nodeIs says why the virtual node's Ready condition has not this status; nil when it has.
func (s *scenario) nodeIs(ctx context.Context, want corev1.ConditionStatus) error {
	node, err := s.node(ctx)
	if err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == want {
			return nil
		}
	}
	return fmt.Errorf("node %s is not Ready=%s: %v", nodeName, want, node.Status.Conditions)
}

// gone says why a pod of the consumer is still there; nil when it is not.
func (s *scenario) gone(ctx context.Context, name string) error {
	pod, err := s.local(ctx, name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("pod %s is still there, %s, deletion asked for at %v", name, pod.Status.Phase, pod.DeletionTimestamp)
}

// twinGone says why a twin is still there; nil when it is not.
func (s *scenario) twinGone(ctx context.Context, twin *corev1.Pod) error {
	now, err := s.provider.kube.CoreV1().Pods(twin.Namespace).Get(ctx, twin.Name, getOptions())
	if apierrors.IsNotFound(err) || err == nil && now.UID != twin.UID {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("twin %s/%s is still there, deletion asked for at %v", twin.Namespace, twin.Name, now.DeletionTimestamp)
}

func (s *scenario) deletePod(name string, options metav1.DeleteOptions) {
	s.Helper()
	s.check(s.consumer.kube.CoreV1().Pods(s.ns).Delete(s.ctx, name, options))
}

func byForce() metav1.DeleteOptions { return metav1.DeleteOptions{GracePeriodSeconds: new(int64)} }
