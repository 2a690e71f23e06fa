package translate

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// apiAccessPrefix begins the name of the volume that the ServiceAccount admission adds to pods.
const apiAccessPrefix = "kube-api-access-"

// rootCA is the ConfigMap that every namespace of every cluster has.
const rootCA = "kube-root-ca.crt"

// dropIdentity takes from spec what the peer would fill with an identity of its own cluster: the service account, and
// every token or certificate that a volume would ask for.
func dropIdentity(spec *corev1.PodSpec) {
	no := false
	spec.ServiceAccountName = ""
	spec.DeprecatedServiceAccount = ""
	spec.AutomountServiceAccountToken = &no

	var dropped []string
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v corev1.Volume) bool {
		if v.Projected == nil || !dropIdentitySources(v.Projected, v.Name) {
			return false
		}
		dropped = append(dropped, v.Name)
		return true
	})
	if len(dropped) > 0 {
		eachContainer(spec, func(c *corev1.Container) { dropMounts(c, dropped) })
	}
}

// dropIdentitySources takes tokens and certificates out of a projected volume. It says whether nothing that makes sense
// without them is left.
func dropIdentitySources(volume *corev1.ProjectedVolumeSource, name string) bool {
	before := len(volume.Sources)
	token := false
	volume.Sources = slices.DeleteFunc(volume.Sources, func(s corev1.VolumeProjection) bool {
		token = token || s.ServiceAccountToken != nil
		return s.ServiceAccountToken != nil || s.PodCertificate != nil
	})
	emptied := before > 0 && len(volume.Sources) == 0
	return emptied || token && strings.HasPrefix(name, apiAccessPrefix)
}

func dropMounts(c *corev1.Container, volumes []string) {
	c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		return slices.Contains(volumes, m.Name)
	})
}

// seenAtHome returns the field of a twin that holds what path says of its local pod; path itself where both are the same or
// the twin's is the truer one (podIP and hostIP: its containers live there).
func seenAtHome(path string) string {
	switch path {
	case "metadata.namespace":
		return "metadata.annotations['" + AnnotationOriginNamespace + "']"
	case "metadata.uid":
		return "metadata.annotations['" + AnnotationOriginUID + "']"
	case "spec.nodeName":
		return "metadata.labels['" + LabelNode + "']"
	}
	return path
}

// asSeenAtHome makes the downward API in env tell what it would tell at home. env is changed in place.
func asSeenAtHome(env []corev1.EnvVar, local *corev1.Pod) {
	for i := range env {
		if env[i].ValueFrom == nil || env[i].ValueFrom.FieldRef == nil {
			continue
		}
		ref := env[i].ValueFrom.FieldRef
		if ref.FieldPath == "spec.serviceAccountName" {
			env[i].ValueFrom, env[i].Value = nil, local.Spec.ServiceAccountName
			continue
		}
		ref.FieldPath = seenAtHome(ref.FieldPath)
	}
}

// volumesAsSeenAtHome makes the downward API in volumes tell what it would tell at home. They are changed in place.
func volumesAsSeenAtHome(volumes []corev1.Volume) {
	for i := range volumes {
		if source := volumes[i].DownwardAPI; source != nil {
			filesAsSeenAtHome(source.Items)
		}
		if volumes[i].Projected == nil {
			continue
		}
		for _, source := range volumes[i].Projected.Sources {
			if source.DownwardAPI != nil {
				filesAsSeenAtHome(source.DownwardAPI.Items)
			}
		}
	}
}

// claimsAsSeenAtHome makes the claims of ephemeral volumes look for their data source in the twin's own namespace when home's
// would look in the pod's, and have a class that the peer knows. They are changed in place.
func claimsAsSeenAtHome(volumes []corev1.Volume, local *corev1.Pod, env Env) {
	for i := range volumes {
		source := volumes[i].Ephemeral
		if source == nil || source.VolumeClaimTemplate == nil {
			continue
		}
		template := source.VolumeClaimTemplate
		classAsSeenByPeer(ephemeralClaim(&local.ObjectMeta, volumes[i].Name), template, env)
		if ref := template.Spec.DataSourceRef; ref != nil && ref.Namespace != nil && *ref.Namespace == local.Namespace {
			ref.Namespace = nil
		}
	}
}

func filesAsSeenAtHome(files []corev1.DownwardAPIVolumeFile) {
	for i := range files {
		if files[i].FieldRef != nil {
			files[i].FieldRef.FieldPath = seenAtHome(files[i].FieldRef.FieldPath)
		}
	}
}
