package fuzz

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Every name of a ConfigMap or Secret that a pod uses begins with one of these, and nothing else does.
const (
	configMapPrefix = "fuzzcm"
	secretPrefix    = "fuzzsecret"
)

func (d *dice) configMap() corev1.LocalObjectReference {
	if d.chance(3) {
		return corev1.LocalObjectReference{Name: "kube-root-ca.crt"}
	}
	return corev1.LocalObjectReference{Name: d.known(configMapPrefix)}
}

func (d *dice) secret() corev1.LocalObjectReference {
	return corev1.LocalObjectReference{Name: d.known(secretPrefix)}
}

func (d *dice) secretPointer() *corev1.LocalObjectReference { return maybe(d, 70, d.secret) }

// volume returns a volume of any kind. The names of a few are those that the ServiceAccount admission makes up.
func (d *dice) volume() corev1.Volume {
	v := corev1.Volume{Name: d.name("vol")}
	switch n := d.IntN(10); {
	case n < 3:
		v.VolumeSource = corev1.VolumeSource{Projected: d.projected()}
		if d.chance(20) {
			v.Name = d.name("kube-api-access")
		}
	case n < 8:
		v.VolumeSource = d.ownVolume()
	default:
		v.VolumeSource = d.foreignVolume()
	}
	return v
}

// ownVolume returns a source that Kubernetes itself serves.
func (d *dice) ownVolume() corev1.VolumeSource {
	return oneOf(d,
		func(s *corev1.VolumeSource) {
			s.EmptyDir = &corev1.EmptyDirVolumeSource{Medium: pick(d, corev1.StorageMediumDefault, corev1.StorageMediumMemory, "HugePages-2Mi")}
			if d.bool() {
				limit := d.quantity(1, 100, "Mi")
				s.EmptyDir.SizeLimit = &limit
			}
		},
		func(s *corev1.VolumeSource) {
			s.HostPath = &corev1.HostPathVolumeSource{Path: "/" + d.path(), Type: maybe(d, 50, func() corev1.HostPathType {
				return pick(d, corev1.HostPathUnset, corev1.HostPathDirectory, corev1.HostPathSocket, corev1.HostPathFileOrCreate)
			})}
		},
		func(s *corev1.VolumeSource) {
			s.Secret = &corev1.SecretVolumeSource{SecretName: d.secret().Name, Items: d.items(), DefaultMode: maybe(d, 30, d.mode), Optional: maybe(d, 30, d.bool)}
		},
		func(s *corev1.VolumeSource) {
			s.ConfigMap = &corev1.ConfigMapVolumeSource{LocalObjectReference: d.configMap(), Items: d.items(), DefaultMode: maybe(d, 30, d.mode), Optional: maybe(d, 30, d.bool)}
		},
		func(s *corev1.VolumeSource) {
			s.DownwardAPI = &corev1.DownwardAPIVolumeSource{Items: some(d, 5, d.downwardFile), DefaultMode: maybe(d, 30, d.mode)}
		},
		func(s *corev1.VolumeSource) {
			s.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: d.known("claim"), ReadOnly: d.bool()}
		},
		func(s *corev1.VolumeSource) {
			s.Ephemeral = &corev1.EphemeralVolumeSource{VolumeClaimTemplate: d.claimTemplate()}
		},
		func(s *corev1.VolumeSource) {
			s.Image = &corev1.ImageVolumeSource{Reference: d.image(), PullPolicy: d.pullPolicy()}
		},
		func(s *corev1.VolumeSource) {
			s.CSI = &corev1.CSIVolumeSource{Driver: "csi.example.com", ReadOnly: maybe(d, 50, d.bool), FSType: maybe(d, 50, d.fsType),
				VolumeAttributes: map[string]string{"size": d.text()}, NodePublishSecretRef: d.secretPointer()}
		},
	)
}

// items returns the keys of a ConfigMap or Secret that become files.
func (d *dice) items() []corev1.KeyToPath {
	return some(d, 3, func() corev1.KeyToPath {
		return corev1.KeyToPath{Key: d.known("key"), Path: d.path(), Mode: maybe(d, 30, d.mode)}
	})
}

// downwardFile returns a file about the pod itself, or about the resources of its container named main.
func (d *dice) downwardFile() corev1.DownwardAPIVolumeFile {
	file := corev1.DownwardAPIVolumeFile{Path: d.path(), Mode: maybe(d, 30, d.mode)}
	if d.chance(30) {
		file.ResourceFieldRef = d.resourceField()
		file.ResourceFieldRef.ContainerName = "main"
		return file
	}
	file.FieldRef = d.field("metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations",
		"metadata.labels['app']", "metadata.annotations['example.com/note']")
	return file
}

