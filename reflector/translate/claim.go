package translate

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PersistentVolumeClaim returns the twin of local: a new object that shares nothing with it. The peer makes its volume, of the
// named class, or of its default class when class is empty. What the claim of home was bound to, or is to be filled from,
// is home's: a volume, a selector of volumes, a snapshot or another claim of home do not exist there.
func PersistentVolumeClaim(local *corev1.PersistentVolumeClaim, class string, env Env) *corev1.PersistentVolumeClaim {
	from := local.Spec.DeepCopy()
	twin := &corev1.PersistentVolumeClaim{ObjectMeta: twinMeta(&local.ObjectMeta, env), Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: from.AccessModes, VolumeMode: from.VolumeMode,
		Resources: corev1.VolumeResourceRequirements{Requests: from.Resources.Requests},
	}}
	if class != "" {
		twin.Spec.StorageClassName = &class
	}
	for key := range twin.Annotations {
		if isVolumeRecord(key) {
			delete(twin.Annotations, key)
		}
	}
	return twin
}

// isVolumeRecord says whether an annotation is what a cluster's own controllers keep of a claim: which node and provisioner
// it has, and that it is bound.
func isVolumeRecord(key string) bool {
	domain, _, _ := strings.Cut(key, "/")
	return domain == "pv.kubernetes.io" || domain == "volume.kubernetes.io" || domain == "volume.beta.kubernetes.io"
}

// PersistentVolumeClaimEqual says whether have needs no write to be want (a result of PersistentVolumeClaim). Only what the
// API lets anybody change of a claim counts: the request, labels and annotations.
func PersistentVolumeClaimEqual(want, have *corev1.PersistentVolumeClaim) bool {
	wanted, has := want.Spec.Resources.Requests[corev1.ResourceStorage], have.Spec.Resources.Requests[corev1.ResourceStorage]
	return sameMeta(&want.ObjectMeta, &have.ObjectMeta) && wanted.Cmp(has) == 0
}

// PersistentVolumeClaimReplace is never true: to make a claim anew is to lose its data.
func PersistentVolumeClaimReplace(_, _ *corev1.PersistentVolumeClaim) bool { return false }

// KeepPersistentVolumeClaim takes into want everything of have but the request, labels and annotations of ours: the volume,
// the class that the peer has chosen, and what protects the claim while pods use it.
func KeepPersistentVolumeClaim(want, have *corev1.PersistentVolumeClaim) {
	requests := want.Spec.Resources.Requests
	want.Spec = *have.Spec.DeepCopy()
	want.Spec.Resources.Requests = requests
	want.Finalizers, want.OwnerReferences = have.Finalizers, have.OwnerReferences
	for key, value := range have.Annotations {
		if isVolumeRecord(key) {
			want.Annotations[key] = value
		}
	}
}

// Claims returns the names of the claims that a pod mounts, each as often as it does. Those of its ephemeral volumes are not
// among them: each cluster makes them itself.
func Claims(pod *corev1.PodSpec) []string {
	var claims []string
	for i := range pod.Volumes {
		if source := pod.Volumes[i].PersistentVolumeClaim; source != nil && source.ClaimName != "" {
			claims = append(claims, source.ClaimName)
		}
	}
	return claims
}

// EphemeralClaims returns the names of the claims that home's controller makes for the ephemeral volumes of a pod.
func EphemeralClaims(pod *corev1.Pod) []string {
	var claims []string
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Ephemeral != nil {
			claims = append(claims, ephemeralClaim(&pod.ObjectMeta, pod.Spec.Volumes[i].Name))
		}
	}
	return claims
}

func ephemeralClaim(pod *metav1.ObjectMeta, volume string) string { return pod.Name + "-" + volume }

// classAsSeenByPeer turns the class of an ephemeral volume that only home has into the peer's.
func classAsSeenByPeer(claim string, template *corev1.PersistentVolumeClaimTemplate, env Env) {
	if env.EphemeralClass == nil {
		return
	}
	class, known := env.EphemeralClass(claim)
	switch {
	case !known:
	case class == "":
		template.Spec.StorageClassName = nil
	default:
		template.Spec.StorageClassName = &class
	}
}
