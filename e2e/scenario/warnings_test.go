package scenario

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

// TestWarningsComeHome: what the provider warns of is an Event of the local pod, in home's words and once, also after a
// restart, and growing. Events of success stay there.
func TestWarningsComeHome(t *testing.T) {
	s := begin(t)
	remote := s.tenantNamespace(s.ns)
	local := s.create(s.remotePod("stuck", func(pod *corev1.Pod) { // bound at home past its scheduler, and fits nowhere
		pod.Spec.NodeName = nodeName
		pod.Spec.NodeSelector = map[string]string{corev1.LabelArchStable: "s390x"}
	}))
	told := func(ctx context.Context) ([]corev1.Event, error) {
		list, err := s.consumer.kube.CoreV1().Events(s.ns).List(ctx, metav1.ListOptions{FieldSelector: fields.Set{
			"involvedObject.uid": string(local.UID), "reportingComponent": "spillway",
		}.String()})
		if err != nil {
			return nil, err
		}
		return list.Items, nil
	}
	one := func(ctx context.Context, reason, words string) error {
		all, err := told(ctx)
		if err != nil {
			return err
		}
		found := 0
		for _, e := range all {
			if e.Reason == reason && strings.Contains(e.Message, words) && e.Type == corev1.EventTypeWarning && e.ReportingInstance == nodeName {
				found++
			}
		}
		if found != 1 {
			return fmt.Errorf("%d Events %s at home with %q, want one: %v", found, reason, words, all)
		}
		return nil
	}
	s.eventually(soon, "the scheduler's words are told at home", func(ctx context.Context) error {
		return one(ctx, "FailedScheduling", "nodes are available")
	})

	twin, err := s.provider.kube.CoreV1().Pods(remote).Get(s.ctx, "stuck", getOptions())
	s.check(err)
	about := corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: remote, Name: twin.Name, UID: twin.UID}
	say := func(name, kind, reason string) {
		now := metav1.Now()
		_, err := s.provider.kube.CoreV1().Events(remote).Create(s.ctx, &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: name}, InvolvedObject: about, Type: kind, Reason: reason, Count: 1,
			Message: fmt.Sprintf("volume of pod stuck_%s(%s)", remote, twin.UID), FirstTimestamp: now, LastTimestamp: now,
		}, metav1.CreateOptions{})
		s.check(err)
	}
	say("stuck.1", corev1.EventTypeNormal, "Mounted")
	say("stuck.2", corev1.EventTypeWarning, "FailedMount")
	words := fmt.Sprintf("volume of pod stuck_%s(%s)", s.ns, twin.UID)
	s.eventually(soon, "a kubelet's words are told at home", func(ctx context.Context) error { return one(ctx, "FailedMount", words) })

	before, err := told(s.ctx)
	s.check(err)
	s.check(s.consumer.spillwayd.Restart())
	_, err = s.provider.kube.CoreV1().Events(remote).Patch(s.ctx, "stuck.2", types.MergePatchType, []byte(`{"count":7}`), metav1.PatchOptions{})
	s.check(err)
	s.eventually(soon, "it counts on after a restart", func(ctx context.Context) error {
		all, err := told(ctx)
		if err != nil {
			return err
		}
		if len(all) != len(before) {
			return fmt.Errorf("%d Events at home, before %d", len(all), len(before))
		}
		for _, e := range all {
			if e.Reason == "FailedMount" && e.Count == 7 {
				return nil
			}
			if e.Reason == "Mounted" {
				t.Errorf("an Event of success came home: %s", e.Message)
			}
		}
		return fmt.Errorf("none of %d Events counts 7", len(all))
	})
}
