package trail

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

// Explain tells what a cluster says of a namespace, for people who look why a test did not hold: nodes, pods, policies and Migrations
// with their status, and the Events that are not of the everyday kind. What cannot be read is told as well.
func Explain(ctx context.Context, config *rest.Config, namespace string) string {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = "", ""
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for _, part := range []func(context.Context, kubernetes.Interface, string) (string, error){nodes, pods, budgets, events} {
		words, err := part(ctx, kube, namespace)
		if err != nil {
			words += err.Error() + "\n"
		}
		text.WriteString(words)
	}
	text.WriteString(kinds(ctx, config, namespace))
	return text.String()
}

func nodes(ctx context.Context, kube kubernetes.Interface, _ string) (string, error) {
	list, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	text := "nodes:\n"
	for _, n := range list.Items {
		text += fmt.Sprintf("  %s: allocatable cpu %s, memory %s, pods %s; unschedulable %t, taints %s\n", n.Name, n.Status.Allocatable.Cpu(),
			n.Status.Allocatable.Memory(), n.Status.Allocatable.Pods(), n.Spec.Unschedulable, line(n.Spec.Taints))
	}
	return text, nil
}

func pods(ctx context.Context, kube kubernetes.Interface, namespace string) (string, error) {
	list, err := kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("pods of %s:\n", namespace)
	for _, p := range list.Items {
		text += fmt.Sprintf("  %s on %s, %s, ending %t, gates %s, labels %s\n", p.Name, cmp.Or(p.Spec.NodeName, "(no node)"), p.Status.Phase,
			p.DeletionTimestamp != nil, line(p.Spec.SchedulingGates), line(p.Labels))
		for _, c := range p.Status.Conditions {
			if c.Status != corev1.ConditionTrue {
				text += fmt.Sprintf("    %s=%s %s %s\n", c.Type, c.Status, c.Reason, c.Message)
			}
		}
		for _, key := range []string{v1alpha1.AnnotationPlacement, v1alpha1.AnnotationBurst, v1alpha1.AnnotationMoving, v1alpha1.AnnotationPolicy} {
			if value := p.Annotations[key]; value != "" {
				text += fmt.Sprintf("    %s: %s\n", key, value)
			}
		}
		if p.Spec.NodeName == "" {
			text += fmt.Sprintf("    tolerations %s\n    nodeSelector %s, affinity %s\n", line(p.Spec.Tolerations), line(p.Spec.NodeSelector), line(p.Spec.Affinity))
		}
	}
	return text, nil
}

func budgets(ctx context.Context, kube kubernetes.Interface, namespace string) (string, error) {
	list, err := kube.PolicyV1().PodDisruptionBudgets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	text := ""
	for _, b := range list.Items {
		text += fmt.Sprintf("budget %s: %s\n", b.Name, line(b.Status))
	}
	return text, nil
}

// everyday are the reasons of Events that say nothing here.
func everyday() []string {
	return []string{"Scheduled", "Pulled", "Created", "Started", "SuccessfulCreate", "SuccessfulDelete", "Killing", "ScalingReplicaSet"}
}

func events(ctx context.Context, kube kubernetes.Interface, namespace string) (string, error) {
	list, err := kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	slices.SortStableFunc(list.Items, func(a, b corev1.Event) int { return when(a).Compare(when(b)) })
	text := fmt.Sprintf("Events of %s:\n", namespace)
	for _, e := range list.Items {
		if slices.Contains(everyday(), e.Reason) {
			continue
		}
		text += fmt.Sprintf("  %s %s/%s %s (%s, %d times): %s\n", when(e).UTC().Format(time.TimeOnly), e.InvolvedObject.Kind, e.InvolvedObject.Name,
			e.Reason, cmp.Or(e.Source.Component, e.ReportingController), max(1, e.Count), e.Message)
	}
	return text, nil
}

// when an Event was seen last; of the three fields for that one is filled in.
func when(e corev1.Event) time.Time {
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if !t.IsZero() {
			return t
		}
	}
	return e.CreationTimestamp.Time
}

// kinds are the policies and Migrations.
func kinds(ctx context.Context, config *rest.Config, namespace string) string {
	text := ""
	if client, err := peeringclient.NewPolicies(config); err != nil {
		text += err.Error() + "\n"
	} else if list, err := client(namespace).List(ctx, metav1.ListOptions{}); err != nil {
		text += err.Error() + "\n"
	} else {
		for _, p := range list.Items {
			text += fmt.Sprintf("policy %s: %s\n  spec %s\n  status %s\n", p.Name, line(p.Annotations), line(p.Spec), line(p.Status))
		}
	}
	if client, err := peeringclient.NewMigrations(config); err != nil {
		text += err.Error() + "\n"
	} else if list, err := client(namespace).List(ctx, metav1.ListOptions{}); err != nil {
		text += err.Error() + "\n"
	} else {
		for _, m := range list.Items {
			text += fmt.Sprintf("migration %s:\n  spec %s\n  status %s\n", m.Name, line(m.Spec), line(m.Status))
		}
	}
	return text
}

// line is a value as JSON.
func line(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
