package translate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Subresources of pods that Drift patches.
const (
	SubresourceResize              = "resize"
	SubresourceEphemeralContainers = "ephemeralcontainers"
)

// Subresources are all that Drift patches, the pod itself ("") among them.
func Subresources() []string {
	return []string{"", SubresourceEphemeralContainers, SubresourceResize}
}

// object is a piece of a patch. Marshalling sorts its keys.
type object map[string]any

// Drift returns the next patch that makes what may change on a pod follow from local to twin, nil when there is none.
// It is a strategic merge patch without resourceVersion, for the subresource: "" (the pod itself),
// SubresourceEphemeralContainers, SubresourceResize, in this order, one per call: call again with the twin that the patch
// gave. Write it as FieldManager.
//
// It sees only what home owns, so that what the provider's API server, admission and people put on the twin is never a
// difference: images (see AnnotationImages), a new or shorter activeDeadlineSeconds, added tolerations, a negative
// terminationGracePeriodSeconds that became 1, labels and annotations, requests and limits of cpu and memory that local
// has, added ephemeral containers. A label or annotation that local does not have is removed only if the twin's
// managedFields say that FieldManager wrote it; without managedFields (TrimTwin keeps what is needed) none is removed.
//
// Twins that are being deleted or have ended, and twins of pods that are, no longer follow. The caller has checked that
// the twin is local's (AnnotationOriginUID).
func Drift(local, twin *corev1.Pod, env Env) (patch []byte, subresource string, err error) {
	if ended(local) || ended(twin) || local.DeletionTimestamp != nil || twin.DeletionTimestamp != nil {
		return nil, "", nil
	}
	next, subresource := drift(local, twin, env)
	if next == nil {
		return nil, "", nil
	}
	patch, err = json.Marshal(next)
	if err != nil {
		return nil, "", fmt.Errorf("encode patch of twin %s/%s: %w", twin.Namespace, twin.Name, err)
	}
	return patch, subresource, nil
}

func drift(local, twin *corev1.Pod, env Env) (patch object, subresource string) {
	wanted := func(subresource string) bool { return !slices.Contains(env.Skip, subresource) }
	if pod := podDrift(local, twin, env); pod != nil && wanted("") {
		return pod, ""
	}
	if added := ephemeralDrift(local, twin); added != nil && wanted(SubresourceEphemeralContainers) {
		return object{"spec": object{"ephemeralContainers": added}}, SubresourceEphemeralContainers
	}
	if spec := resizeDrift(&local.Spec, &twin.Spec); spec != nil && wanted(SubresourceResize) {
		return object{"spec": spec}, SubresourceResize
	}
	return nil, ""
}

// ended says whether the phase is final.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// set puts value at key, making the object if there is none.
func set(in object, key string, value any) object {
	if in == nil {
		in = object{}
	}
	in[key] = value
	return in
}

// podDrift returns the patch of the pod itself, nil if none.
func podDrift(local, twin *corev1.Pod, env Env) object {
	labels := mapDrift(local.Labels, twin.Labels, labelTravels)
	annotations := mapDrift(local.Annotations, twin.Annotations, annotationFollows)
	if len(twin.ManagedFields) > 0 {
		labels, annotations = staleKeys(local, twin, labels, annotations)
	}
	if twin.Labels[LabelNode] != env.NodeName {
		labels = set(labels, LabelNode, env.NodeName)
	}
	if have, is := twin.Labels[LabelIsolated]; isolated(local, env) {
		if have != IsolatedIngress {
			labels = set(labels, LabelIsolated, IsolatedIngress)
		}
	} else if is {
		labels = set(labels, LabelIsolated, nil)
	}
	spec := specDrift(&local.Spec, &twin.Spec)
	if images := imageDrift(local, twin, &spec); images != "" {
		annotations = set(annotations, AnnotationImages, images)
	}

	var meta, patch object
	if labels != nil {
		meta = set(meta, "labels", labels)
	}
	if annotations != nil {
		meta = set(meta, "annotations", annotations)
	}
	if meta != nil {
		patch = set(patch, "metadata", meta)
	}
	if spec != nil {
		patch = set(patch, "spec", spec)
	}
	return patch
}

