package translate

import (
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrimTwin drops from a twin what no function of this package reads: what managedFields say of others. It changes the
// pod in place and is meant for an informer's transform. ConfigMaps and Secrets have TrimMeta.
func TrimTwin(twin *corev1.Pod) { TrimMeta(&twin.ObjectMeta) }

// TrimMeta is TrimTwin for the metadata of any twin.
func TrimMeta(meta *metav1.ObjectMeta) {
	kept := slices.DeleteFunc(meta.ManagedFields, func(e metav1.ManagedFieldsEntry) bool { return !isOurs(&e) })
	if len(kept) == 0 {
		kept = nil
	}
	meta.ManagedFields = kept
}

func isOurs(e *metav1.ManagedFieldsEntry) bool {
	return e.Manager == FieldManager && e.Subresource == "" && e.FieldsV1 != nil
}

// ownership is what the API server has recorded of a manager, as far as we read it. Keys begin with "f:".
type ownership struct {
	Metadata struct {
		Labels      map[string]json.RawMessage `json:"f:labels"`
		Annotations map[string]json.RawMessage `json:"f:annotations"`
	} `json:"f:metadata"`
}

// owned are the records of all our entries (one per operation and API version).
type owned []ownership

// written returns what we wrote on an object. A record that cannot be read says nothing, so that nothing is removed.
func written(entries []metav1.ManagedFieldsEntry) owned {
	var list owned
	for i := range entries {
		var o ownership
		if isOurs(&entries[i]) && json.Unmarshal(entries[i].FieldsV1.GetRawBytes(), &o) == nil {
			list = append(list, o)
		}
	}
	return list
}

func (list owned) hasLabel(key string) bool {
	return slices.ContainsFunc(list, func(o ownership) bool { return o.Metadata.Labels["f:"+key] != nil })
}

func (list owned) hasAnnotation(key string) bool {
	return slices.ContainsFunc(list, func(o ownership) bool { return o.Metadata.Annotations["f:"+key] != nil })
}
