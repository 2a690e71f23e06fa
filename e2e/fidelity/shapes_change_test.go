package fidelity

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
)

// otherImage is one that the nodes have, and that goes on until it is told to end.
const otherImage = "spillway.dev/lab/pause:v1"

// change is a patch of a pod at home; of a subresource, if there is one.
func change(kind types.PatchType, patch string, subresource ...string) func(context.Context, typedcore.PodInterface, string) error {
	return func(ctx context.Context, pods typedcore.PodInterface, name string) error {
		_, err := pods.Patch(ctx, name, kind, []byte(patch), metav1.PatchOptions{}, subresource...)
		return err
	}
}

// setInApp is a change of the container's fields.
func setInApp(fields string, subresource ...string) func(context.Context, typedcore.PodInterface, string) error {
	return change(types.StrategicMergePatchType, `{"spec":{"containers":[{"name":"app",`+fields+`}]}}`, subresource...)
}

// changed: what may change in a pod that runs.
func changed() []shape {
	const sized = `args: [sleep], resources: {requests: {cpu: 20m, memory: 16Mi}, limits: {cpu: 100m, memory: 64Mi}}`
	labels := `volumes: [{name: v, downwardAPI: {items: [
    {path: team, fieldRef: {fieldPath: "metadata.labels['example.com/team']"}}, {path: more, fieldRef: {fieldPath: "metadata.labels['example.com/more']"}},
    {path: note, fieldRef: {fieldPath: "metadata.annotations['example.com/note']"}}, {path: quote, fieldRef: {fieldPath: "metadata.annotations['example.com/quote']"}}]}}]`
	return []shape{
		{name: "image-changed", when: ready, then: setInApp(`"image":"` + otherImage + `"`), until: restarted(1), spec: always(`args: [sleep]`)},
		{name: "image-changed-to-none", when: ready, then: setInApp(`"image":"spillway.dev/lab/none:v2"`), until: waiting("ErrImageNeverPull"), spec: always(`args: [sleep]`),
			warns: "ErrImageNeverPull"},
		{name: "ephemeral-container", when: ready, until: looked,
			then: change(types.StrategicMergePatchType, `{"spec":{"ephemeralContainers":[{"name":"debug","image":"`+appImage+`","imagePullPolicy":"Never",
"env":[{"name":"NODE_","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}}],"args":["see","host","env:NODE_","tree:/v","exit:3"],
"volumeMounts":[{"name":"v","mountPath":"/v"}]}]}}`, "ephemeralcontainers"),
			spec: always(`args: [sleep]`, "volumes: [{name: v, configMap: {name: settings}}]")},
		{name: "ephemeral-container-stays", when: ready, until: joined,
			then: change(types.StrategicMergePatchType, `{"spec":{"ephemeralContainers":[{"name":"debug","image":"`+appImage+`","imagePullPolicy":"Never","args":["sleep"],"targetContainerName":"app"}]}}`, "ephemeralcontainers"),
			spec: always(`args: [sleep]`)},
		{name: "cpu-resized", when: ready, until: resized(corev1.ResourceCPU, "30m"), spec: always(sized),
			then: setInApp(`"resources":{"requests":{"cpu":"30m"},"limits":{"cpu":"150m"}}`, "resize")},
		{name: "memory-resized", when: ready, until: resized(corev1.ResourceMemory, "24Mi"), spec: always(sized),
			then: setInApp(`"resources":{"requests":{"memory":"24Mi"},"limits":{"memory":"96Mi"}}`, "resize")},
		{name: "memory-shrunk", when: ready, until: resized(corev1.ResourceMemory, "12Mi"), spec: always(sized),
			then: setInApp(`"resources":{"requests":{"memory":"12Mi"},"limits":{"memory":"48Mi"}}`, "resize")},
		{name: "resized-by-restart", when: ready, until: restarted(1), spec: always(sized + `, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]`),
			then: setInApp(`"resources":{"requests":{"cpu":"30m"},"limits":{"cpu":"150m"}}`, "resize")},
		{name: "resized-too-far", when: ready, until: ready, spec: always(`args: [sleep], resources: {requests: {cpu: 20m}}`),
			then: forbidden(setInApp(`"resources":{"requests":{"cpu":"4k"}}`, "resize"))},
		{name: "sidecar-image-changed", when: ready, until: restarted(1),
			then: change(types.StrategicMergePatchType, `{"spec":{"initContainers":[{"name":"side","image":"`+otherImage+`"}]}}`),
			spec: "initContainers: [{name: side, restartPolicy: Always, args: [sleep]}]\n" + always(`args: [sleep]`)},
		{name: "deadline-set-later", when: ready, then: change(types.MergePatchType, `{"spec":{"activeDeadlineSeconds":1}}`), spec: always(`args: [sleep]`)},
		{name: "labels-and-annotations-changed", when: ready,
			then: change(types.MergePatchType, `{"metadata":{"labels":{"example.com/team":"blue","example.com/more":"yes"},"annotations":{"example.com/note":null,"example.com/quote":"none"}}}`),
			spec: once(`args: [see, "until:/v/team=blue", "file:/v/team", "file:/v/more", "file:/v/note", "file:/v/quote"], volumeMounts: [{name: v, mountPath: /v}]`, labels)},
		{name: "scheduling-gate-removed", when: gated, then: change(types.MergePatchType, `{"spec":{"schedulingGates":null}}`),
			spec: once(`args: [see, host]`, "schedulingGates: [{name: example.com/wait}]")},
		{name: "toleration-added", when: ready, until: tolerates("example.com/more"), spec: always(`args: [sleep]`),
			then: change(types.JSONPatchType, `[{"op":"add","path":"/spec/tolerations/-","value":{"key":"example.com/more","operator":"Exists"}}]`)},
	}
}

// looked is an ephemeral container's end, joined its start.
func looked(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.EphemeralContainerStatuses, func(c corev1.ContainerStatus) bool { return c.State.Terminated != nil })
}

func joined(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.EphemeralContainerStatuses, func(c corev1.ContainerStatus) bool { return c.State.Running != nil })
}

// resized is a pod whose kubelet has done what was asked for. That may take it two looks: it makes memory smaller only once it has
// measured how much the pod uses, and says PodResizeInProgress with an error until then.
func resized(what corev1.ResourceName, want string) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool {
		if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress
		}) {
			return false
		}
		return ready(pod) && slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
			if c.Resources == nil {
				return false
			}
			got := c.Resources.Requests[what]
			return got.String() == want
		})
	}
}

func tolerates(key string) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool {
		return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool { return t.Key == key }) &&
			pod.Status.ObservedGeneration == pod.Generation
	}
}

// forbidden is a change that home's API server refuses by itself, since the node is too small for it.
func forbidden(then func(context.Context, typedcore.PodInterface, string) error) func(context.Context, typedcore.PodInterface, string) error {
	return func(ctx context.Context, pods typedcore.PodInterface, name string) error {
		err := then(ctx, pods, name)
		switch {
		case apierrors.IsForbidden(err):
			return nil
		case err == nil:
			return errors.New("the API server takes what the node has no room for")
		}
		return err
	}
}
