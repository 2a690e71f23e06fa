package translate

import (
	"maps"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func selector(pairs ...string) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	for i := 0; i < len(pairs); i += 2 {
		s.MatchExpressions = append(s.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: pairs[i], Operator: metav1.LabelSelectorOpIn, Values: pairs[i+1 : i+2]})
	}
	return s
}

func settings() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "settings", UID: "1111", ResourceVersion: "7", Labels: map[string]string{"app": "web", LabelOrigin: "x"},
			Annotations:     map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "note": "hello"},
			OwnerReferences: []metav1.OwnerReference{{Name: "owner"}}, Finalizers: []string{"f"},
		},
		Data: map[string]string{"a": "1"}, BinaryData: map[string][]byte{"b": {2}},
	}
}

func TestConfigMap(t *testing.T) {
	want := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "tenant-shop", Name: "settings", Labels: map[string]string{"app": "web", LabelOrigin: "0a1b2c3d-consumer"},
			Annotations: map[string]string{"note": "hello", AnnotationOriginUID: "1111", AnnotationOriginNamespace: "shop"},
		},
		Data: map[string]string{"a": "1"}, BinaryData: map[string][]byte{"b": {2}},
	}
	local := settings()
	got := ConfigMap(local, testEnv())
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("twin (-want +got):\n%s", diff)
	}
	got.BinaryData["b"][0], got.Data["a"] = 9, "9"
	if local.BinaryData["b"][0] != 2 || local.Data["a"] != "1" {
		t.Error("the twin shares data with the local object")
	}
}

func TestConfigMapEqual(t *testing.T) {
	yes := true
	for name, row := range map[string]struct {
		change         func(local, have *corev1.ConfigMap)
		equal, replace bool
	}{
		"new":                {equal: true},
		"others write on it": {change: func(_, have *corev1.ConfigMap) { have.Labels["provider/x"] = "y" }, equal: true},
		"data":               {change: func(local, _ *corev1.ConfigMap) { local.Data["a"] = "2" }},
		"binary data":        {change: func(local, _ *corev1.ConfigMap) { local.BinaryData["b"][0] = 3 }},
		"a label goes":       {change: func(local, _ *corev1.ConfigMap) { delete(local.Labels, "app") }},
		"an annotation goes": {change: func(local, _ *corev1.ConfigMap) { delete(local.Annotations, "note") }},
		"a label is added":   {change: func(local, _ *corev1.ConfigMap) { local.Labels["new"] = "x" }},
		"made again at home": {change: func(local, _ *corev1.ConfigMap) { local.UID = "2222" }},
		"becomes immutable":  {change: func(local, _ *corev1.ConfigMap) { local.Immutable = &yes }},
		"was immutable, other data": {change: func(local, have *corev1.ConfigMap) {
			local.Immutable, have.Immutable = &yes, &yes
			local.Data["a"] = "2"
		}, replace: true},
		"was immutable, label": {change: func(local, have *corev1.ConfigMap) {
			local.Immutable, have.Immutable = &yes, &yes
			local.Labels["new"] = "x"
		}},
		"is mutable again": {change: func(_, have *corev1.ConfigMap) { have.Immutable = &yes }, replace: true},
	} {
		t.Run(name, func(t *testing.T) {
			local := settings()
			have := ConfigMap(local, testEnv())
			have.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: FieldManager, FieldsV1: metav1.NewFieldsV1(
				`{"f:metadata":{"f:labels":{"f:app":{}},"f:annotations":{"f:note":{}}}}`)}}
			if row.change != nil {
				row.change(local, have)
			}
			want := ConfigMap(local, testEnv())
			if equal := ConfigMapEqual(want, have); equal != row.equal {
				t.Errorf("equal %v, want %v", equal, row.equal)
			}
			if replace := ConfigMapReplace(want, have); replace != row.replace {
				t.Errorf("replace %v, want %v", replace, row.replace)
			}
		})
	}
}

func TestSecret(t *testing.T) {
	local := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "token", Annotations: map[string]string{
			corev1.ServiceAccountNameKey: "default", corev1.ServiceAccountUIDKey: "4711", "note": "x",
		}},
		Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte("t")},
	}
	got := Secret(local, testEnv())
	want := map[string]string{"note": "x", AnnotationOriginUID: "", AnnotationOriginNamespace: "shop"}
	if got.Type != corev1.SecretTypeOpaque || !maps.Equal(got.Annotations, want) {
		t.Errorf("type %s, annotations %v: the provider's token controller would take it", got.Type, got.Annotations)
	}
	have := got.DeepCopy()
	have.Type = ""
	if !SecretEqual(got, have) || SecretReplace(got, have) {
		t.Error("no type is not Opaque")
	}
	have.Type = corev1.SecretTypeTLS
	if SecretEqual(got, have) || !SecretReplace(got, have) {
		t.Error("another type can be updated")
	}
	have = got.DeepCopy()
	have.Data["token"] = []byte("u")
	if SecretEqual(got, have) || SecretReplace(got, have) {
		t.Error("other data is no update")
	}
}
