package translate

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// names is a set of object names. The empty name is never in it.
type names map[string]struct{}

func (n names) add(name string) {
	if name != "" {
		n[name] = struct{}{}
	}
}

func (n names) addRef(ref *corev1.LocalObjectReference) {
	if ref != nil {
		n.add(ref.Name)
	}
}

// References returns the names of the ConfigMaps and Secrets that pod needs from its namespace, optional ones too, sorted,
// each once; local's spec and its twin's give the same. The ConfigMap kube-root-ca.crt is not among them: every
// namespace of the peer has its own.
func References(pod *corev1.PodSpec) (configMaps, secrets []string) {
	configs, hidden := names{}, names{}
	for i := range pod.ImagePullSecrets {
		hidden.addRef(&pod.ImagePullSecrets[i])
	}
	eachContainer(pod, func(c *corev1.Container) { containerReferences(c, configs, hidden) })
	for i := range pod.Volumes {
		source := &pod.Volumes[i].VolumeSource
		if source.ConfigMap != nil {
			configs.add(source.ConfigMap.Name)
		}
		if source.Projected != nil {
			projectedReferences(source.Projected, configs, hidden)
		}
		volumeSecrets(source, hidden)
	}
	delete(configs, rootCA)
	return slices.Sorted(maps.Keys(configs)), slices.Sorted(maps.Keys(hidden))
}

func containerReferences(c *corev1.Container, configMaps, secrets names) {
	for i := range c.EnvFrom {
		if ref := c.EnvFrom[i].ConfigMapRef; ref != nil {
			configMaps.add(ref.Name)
		}
		if ref := c.EnvFrom[i].SecretRef; ref != nil {
			secrets.add(ref.Name)
		}
	}
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		if from == nil {
			continue
		}
		if from.ConfigMapKeyRef != nil {
			configMaps.add(from.ConfigMapKeyRef.Name)
		}
		if from.SecretKeyRef != nil {
			secrets.add(from.SecretKeyRef.Name)
		}
	}
}

func projectedReferences(volume *corev1.ProjectedVolumeSource, configMaps, secrets names) {
	for i := range volume.Sources {
		if s := volume.Sources[i].ConfigMap; s != nil {
			configMaps.add(s.Name)
		}
		if s := volume.Sources[i].Secret; s != nil {
			secrets.add(s.Name)
		}
	}
}

// volumeSecrets adds the Secrets that volumes of any kind name in the pod's own namespace.
func volumeSecrets(source *corev1.VolumeSource, secrets names) {
	switch {
	case source.Secret != nil:
		secrets.add(source.Secret.SecretName)
	case source.CSI != nil:
		secrets.addRef(source.CSI.NodePublishSecretRef)
	case source.AzureFile != nil:
		secrets.add(source.AzureFile.SecretName)
	case source.CephFS != nil:
		secrets.addRef(source.CephFS.SecretRef)
	case source.Cinder != nil:
		secrets.addRef(source.Cinder.SecretRef)
	case source.FlexVolume != nil:
		secrets.addRef(source.FlexVolume.SecretRef)
	case source.ISCSI != nil:
		secrets.addRef(source.ISCSI.SecretRef)
	case source.RBD != nil:
		secrets.addRef(source.RBD.SecretRef)
	case source.ScaleIO != nil:
		secrets.addRef(source.ScaleIO.SecretRef)
	case source.StorageOS != nil:
		secrets.addRef(source.StorageOS.SecretRef)
	}
}