func (d *dice) field(paths ...string) *corev1.ObjectFieldSelector {
	return &corev1.ObjectFieldSelector{FieldPath: pick(d, paths...), APIVersion: pick(d, "", "v1")}
}

// projected returns a volume that is put together, often from what gives a pod its identity.
func (d *dice) projected() *corev1.ProjectedVolumeSource {
	return &corev1.ProjectedVolumeSource{Sources: some(d, 4, d.projection), DefaultMode: maybe(d, 30, d.mode)}
}

func (d *dice) projection() corev1.VolumeProjection {
	return oneOf(d,
		func(p *corev1.VolumeProjection) {
			p.Secret = &corev1.SecretProjection{LocalObjectReference: d.secret(), Items: d.items(), Optional: maybe(d, 30, d.bool)}
		},
		func(p *corev1.VolumeProjection) {
			p.ConfigMap = &corev1.ConfigMapProjection{LocalObjectReference: d.configMap(), Items: d.items(), Optional: maybe(d, 30, d.bool)}
		},
		func(p *corev1.VolumeProjection) {
			p.DownwardAPI = &corev1.DownwardAPIProjection{Items: some(d, 4, d.downwardFile)}
		},
		func(p *corev1.VolumeProjection) {
			p.ServiceAccountToken = &corev1.ServiceAccountTokenProjection{Path: pick(d, d.path(), "token", "ca.crt"), Audience: pick(d, "", "vault", "https://example.com"),
				ExpirationSeconds: maybe(d, 70, func() int64 { return int64(d.between(600, 86400)) })}
		},
		func(p *corev1.VolumeProjection) { p.ClusterTrustBundle = d.trustBundle() },
		func(p *corev1.VolumeProjection) {
			p.PodCertificate = &corev1.PodCertificateProjection{SignerName: "example.com/signer", KeyType: pick(d, "ED25519", "RSA3072", "ECDSAP256"),
				MaxExpirationSeconds: maybe(d, 50, func() int32 { return int32(d.between(3600, 86400)) }), UserAnnotations: map[string]string{"example.com/purpose": "test"}}
			p.PodCertificate.CredentialBundlePath = d.path()
			if d.bool() {
				p.PodCertificate.CredentialBundlePath, p.PodCertificate.KeyPath, p.PodCertificate.CertificateChainPath = "", d.path(), d.path()
			}
		},
	)
}

func (d *dice) trustBundle() *corev1.ClusterTrustBundleProjection {
	b := &corev1.ClusterTrustBundleProjection{Path: d.path(), Optional: maybe(d, 50, d.bool)}
	if name := "bundle"; d.bool() {
		b.Name = &name
		return b
	}
	signer := "example.com/signer"
	b.SignerName = &signer
	if d.bool() {
		b.LabelSelector = d.selector()
	}
	return b
}

// claimTemplate returns the claim of a generic ephemeral volume.
func (d *dice) claimTemplate() *corev1.PersistentVolumeClaimTemplate {
	t := &corev1.PersistentVolumeClaimTemplate{}
	if d.bool() {
		t.ObjectMeta = metav1.ObjectMeta{Labels: d.labels(), Annotations: map[string]string{"example.com/note": d.text()}}
	}
	t.Spec = corev1.PersistentVolumeClaimSpec{
		AccessModes:      []corev1.PersistentVolumeAccessMode{pick(d, corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod)},
		Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: d.quantity(1, 9, "Gi")}},
		VolumeName:       pick(d, "", d.known("pv")),
		StorageClassName: maybe(d, 50, func() string { return pick(d, "", "fast") }),
		VolumeMode: maybe(d, 50, func() corev1.PersistentVolumeMode {
			return pick(d, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
		}),
		VolumeAttributesClassName: maybe(d, 30, func() string { return "gold" }),
	}
	if d.chance(30) {
		t.Spec.Selector = d.selector()
	}
	if d.chance(30) {
		t.Spec.Resources.Limits = corev1.ResourceList{corev1.ResourceStorage: d.quantity(9, 20, "Gi")}
	}
	group := "snapshot.storage.k8s.io"
	switch d.IntN(4) {
	case 0:
		t.Spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: &group, Kind: "VolumeSnapshot", Name: d.known("snap")}
	case 1:
		t.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: &group, Kind: "VolumeSnapshot", Name: d.known("snap"),
			Namespace: maybe(d, 50, func() string { return homeNamespace })}
	}
	return t
}

func (d *dice) fsType() string { return pick(d, "ext4", "xfs") }
