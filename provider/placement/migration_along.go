package placement

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// along is what goes with a workload: what its pods refer to, and the Services that select them.
func (c *migrationCheck) along(s *migrationSubject) []string {
	found := map[string]bool{}
	add := func(kind, name string) {
		if name != "" {
			found[kind+"/"+name] = true
		}
	}
	spec := &s.template.Spec
	add("serviceaccount", spec.ServiceAccountName)
	for _, ref := range spec.ImagePullSecrets {
		add("secret", ref.Name)
	}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			alongContainer(&containers[i], add)
		}
	}
	for i := range spec.Volumes {
		alongVolume(&spec.Volumes[i], add)
	}
	for i := range c.in.Services {
		selector := c.in.Services[i].Spec.Selector
		if len(selector) > 0 && labels.SelectorFromSet(selector).Matches(labels.Set(s.template.Labels)) {
			add("service", c.in.Services[i].Name)
		}
	}
	out := make([]string, 0, len(found))
	for name := range found {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func alongContainer(c *corev1.Container, add func(kind, name string)) {
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef != nil {
			add("configmap", from.ConfigMapRef.Name)
		}
		if from.SecretRef != nil {
			add("secret", from.SecretRef.Name)
		}
	}
	for _, env := range c.Env {
		if env.ValueFrom == nil {
			continue
		}
		if ref := env.ValueFrom.ConfigMapKeyRef; ref != nil {
			add("configmap", ref.Name)
		}
		if ref := env.ValueFrom.SecretKeyRef; ref != nil {
			add("secret", ref.Name)
		}
	}
}

func alongVolume(v *corev1.Volume, add func(kind, name string)) {
	if v.ConfigMap != nil {
		add("configmap", v.ConfigMap.Name)
	}
	if v.Secret != nil {
		add("secret", v.Secret.SecretName)
	}
	if v.Projected == nil {
		return
	}
	for _, source := range v.Projected.Sources {
		if source.ConfigMap != nil {
			add("configmap", source.ConfigMap.Name)
		}
		if source.Secret != nil {
			add("secret", source.Secret.Name)
		}
	}
}
