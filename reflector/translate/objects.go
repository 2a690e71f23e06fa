package translate

import (
	"bytes"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConfigMap returns the twin of local: a new object that shares nothing with it.
func ConfigMap(local *corev1.ConfigMap, env Env) *corev1.ConfigMap {
	twin := local.DeepCopy()
	twin.ObjectMeta = twinMeta(&local.ObjectMeta, env)
	return twin
}

// Secret returns the twin of local: a new object that shares nothing with it. Service account tokens become Opaque, or
// the peer's token controller would take them for its own and delete them.
func Secret(local *corev1.Secret, env Env) *corev1.Secret {
	twin := local.DeepCopy()
	twin.ObjectMeta = twinMeta(&local.ObjectMeta, env)
	if twin.Type == corev1.SecretTypeServiceAccountToken {
		twin.Type = corev1.SecretTypeOpaque
		delete(twin.Annotations, corev1.ServiceAccountNameKey)
		delete(twin.Annotations, corev1.ServiceAccountUIDKey)
	}
	return twin
}

// ConfigMapEqual says whether have needs no write to be want (a result of ConfigMap). Labels and annotations that others
// put on have are no difference; those that FieldManager put there are.
func ConfigMapEqual(want, have *corev1.ConfigMap) bool {
	return sameMeta(&want.ObjectMeta, &have.ObjectMeta) && isTrue(want.Immutable) == isTrue(have.Immutable) &&
		sameConfig(want, have)
}

// SecretEqual says whether have needs no write to be want (a result of Secret), like ConfigMapEqual.
func SecretEqual(want, have *corev1.Secret) bool {
	return sameMeta(&want.ObjectMeta, &have.ObjectMeta) && isTrue(want.Immutable) == isTrue(have.Immutable) &&
		sameSecret(want, have)
}

// ConfigMapReplace says whether the API refuses to update have to want, since have is immutable: delete it by UID and create
// want. It is false for a difference in labels and annotations only.
func ConfigMapReplace(want, have *corev1.ConfigMap) bool {
	return isTrue(have.Immutable) && (!isTrue(want.Immutable) || !sameConfig(want, have))
}

// SecretReplace says whether the API refuses to update have to want, since have is immutable or of another type: delete
// it by UID and create want.
func SecretReplace(want, have *corev1.Secret) bool {
	return secretType(want) != secretType(have) ||
		isTrue(have.Immutable) && (!isTrue(want.Immutable) || !sameSecret(want, have))
}

func sameConfig(a, b *corev1.ConfigMap) bool {
	return maps.Equal(a.Data, b.Data) && maps.EqualFunc(a.BinaryData, b.BinaryData, bytes.Equal)
}

func sameSecret(a, b *corev1.Secret) bool {
	return secretType(a) == secretType(b) && maps.EqualFunc(a.Data, b.Data, bytes.Equal)
}

func secretType(s *corev1.Secret) corev1.SecretType {
	if s.Type == "" {
		return corev1.SecretTypeOpaque // the API's default
	}
	return s.Type
}

func isTrue(b *bool) bool { return b != nil && *b }

// sameMeta says whether have carries the labels and annotations of want and nothing else that we wrote.
func sameMeta(want, have *metav1.ObjectMeta) bool {
	if !contains(have.Labels, want.Labels) || !contains(have.Annotations, want.Annotations) {
		return false
	}
	if len(have.Labels) == len(want.Labels) && len(have.Annotations) == len(want.Annotations) {
		return true
	}
	ours := written(have.ManagedFields)
	for key := range have.Labels {
		if _, ok := want.Labels[key]; !ok && ours.hasLabel(key) {
			return false
		}
	}
	for key := range have.Annotations {
		if _, ok := want.Annotations[key]; !ok && ours.hasAnnotation(key) {
			return false
		}
	}
	return true
}

func contains(have, want map[string]string) bool {
	for key, value := range want {
		if got, ok := have[key]; !ok || got != value {
			return false
		}
	}
	return true
}