// annotationFollows is annotationTravels minus what the API lets nobody change.
func annotationFollows(key string) bool {
	return annotationTravels(key) && !strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix)
}

// mapDrift returns what must be set so that have has everything of want that follows.
func mapDrift(want, have map[string]string, follows func(string) bool) object {
	var patch object
	for key, value := range want {
		if old, ok := have[key]; (!ok || old != value) && follows(key) {
			patch = set(patch, key, value)
		}
	}
	return patch
}

// staleKeys adds to the patches the removal of what we wrote on the twin and local no longer has.
func staleKeys(local, twin *corev1.Pod, labels, annotations object) (object, object) {
	if !hasMore(twin.Labels, local.Labels, labelTravels) &&
		!hasMore(twin.Annotations, local.Annotations, annotationFollows) {
		return labels, annotations
	}
	ours := written(twin.ManagedFields)
	for key := range twin.Labels {
		if lacks(local.Labels, key, labelTravels) && ours.hasLabel(key) {
			labels = set(labels, key, nil)
		}
	}
	for key := range twin.Annotations {
		if lacks(local.Annotations, key, annotationFollows) && ours.hasAnnotation(key) {
			annotations = set(annotations, key, nil)
		}
	}
	return labels, annotations
}

// hasMore says whether have has a key that want lacks.
func hasMore(have, want map[string]string, follows func(string) bool) bool {
	for key := range have {
		if lacks(want, key, follows) {
			return true
		}
	}
	return false
}

func lacks(want map[string]string, key string, follows func(string) bool) bool {
	_, ok := want[key]
	return !ok && follows(key)
}

// specDrift returns what changes in the spec besides images, nil if nothing.
func specDrift(local, twin *corev1.PodSpec) object {
	var spec object
	if want, have := local.ActiveDeadlineSeconds, twin.ActiveDeadlineSeconds; want != nil && (have == nil || *want < *have) {
		spec = set(spec, "activeDeadlineSeconds", *want)
	}
	want, have := local.TerminationGracePeriodSeconds, twin.TerminationGracePeriodSeconds
	if want != nil && have != nil && *want == 1 && *have < 0 {
		spec = set(spec, "terminationGracePeriodSeconds", *want)
	}
	if list := tolerationDrift(local.Tolerations, twin.Tolerations); list != nil {
		spec = set(spec, "tolerations", list)
	}
	return spec
}

// imageDrift adds to the patch of the spec the images that home has changed since they were last written. It returns the
// AnnotationImages to write with them, "" if there are none.
func imageDrift(local, twin *corev1.Pod, spec *object) string {
	inits := otherImages(local.Spec.InitContainers, twin.Spec.InitContainers)
	mains := otherImages(local.Spec.Containers, twin.Spec.Containers)
	if inits == nil && mains == nil {
		return ""
	}
	hashes := imageHashes(&local.Spec)
	now, then := strings.Split(hashes, "-"), strings.Split(twin.Annotations[AnnotationImages], "-")
	changed := func(i int) bool { return len(now) != len(then) || now[i] != then[i] }
	var initPatch, mainPatch []object
	for _, i := range inits {
		if changed(i) {
			initPatch = append(initPatch, imagePatch(&local.Spec.InitContainers[i]))
		}
	}
	for _, i := range mains {
		if changed(len(local.Spec.InitContainers) + i) {
			mainPatch = append(mainPatch, imagePatch(&local.Spec.Containers[i]))
		}
	}
	if initPatch == nil && mainPatch == nil {
		return ""
	}
	if initPatch != nil {
		*spec = set(*spec, "initContainers", initPatch)
	}
	if mainPatch != nil {
		*spec = set(*spec, "containers", mainPatch)
	}
	return hashes
}

func imagePatch(c *corev1.Container) object { return object{"name": c.Name, "image": c.Image} }

// otherImages returns the indexes in want of the containers that have another image in have.
func otherImages(want, have []corev1.Container) []int {
	var list []int
	for i := range want {
		if c := byName(have, i, want[i].Name); c != nil && c.Image != want[i].Image {
			list = append(list, i)
		}
	}
	return list
}

