package translate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func dataClaim(change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	class, block, group := "spillway", corev1.PersistentVolumeFilesystem, "snapshot.storage.k8s.io"
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: "data", Namespace: "shop", UID: "claim-1", Labels: map[string]string{"app": "db"},
			Finalizers: []string{"kubernetes.io/pvc-protection"},
			Annotations: map[string]string{
				"note": "mine", KeyRemoteClass: "fast", "pv.kubernetes.io/bind-completed": "yes",
				"volume.kubernetes.io/selected-node": "far", "volume.beta.kubernetes.io/storage-provisioner": VolumeProvisioner,
			},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeMode: &block, VolumeName: "pvc-claim-1",
			StorageClassName: &class, DataSource: &corev1.TypedLocalObjectReference{APIGroup: &group, Kind: "VolumeSnapshot", Name: "old"},
			Selector:  &metav1.LabelSelector{},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	for _, change := range change {
		change(claim)
	}
	return claim
}

func TestPersistentVolumeClaim(t *testing.T) {
	env := Env{Origin: "consumer-1", RemoteNamespace: "shop-1f2e"}
	mode, fast := corev1.PersistentVolumeFilesystem, "fast"
	for name, row := range map[string]struct {
		class string
		want  *string
	}{
		"the peer's default": {"", nil},
		"a named class":      {"fast", &fast},
	} {
		t.Run(name, func(t *testing.T) {
			local := dataClaim()
			want := &corev1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{
					Name: "data", Namespace: "shop-1f2e", Labels: map[string]string{"app": "db", LabelOrigin: "consumer-1"},
					Annotations: map[string]string{"note": "mine", AnnotationOriginUID: "claim-1", AnnotationOriginNamespace: "shop"},
				},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeMode: &mode, StorageClassName: row.want,
					Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
				},
			}
			if diff := cmp.Diff(want, PersistentVolumeClaim(local, row.class, env)); diff != "" {
				t.Errorf("twin (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(dataClaim(), local); diff != "" {
				t.Errorf("the local claim was changed:\n%s", diff)
			}
		})
	}
}

// TestPersistentVolumeClaim_Update: only what the API lets anybody change is compared, and nothing else is written.
func TestPersistentVolumeClaim_Update(t *testing.T) {
	env := Env{Origin: "consumer-1", RemoteNamespace: "shop-1f2e"}
	have := PersistentVolumeClaim(dataClaim(), "", env)
	class := "standard"
	have.Finalizers = []string{"kubernetes.io/pvc-protection"}
	have.Annotations["pv.kubernetes.io/bind-completed"] = "yes"
	have.Spec.VolumeName, have.Spec.StorageClassName = "pvc-there", &class
	grow := func(c *corev1.PersistentVolumeClaim) {
		c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
	}
	for name, row := range map[string]struct {
		change func(*corev1.PersistentVolumeClaim)
		equal  bool
	}{
		"bound there":   {func(*corev1.PersistentVolumeClaim) {}, true},
		"asks for more": {grow, false},
		"asks for as much": {func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("1024Mi")
		}, true},
		"has a label more":        {func(c *corev1.PersistentVolumeClaim) { c.Labels["tier"] = "1" }, false},
		"has another access mode": {func(c *corev1.PersistentVolumeClaim) { c.Spec.AccessModes[0] = corev1.ReadOnlyMany }, true},
	} {
		t.Run(name, func(t *testing.T) {
			want := PersistentVolumeClaim(dataClaim(row.change), "", env)
			if got := PersistentVolumeClaimEqual(want, have); got != row.equal {
				t.Errorf("equal: %v", got)
			}
			if PersistentVolumeClaimReplace(want, have) {
				t.Error("would be made anew")
			}
		})
	}
	expected := have.DeepCopy()
	grow(expected)
	want := PersistentVolumeClaim(dataClaim(grow), "", env)
	KeepPersistentVolumeClaim(want, have)
	if diff := cmp.Diff(expected, want); diff != "" {
		t.Errorf("what would be written (-want +got):\n%s", diff)
	}
}

func TestTwin_EphemeralClass(t *testing.T) {
	spillway := "spillway"
	local := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"}}
	for _, volume := range []string{"default", "fast", "theirs"} {
		local.Spec.Volumes = append(local.Spec.Volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{
			Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
				Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &spillway},
			}},
		}})
	}
	if diff := cmp.Diff([]string{"web-default", "web-fast", "web-theirs"}, EphemeralClaims(local)); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	twin := Twin(local, Env{EphemeralClass: func(claim string) (string, bool) {
		switch claim {
		case "web-default":
			return "", true
		case "web-fast":
			return "fast", true
		}
		return "", false
	}})
	fast := "fast"
	for i, want := range []*string{nil, &fast, &spillway} {
		got := twin.Spec.Volumes[i].Ephemeral.VolumeClaimTemplate.Spec.StorageClassName
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", local.Spec.Volumes[i].Name, diff)
		}
	}
}
