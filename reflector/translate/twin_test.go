package translate

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// update returns whether golden files are to be written: go test ./reflector/translate -args -update.
func update() bool { return flag.Lookup("update").Value.String() == "true" }

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden files of testdata/twin anew")
	flag.Parse()
	os.Exit(m.Run())
}

// TestTwin compares the twins of real-world pods with golden text.
func TestTwin(t *testing.T) {
	files, err := filepath.Glob("testdata/twin/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			local := &corev1.Pod{}
			if err := yaml.UnmarshalStrict(archive.Files[0].Data, local); err != nil {
				t.Fatalf("%s: %v", archive.Files[0].Name, err)
			}
			got := asYAML(t, Twin(local, testEnv()))
			if update() {
				archive.Files = append(archive.Files[:1], txtar.File{Name: "twin.yaml", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(archive.Files) != 2 {
				t.Fatal("no twin.yaml: run go test ./reflector/translate -args -update, and read what it writes")
			}
			if diff := gocmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("twin (-want +got):\n%s", diff)
			}
		})
	}
}

func asYAML(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	var text strings.Builder
	encoder := serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, nil, nil, serializer.SerializerOptions{Yaml: true})
	if err := encoder.Encode(pod, &text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestTwin_KeepsMatchLabelKeysMerged: the API server at home has merged them already, or has not.
func TestTwin_MatchLabelKeys(t *testing.T) {
	local := web()
	local.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
		{TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: selector("app", "web"), MatchLabelKeys: []string{"app"}},
		{TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: selector("app", "web")},
	}
	local.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: corev1.LabelHostname, LabelSelector: selector(), MatchLabelKeys: []string{"app", "unknown"}},
		},
	}}
	spec := Twin(local, testEnv()).Spec
	if n := len(spec.TopologySpreadConstraints); n != 1 {
		t.Fatalf("%d soft constraints for one key: the API refuses that", n)
	}
	for name, s := range map[string]int{
		"merged at home": len(spec.TopologySpreadConstraints[0].LabelSelector.MatchExpressions),
		"merged here":    len(spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector.MatchExpressions),
	} {
		if s != 1 {
			t.Errorf("%s: %d expressions, want 1", name, s)
		}
	}
}

// TestTwin_DataSourceOfItsOwnNamespace: home's name for that namespace would be another's in the peer.
func TestTwin_DataSourceOfItsOwnNamespace(t *testing.T) {
	source := func(namespace string) corev1.Volume {
		ref := &corev1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "data", Namespace: &namespace}
		return corev1.Volume{Name: "from-" + namespace, VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
			VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{DataSourceRef: ref}},
		}}}
	}
	local := web()
	local.Spec.Volumes = []corev1.Volume{source(local.Namespace), source("other"), {Name: "none", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}}
	volumes := Twin(local, testEnv()).Spec.Volumes
	if got := volumes[0].Ephemeral.VolumeClaimTemplate.Spec.DataSourceRef.Namespace; got != nil {
		t.Errorf("the twin's data comes from %s", *got)
	}
	if got := volumes[1].Ephemeral.VolumeClaimTemplate.Spec.DataSourceRef.Namespace; got == nil || *got != "other" {
		t.Errorf("another namespace became %v", got)
	}
}

func TestReferences(t *testing.T) {
	secret := func(name string) *corev1.LocalObjectReference { return &corev1.LocalObjectReference{Name: name} }
	spec := corev1.PodSpec{
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}, {}},
		InitContainers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: *secret("c-from")}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: *secret("s-from")}},
		}}},
		Containers: []corev1.Container{{Env: []corev1.EnvVar{
			{Name: "plain", Value: "x"},
			{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: *secret("c-env")}}},
			{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: *secret("twice")}}},
		}}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Env: []corev1.EnvVar{
			{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: *secret("s-debug")}}},
		}}}},
	}
	for _, source := range []corev1.VolumeSource{
		{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: *secret("c-vol")}},
		{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: *secret(rootCA)}},
		{Secret: &corev1.SecretVolumeSource{SecretName: "twice"}},
		{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: *secret("c-proj")}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: *secret("s-proj")}},
		}}},
		{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: secret("csi")}},
		{AzureFile: &corev1.AzureFileVolumeSource{SecretName: "azure"}},
		{CephFS: &corev1.CephFSVolumeSource{SecretRef: secret("ceph")}},
		{Cinder: &corev1.CinderVolumeSource{SecretRef: secret("cinder")}},
		{FlexVolume: &corev1.FlexVolumeSource{SecretRef: secret("flex")}},
		{ISCSI: &corev1.ISCSIVolumeSource{SecretRef: secret("iscsi")}},
		{RBD: &corev1.RBDVolumeSource{SecretRef: secret("rbd")}},
		{ScaleIO: &corev1.ScaleIOVolumeSource{SecretRef: secret("scaleio")}},
		{StorageOS: &corev1.StorageOSVolumeSource{SecretRef: secret("storageos")}},
		{EmptyDir: &corev1.EmptyDirVolumeSource{}},
	} {
		spec.Volumes = append(spec.Volumes, corev1.Volume{VolumeSource: source})
	}
	configMaps, secrets := References(&spec)
	if want := []string{"c-env", "c-from", "c-proj", "c-vol"}; !slices.Equal(configMaps, want) {
		t.Errorf("ConfigMaps %q, want %q", configMaps, want)
	}
	want := []string{"azure", "ceph", "cinder", "csi", "flex", "iscsi", "pull", "rbd", "s-debug", "s-from", "s-proj", "scaleio", "storageos", "twice"}
	if !slices.Equal(secrets, want) {
		t.Errorf("Secrets %q, want %q", secrets, want)
	}
}
