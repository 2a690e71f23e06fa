package translate

import (
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ownPrefix begins every label and annotation of Spillway. None is ever copied: a local pod may itself be a twin of
// another consumer's.
const ownPrefix = "spillway.dev/"

// Twin returns the pod that the peer should run for local: a new object that shares nothing with local, ready to be
// created (no resourceVersion, no status). Ephemeral containers are not in it, since the API takes them only by
// subresource: Drift adds them.
func Twin(local *corev1.Pod, env Env) *corev1.Pod {
	twin := &corev1.Pod{
		ObjectMeta: twinMeta(&local.ObjectMeta, env),
		Spec:       *twinSpec(local, env),
	}
	twin.Labels[LabelNode] = env.NodeName
	if isolated(local, env) {
		twin.Labels[LabelIsolated] = IsolatedIngress
	}
	twin.Annotations[AnnotationImages] = imageHashes(&local.Spec)
	return twin
}

// isolated says whether the twin is to have LabelIsolated.
func isolated(local *corev1.Pod, env Env) bool {
	return env.Isolated != nil && env.Isolated(local.Labels)
}

// twinMeta returns the metadata of the twin of any object: its name, its labels and annotations, and our own. Owners and
// finalizers stay at home, since what they name does not exist in the peer.
func twinMeta(local *metav1.ObjectMeta, env Env) metav1.ObjectMeta {
	meta := metav1.ObjectMeta{
		Name:        local.Name,
		Namespace:   env.RemoteNamespace,
		Labels:      make(map[string]string, len(local.Labels)+2),
		Annotations: make(map[string]string, len(local.Annotations)+3),
	}
	for key, value := range local.Labels {
		if labelTravels(key) {
			meta.Labels[key] = value
		}
	}
	for key, value := range local.Annotations {
		if annotationTravels(key) {
			meta.Annotations[key] = value
		}
	}
	meta.Labels[LabelOrigin] = env.Origin
	meta.Annotations[AnnotationOriginUID] = string(local.UID)
	meta.Annotations[AnnotationOriginNamespace] = local.Namespace
	return meta
}

func labelTravels(key string) bool {
	switch key {
	case corev1.LabelTopologyZone, corev1.LabelTopologyRegion:
		// The API server writes them on a pod when it is bound, from its node (KEP-4742); so does the provider's.
		return false
	}
	return !strings.HasPrefix(key, ownPrefix)
}

func annotationTravels(key string) bool {
	switch key {
	case corev1.LastAppliedConfigAnnotation: // kubectl in the peer would take it for its own
		return false
	case "kubernetes.io/limit-ranger": // tells of limits of home's namespace
		return false
	case "kubernetes.io/config.mirror", "kubernetes.io/config.source", "kubernetes.io/config.hash",
		"kubernetes.io/config.seen": // the peer's kubelet would take the twin for the mirror of a static pod
		return false
	}
	return !strings.HasPrefix(key, ownPrefix)
}

// twinSpec returns a copy of the spec of local minus what is true at home only. See fields.md.
func twinSpec(local *corev1.Pod, env Env) *corev1.PodSpec {
	spec := withoutEphemeral(&local.Spec)
	spec.NodeName = ""
	spec.SchedulerName = ""
	spec.SchedulingGates = nil
	spec.SchedulingGroup = nil
	spec.PriorityClassName = ""
	spec.Priority = nil
	spec.PreemptionPolicy = nil
	spec.Overhead = nil
	spec.ReadinessGates = nil
	spec.NodeSelector = hardwareSelector(spec.NodeSelector)
	spec.Tolerations = travellingTolerations(spec.Tolerations)
	spec.Affinity = twinAffinity(local, spec)
	spec.TopologySpreadConstraints = softSpread(local, spec.TopologySpreadConstraints)
	if TokensFollow(env) {
		deliverTokens(spec, local.UID, env.HomeAPI)
	}
	askForHome(spec, local.Namespace, env)
	dropIdentity(spec)
	eachContainer(spec, func(c *corev1.Container) { asSeenAtHome(c.Env, local) })
	volumesAsSeenAtHome(spec.Volumes)
	claimsAsSeenAtHome(spec.Volumes, local, env)
	patchSpec(spec, env.Patch)
	return spec
}

// patchSpec puts what the peer needs on the spec of a twin.
func patchSpec(spec *corev1.PodSpec, patch TwinPatch) {
	wary := toleratesAll(spec.Tolerations)
	if len(patch.NodeSelector) > 0 {
		if spec.NodeSelector == nil {
			spec.NodeSelector = map[string]string{}
		}
		maps.Copy(spec.NodeSelector, patch.NodeSelector)
	}
	for i := range patch.Tolerations {
		same := func(t corev1.Toleration) bool { return t.MatchToleration(&patch.Tolerations[i]) }
		if j := slices.IndexFunc(spec.Tolerations, same); j >= 0 {
			spec.Tolerations[j] = *patch.Tolerations[i].DeepCopy()
		} else {
			spec.Tolerations = append(spec.Tolerations, *patch.Tolerations[i].DeepCopy())
		}
	}
	if !wary && toleratesAll(spec.Tolerations) {
		if spec.Affinity == nil {
			spec.Affinity = &corev1.Affinity{}
		}
		spec.Affinity.NodeAffinity = keepOffVirtualNodes(spec.Affinity.NodeAffinity)
	}
	if patch.RuntimeClassName != nil {
		name := *patch.RuntimeClassName
		spec.RuntimeClassName = &name
	}
}

// withoutEphemeral returns a deep copy of spec without its ephemeral containers.
func withoutEphemeral(spec *corev1.PodSpec) *corev1.PodSpec {
	shallow := *spec
	shallow.EphemeralContainers = nil
	return shallow.DeepCopy()
}

// eachContainer calls f for every container of spec: init, ordinary and ephemeral.
func eachContainer(spec *corev1.PodSpec, f func(*corev1.Container)) {
	for i := range spec.InitContainers {
		f(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		f(&spec.Containers[i])
	}
	for i := range spec.EphemeralContainers {
		f((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
}

// imageHashes returns the value of AnnotationImages for a local pod: a hash for each container, init containers first. Their
// order never changes.
func imageHashes(spec *corev1.PodSpec) string {
	hashes := make([]byte, 0, 14*(len(spec.InitContainers)+len(spec.Containers)))
	for _, list := range [...][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if len(hashes) > 0 {
				hashes = append(hashes, '-')
			}
			hashes = strconv.AppendUint(hashes, hashOf(list[i].Image), 36)
		}
	}
	return string(hashes)
}

func hashOf(s string) uint64 {
	hash := fnv.New64a()
	_, _ = io.WriteString(hash, s) // a hash never fails
	return hash.Sum64()
}