// byName returns the container with the name; guess is where it should be, but the provider's admission may have added
// containers of its own.
func byName(list []corev1.Container, guess int, name string) *corev1.Container {
	if guess < len(list) && list[guess].Name == name {
		return &list[guess]
	}
	if i := slices.IndexFunc(list, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
		return &list[i]
	}
	return nil
}

// tolerationDrift returns the whole list that the twin should have, nil if it has every toleration of local. The API
// allows additions and another tolerationSeconds, no removal.
func tolerationDrift(local, twin []corev1.Toleration) []corev1.Toleration {
	var list []corev1.Toleration
	for i := range local {
		want := &local[i]
		there := slices.ContainsFunc(twin, func(t corev1.Toleration) bool { return sameToleration(&t, want) })
		if there || !tolerationTravels(want) {
			continue
		}
		if list == nil {
			list = slices.Clone(twin)
		}
		j := slices.IndexFunc(list, func(t corev1.Toleration) bool { return t.MatchToleration(want) })
		if j >= 0 {
			list[j] = *want
		} else {
			list = append(list, *want)
		}
	}
	return list
}

func sameToleration(a, b *corev1.Toleration) bool {
	if (a.TolerationSeconds == nil) != (b.TolerationSeconds == nil) {
		return false
	}
	return a.MatchToleration(b) && (a.TolerationSeconds == nil || *a.TolerationSeconds == *b.TolerationSeconds)
}

// ephemeralDrift returns the last ephemeral container that the twin lacks, as the twin should have it, in a list; nil if none.
// One at a time and the last first, since they can never be taken away at home: one that the provider refuses, a privileged
// one for example, would otherwise keep all later ones away.
func ephemeralDrift(local, twin *corev1.Pod) []corev1.EphemeralContainer {
	for i := range slices.Backward(local.Spec.EphemeralContainers) {
		want := &local.Spec.EphemeralContainers[i]
		there := slices.ContainsFunc(twin.Spec.EphemeralContainers,
			func(c corev1.EphemeralContainer) bool { return c.Name == want.Name })
		if there {
			continue
		}
		added := want.DeepCopy()
		c := (*corev1.Container)(&added.EphemeralContainerCommon)
		asSeenAtHome(c.Env, local)
		c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
			return !slices.ContainsFunc(twin.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		})
		return []corev1.EphemeralContainer{*added}
	}
	return nil
}

// resizeDrift returns the resources that differ, nil if none.
func resizeDrift(local, twin *corev1.PodSpec) object {
	var spec object
	if local.Resources != nil {
		have := twin.Resources
		if have == nil {
			have = &corev1.ResourceRequirements{}
		}
		if changed := resourcesDrift(local.Resources, have); changed != nil {
			spec = set(spec, "resources", changed)
		}
	}
	if list := containersResize(local.Containers, twin.Containers); list != nil {
		spec = set(spec, "containers", list)
	}
	if list := containersResize(local.InitContainers, twin.InitContainers); list != nil {
		spec = set(spec, "initContainers", list)
	}
	return spec
}

func containersResize(local, twin []corev1.Container) []object {
	var list []object
	for i := range local {
		have := byName(twin, i, local[i].Name)
		if have == nil {
			continue
		}
		if changed := resourcesDrift(&local[i].Resources, &have.Resources); changed != nil {
			list = append(list, object{"name": local[i].Name, "resources": changed})
		}
	}
	return list
}

func resourcesDrift(want, have *corev1.ResourceRequirements) object {
	var changed object
	if list := quantitiesDrift(want.Requests, have.Requests); list != nil {
		changed = set(changed, "requests", list)
	}
	if list := quantitiesDrift(want.Limits, have.Limits); list != nil {
		changed = set(changed, "limits", list)
	}
	return changed
}

// quantitiesDrift compares what the API lets a resize change.
func quantitiesDrift(want, have corev1.ResourceList) object {
	var changed object
	for _, name := range [...]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if q, ok := want[name]; ok && q.Cmp(have[name]) != 0 {
			changed = set(changed, string(name), q)
		}
	}
	return changed
}
