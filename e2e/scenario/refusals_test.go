package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// refusal is one thing that a provider refuses.
type refusal struct {
	name   string // of the pod
	reason string // of condition and Event
	words  string // of the provider, in both
	change func(*corev1.Pod)
	cause  func(s *scenario, remote string)
	heal   func(s *scenario, remote string)
}

// attempts is how often an object may be tried while the test looks: at first, and every 30 s.
const (
	looked   = 35 * time.Second
	attempts = 2
)

// refusals are what a provider refuses pods for. "Name taken" is TestForeignPod.
func refusals() []refusal {
	return []refusal{
		{
			name: "quota", reason: "RefusedByProvider", words: "exceeded quota",
			change: func(pod *corev1.Pod) {
				pod.Spec.Containers[0].Resources.Requests[corev1.ResourceMemory] = resource.MustParse("1Gi")
			},
			cause: func(s *scenario, remote string) {
				_, err := s.provider.kube.CoreV1().ResourceQuotas(remote).Create(s.ctx, &corev1.ResourceQuota{
					ObjectMeta: metav1.ObjectMeta{Name: "narrow"},
					Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceRequestsMemory: resource.MustParse("512Mi")}},
				}, metav1.CreateOptions{})
				s.check(err)
			},
			heal: func(s *scenario, remote string) {
				s.check(s.provider.kube.CoreV1().ResourceQuotas(remote).Delete(s.ctx, "narrow", metav1.DeleteOptions{}))
			},
		},
		{
			name: "security", reason: "RefusedByProvider", words: "violates PodSecurity",
			change: func(pod *corev1.Pod) {
				pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: ptr.To(true)}
			},
			heal: func(s *scenario, remote string) {
				_, err := s.provider.kube.CoreV1().Namespaces().Patch(s.ctx, remote, types.MergePatchType,
					[]byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`), metav1.PatchOptions{})
				s.check(err)
			},
		},
		{
			name: "admission", reason: "RefusedByProvider", words: "not on a Monday",
			change: func(pod *corev1.Pod) { pod.Labels["monday"] = "yes" },
			cause:  func(s *scenario, remote string) { s.denyMondays(remote) },
			heal: func(s *scenario, _ string) {
				s.check(s.provider.kube.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(s.ctx, "monday", metav1.DeleteOptions{}))
			},
		},
		{
			name: "large", reason: "RefusedByProvider", words: "Too long",
			change: func(pod *corev1.Pod) { // what Spillway writes on the twin no longer finds room
				pod.Annotations = map[string]string{"big": strings.Repeat("x", 256<<10-50)}
			},
			heal: func(s *scenario, _ string) {
				_, err := s.consumer.kube.CoreV1().Pods(s.ns).Patch(s.ctx, "large", types.MergePatchType,
					[]byte(`{"metadata":{"annotations":{"big":"small"}}}`), metav1.PatchOptions{})
				s.check(err)
			},
		},
	}
}

// denyMondays makes an admission policy of the provider that refuses some pods of a namespace.
func (s *scenario) denyMondays(namespace string) {
	s.Helper()
	api, only := s.provider.kube.AdmissionregistrationV1(), &admissionregistrationv1.MatchResources{
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}}}
	_, err := api.ValidatingAdmissionPolicies().Create(s.ctx, &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "monday"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
				}}}},
			Validations: []admissionregistrationv1.Validation{{
				Expression: "!has(object.metadata.labels) || !('monday' in object.metadata.labels)", Message: "not on a Monday"}},
		},
	}, metav1.CreateOptions{})
	s.check(err)
	_, err = api.ValidatingAdmissionPolicyBindings().Create(s.ctx, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "monday"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: "monday", MatchResources: only,
			ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	}, metav1.CreateOptions{})
	s.check(err)
	s.Cleanup(func() {
		s.check(api.ValidatingAdmissionPolicies().Delete(s.ctx, "monday", metav1.DeleteOptions{}))
	})
	s.eventually(soon, "the provider refuses Mondays", func(ctx context.Context) error {
		_, err := s.provider.kube.CoreV1().Pods(namespace).Create(ctx, s.remotePod("probe", plain, func(pod *corev1.Pod) {
			pod.Namespace, pod.Labels["monday"] = namespace, "yes"
		}), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
			return fmt.Errorf("not yet: %v", err)
		}
		return nil
	})
}

// TestRefusals: whatever the provider refuses is visible at home as a condition and one Event with the provider's words, is tried again
// every 30 s and no sooner, and heals by itself.
func TestRefusals(t *testing.T) {
	s := begin(t)
	remote := s.tenantNamespace(s.ns)
	rows := refusals()
	for _, r := range rows {
		if r.cause != nil {
			r.cause(s, remote)
		}
	}
	tried := s.countWrites(s.provider, "spillwayd")
	for _, r := range rows {
		s.create(s.remotePod(r.name, r.change))
	}
	for _, r := range rows {
		s.eventually(soon, r.name+": the user is told", func(ctx context.Context) error { return s.told(ctx, r) })
	}
	s.foreignService(remote)
	_, _ = poll(s.ctx, looked, func(context.Context) error { return errors.New("not over") })
	writes, err := tried.read(s.ctx)
	s.check(err)
	s.Logf("writes at the provider in %s: %v", looked, writes)
	if n, most := writes["create pods"], int64(attempts*len(rows)); n > most {
		s.Errorf("%d attempts to make %d pods, want at most %d", n, len(rows), most)
	}
	if n := writes["create services"]; n > attempts {
		s.Errorf("%d attempts to make a Service, want at most %d", n, attempts)
	}
	for _, r := range rows {
		s.check(s.told(s.ctx, r))
	}
	for _, r := range rows {
		r.heal(s, remote)
	}
	s.check(s.provider.kube.CoreV1().Services(remote).Delete(s.ctx, "taken", metav1.DeleteOptions{}))
	for _, r := range rows {
		s.eventually(45*time.Second, r.name+": it runs", func(ctx context.Context) error {
			pod, err := s.local(ctx, r.name)
			if err == nil {
				err = ready(pod)
			}
			return err
		})
	}
	s.eventually(45*time.Second, "the Service follows", func(ctx context.Context) error {
		svc, err := s.provider.kube.CoreV1().Services(remote).Get(ctx, "taken", getOptions())
		if err == nil && svc.Annotations["spillway.dev/origin-uid"] == "" {
			err = errors.New("it is not ours")
		}
		return err
	})
}

// told says why home does not tell of a refusal as it should: a condition, and one Event.
func (s *scenario) told(ctx context.Context, r refusal) error {
	if err := s.refused(ctx, r.name, r.reason); err != nil {
		return err
	}
	pod, err := s.local(ctx, r.name)
	if err != nil {
		return err
	}
	if c := condition(pod, "spillway.dev/Offloaded"); !strings.Contains(c.Message, r.words) {
		return fmt.Errorf("the condition says %q, not the provider's %q", c.Message, r.words)
	}
	return s.oneEvent(ctx, "Pod", r.name, r.words)
}

// oneEvent says why there is not exactly one Event about an object with these words, told once.
func (s *scenario) oneEvent(ctx context.Context, kind, name, words string) error {
	events, err := s.consumer.kube.CoreV1().Events(s.ns).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.kind=" + kind + ",involvedObject.name=" + name + ",type=Warning",
	})
	if err != nil {
		return err
	}
	var said []string
	for _, e := range events.Items {
		if strings.Contains(e.Message, words) {
			said = append(said, fmt.Sprintf("%d × %s: %s", e.Count, e.Reason, e.Message))
		}
	}
	if len(said) != 1 || !strings.HasPrefix(said[0], "1 ×") {
		return fmt.Errorf("%s %s has %d Events: %q", kind, name, len(said), said)
	}
	return nil
}

// foreignService makes a Service at home whose name somebody else has at the provider.
func (s *scenario) foreignService(remote string) {
	s.Helper()
	service := func(namespace string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "taken", Namespace: namespace},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	_, err := s.provider.kube.CoreV1().Services(remote).Create(s.ctx, service(remote), metav1.CreateOptions{})
	s.check(err)
	_, err = s.consumer.kube.CoreV1().Services(s.ns).Create(s.ctx, service(s.ns), metav1.CreateOptions{})
	s.check(err)
	s.eventually(soon, "the Service's owner is told", func(ctx context.Context) error {
		return s.oneEvent(ctx, "Service", "taken", "was not made by Spillway")
	})
}
