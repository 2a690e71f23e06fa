package translate

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Twin returns the pod that the peer should run for local: a new object that shares nothing with local, ready to be
// created (no resourceVersion, no status). Ephemeral containers are not in it, since the API takes them only by
// subresource: Drift adds them.
func Twin(local *corev1.Pod, env Env) *corev1.Pod { panic("soon") }

// Drift returns the next patch that makes what may change on a pod follow from local to twin, nil when there is none.
// It is a strategic merge patch without resourceVersion, for the subresource ("" is the pod itself, "resize",
// "ephemeralcontainers"). There is one subresource per call, the pod itself first: call again with the twin that the
// patch gave.
//
// It sees only what home owns, so that what the provider's API server, admission and people put on the twin is never a
// difference: images (see AnnotationImages), a new or shorter activeDeadlineSeconds, added tolerations, a negative
// terminationGracePeriodSeconds that became 1, labels and annotations, requests and limits that local has, added
// ephemeral containers. A label or annotation that local does not have is removed only if the twin's managedFields
// say that FieldManager wrote it; without managedFields (TrimTwin keeps what is needed) nothing is removed.
//
// Twins that are being deleted or have ended, and twins of pods being deleted, no longer follow.
func Drift(local, twin *corev1.Pod, env Env) (patch []byte, subresource string, err error) {
	panic("soon")
}

// TrimTwin drops from a twin what no function of this package reads: the managedFields of others. It changes the pod in
// place and is meant for an informer's transform.
func TrimTwin(twin *corev1.Pod) { panic("soon") }

// PodStatus returns the status that local should have while twin runs it. The result shares memory with both: read it,
// do not change it. Times are the twin's.
//
// A local pod that has ended keeps its status for ever. A twin without a node changes nothing on a fresh local pod, unless
// the provider's scheduler says that it fits nowhere (ConditionOffloaded). A twin of a pod that is always restarted and
// that is deleted in the provider never ends the local pod, since it will be made again.
func PodStatus(local, twin *corev1.Pod, env Env) corev1.PodStatus { panic("soon") }

// StatusPatch returns the smallest strategic merge patch for pods/status, without resourceVersion, that turns the
// status of local into want; nil when they are equal. The order of conditions is not a difference.
func StatusPatch(local *corev1.Pod, want corev1.PodStatus) ([]byte, error) { panic("soon") }

// Gone returns the status of a local pod whose twin has vanished and is not made again: Failed, with the condition
// DisruptionTarget (ReasonDeletionByProvider), its unfinished containers terminated as ContainerStatusUnknown with exit
// code 137. A pod that has ended keeps its status. Nothing in the result that differs from local is shared with it.
func Gone(local *corev1.Pod, now metav1.Time) corev1.PodStatus { panic("soon") }

// Refused returns the status of a local pod for which the peer does not take a twin: as it was, with
// ConditionOffloaded False for the reason (CamelCase) and with the provider's words. The same words again
// give the same status, whatever now is.
func Refused(local *corev1.Pod, reason, message string, now metav1.Time) corev1.PodStatus {
	panic("soon")
}

// References returns the names of the ConfigMaps and Secrets that pod needs from its namespace, sorted, each once.
// The ConfigMap kube-root-ca.crt is not among them: every namespace of the peer has its own.
func References(pod *corev1.PodSpec) (configMaps, secrets []string) { panic("soon") }

// ConfigMap returns the twin of local: a new object that shares nothing with it.
func ConfigMap(local *corev1.ConfigMap, env Env) *corev1.ConfigMap { panic("soon") }

// Secret returns the twin of local: a new object that shares nothing with it. Service account tokens become Opaque, or
// the peer's controllers would take them for their own.
func Secret(local *corev1.Secret, env Env) *corev1.Secret { panic("soon") }

// ConfigMapEqual says whether have needs no write to be want. Labels and annotations that others put on have are no
// difference.
func ConfigMapEqual(want, have *corev1.ConfigMap) bool { panic("soon") }

// SecretEqual says whether have needs no write to be want, like ConfigMapEqual.
func SecretEqual(want, have *corev1.Secret) bool { panic("soon") }

// ConfigMapReplace says whether the API refuses to update have to want (have is immutable), so that it must be deleted
// and made again. It is meaningful when ConfigMapEqual is false.
func ConfigMapReplace(want, have *corev1.ConfigMap) bool { panic("soon") }

// SecretReplace says whether the API refuses to update have to want (have is immutable, or of another type), so that it
// must be deleted and made again. It is meaningful when SecretEqual is false.
func SecretReplace(want, have *corev1.Secret) bool { panic("soon") }
