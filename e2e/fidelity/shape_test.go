package fidelity

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// shape is one row of the table.
type shape struct {
	name string // of the pods too, with what ending they have
	spec string // a PodSpec in YAML; containers without an image get the app's
	// until says when a pod has come to rest; nil: when it has ended.
	until func(*corev1.Pod) bool
	// then changes the pod, at home wherever it runs, once it is as when says; until is about what comes of it. Nil: nothing changes.
	then func(context.Context, typedcore.PodInterface, string) error
	when func(*corev1.Pod) bool
	// warns is the reason of a Warning that a user finds among the Events of such a pod. All its Warnings are compared then.
	warns string
	// differs has the keys of view that differ by design, with the reason as in docs/reference.md.
	differs map[string]reason
	// refused is a pod that the peer does not take, since its pod security forbids it. It is not compared further.
	refused bool
	// skip says what is wrong with Spillway, so that the shape cannot be compared yet.
	skip string
}

// The two ends of names. They are of one length, so that nothing is cut off in one only.
const (
	atHome = "home"
	inPeer = "peer"
)

// pod is the manifest of one of the two; nodes is the value of the label kubernetes.io/hostname.
func (s shape) pod(end, node string) (*corev1.Pod, error) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name:        s.name + "-" + end,
		Labels:      map[string]string{"tier": "front", "example.com/team": "red"},
		Annotations: map[string]string{"example.com/note": "two\nlines", "example.com/quote": `"q"`},
	}}
	if err := yaml.UnmarshalStrict([]byte(s.spec), &pod.Spec); err != nil {
		return nil, fmt.Errorf("shape %s: %w", s.name, err)
	}
	if pod.Spec.NodeSelector == nil {
		pod.Spec.NodeSelector = map[string]string{}
	}
	pod.Spec.NodeSelector[corev1.LabelHostname] = node
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists})
	if pod.Spec.TerminationGracePeriodSeconds == nil {
		pod.Spec.TerminationGracePeriodSeconds = new(int64(1))
	}
	for _, list := range [...][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Image == "" {
				list[i].Image = appImage
			}
			list[i].ImagePullPolicy = corev1.PullNever
		}
	}
	return pod, nil
}

func (s shape) atRest(pod *corev1.Pod) bool {
	if s.refused && strings.HasSuffix(pod.Name, "-"+inPeer) {
		return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == "spillway.dev/Offloaded" && c.Reason == "RefusedByProvider" && strings.Contains(c.Message, "violates PodSecurity")
		})
	}
	if s.until == nil {
		return ended(pod)
	}
	return s.until(pod)
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func ready(pod *corev1.Pod) bool { return has(pod, corev1.PodReady, corev1.ConditionTrue) }

func has(pod *corev1.Pod, kind corev1.PodConditionType, want corev1.ConditionStatus) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind && c.Status == want })
}

// running is all containers, ready or not.
func running(pod *corev1.Pod) bool {
	return len(pod.Status.ContainerStatuses) > 0 && !slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.State.Running == nil
	})
}

// waiting is one container for a reason.
func waiting(why string) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool {
		all := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
		return slices.ContainsFunc(all, func(c corev1.ContainerStatus) bool { return c.State.Waiting != nil && c.State.Waiting.Reason == why })
	}
}

// restarted is ready after that many restarts.
func restarted(times int32) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool {
		sum := int32(0)
		for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			sum += c.RestartCount
		}
		return ready(pod) && sum == times
	}
}

// see is a pod that ends at once and runs the test program with these words.
func see(words ...string) string { return once("args: " + list(append([]string{"see"}, words...))) }

// once is a pod with one container that runs once. More is what belongs to the container, in YAML's flow style, and then lines of the pod.
func once(container string, pod ...string) string {
	return "restartPolicy: Never\n" + always(container, pod...)
}

func always(container string, pod ...string) string {
	return "containers: [{name: app, " + container + "}]\n" + strings.Join(pod, "\n")
}

// list is YAML's flow style.
func list(words []string) string {
	var quoted []string
	for _, word := range words {
		quoted = append(quoted, fmt.Sprintf("%q", word))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func configMaps() []*corev1.ConfigMap {
	return []*corev1.ConfigMap{
		{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"COLOUR": "blue", "app.conf": "a = 1\nb = 2\n", "SIZE": ""},
			BinaryData: map[string][]byte{"raw.bin": {0, 1, 0xfe, 0xff}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "fixed"}, Immutable: new(true), Data: map[string]string{"FIXED": "yes"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "empty"}},
	}
}

func secrets() []*corev1.Secret {
	return []*corev1.Secret{
		{ObjectMeta: metav1.ObjectMeta{Name: "credentials"}, Data: map[string][]byte{"USER": []byte("ann"), "PASSWORD": []byte("s3cret\n")}},
		{ObjectMeta: metav1.ObjectMeta{Name: "login"}, Type: corev1.SecretTypeBasicAuth,
			Data: map[string][]byte{"username": []byte("ann"), "password": []byte("pw")}},
	}
}
