package translate_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// podWithToken mounts what the ServiceAccount admission adds to pods, and a token for another audience.
func podWithToken() *corev1.Pod {
	usual := []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: ptr.To(int64(3607)), Path: "token"}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
			Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}}},
	}
	vault := []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", ExpirationSeconds: ptr.To(int64(700)), Path: "vault"}},
	}
	volume := func(name string, sources []corev1.VolumeProjection) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "1111"},
		Spec: corev1.PodSpec{
			ServiceAccountName: "web", Volumes: []corev1.Volume{volume("kube-api-access-x", usual), volume("vault", vault)},
			Containers: []corev1.Container{{Name: "app", Env: []corev1.EnvVar{{Name: "KUBERNETES_SERVICE_PORT", Value: "1"}},
				VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access-x", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}}},
		},
	}
}

// TestTwin_Tokens: where home's API server is reached, a twin has home's tokens, authority and address; elsewhere nothing
// of them.
func TestTwin_Tokens(t *testing.T) {
	env := serviceEnv
	if spec := translate.Twin(podWithToken(), env).Spec; len(spec.Volumes) != 0 || len(spec.HostAliases) != 0 || len(spec.Containers[0].VolumeMounts) != 0 {
		t.Errorf("without a way home: %+v", spec)
	}
	env.HomeAPI = netip.MustParseAddrPort("100.71.0.1:443")
	spec := translate.Twin(podWithToken(), env).Spec
	from := func(key, path string) corev1.VolumeProjection {
		return corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: "spillway-token-1111"}, Items: []corev1.KeyToPath{{Key: key, Path: path}},
		}}
	}
	got := append(spec.Volumes[0].Projected.Sources[:2:2], spec.Volumes[1].Projected.Sources...)
	if diff := cmp.Diff([]corev1.VolumeProjection{from("token-0", "token"), from("ca.crt", "ca.crt"), from("token-1", "vault")}, got); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	want := []corev1.EnvVar{{Name: "KUBERNETES_SERVICE_PORT", Value: "1"}, {Name: "KUBERNETES_SERVICE_HOST", Value: "kubernetes.default.svc"}}
	if diff := cmp.Diff(want, spec.Containers[0].Env); diff != "" {
		t.Errorf("environment: what the user has set stays (-want +got):\n%s", diff)
	}
	if a := spec.HostAliases; len(a) != 1 || a[0].IP != "100.71.0.1" || spec.ServiceAccountName != "" || *spec.AutomountServiceAccountToken {
		t.Errorf("names %v, account %q", a, spec.ServiceAccountName)
	}
	tokens := translate.Tokens(&podWithToken().Spec)
	if diff := cmp.Diff([]translate.Token{{Key: "token-0", Seconds: 3600}, {Key: "token-1", Audience: "vault", Seconds: 700}}, tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
}

func TestTokenSecret(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	s := translate.TokenSecret(podWithToken(), serviceEnv, map[string]string{"token-0": "abc"}, "PEM", at)
	if s.Name != "spillway-token-1111" || s.Namespace != "shop-1f2e" || s.Labels[translate.LabelOrigin] != "consumer-1" ||
		string(s.Data["token-0"]) != "abc" || string(s.Data["ca.crt"]) != "PEM" || !translate.IsTokenSecret(s.Name) || !translate.RenewAt(s).Equal(at) {
		t.Errorf("%+v", s)
	}
	if !translate.RenewAt(&corev1.Secret{}).IsZero() {
		t.Error("a Secret that does not say when has a time")
	}
}

// TestTwin_TokensOnThePathOfOthers: a kubelet shows the last of two files with the same path. The API does not take two.
func TestTwin_TokensOnThePathOfOthers(t *testing.T) {
	env := serviceEnv
	env.HomeAPI = netip.MustParseAddrPort("100.71.0.1:443")
	item := func(path string) []corev1.KeyToPath { return []corev1.KeyToPath{{Key: "key", Path: path}} }
	token := corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}
	own := corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "own"}, Items: item("token")}}
	local := podWithToken()
	for name, row := range map[string]struct {
		sources []corev1.VolumeProjection
		want    string
	}{
		"token last":  {[]corev1.VolumeProjection{own, token}, "spillway-token-1111"},
		"token first": {[]corev1.VolumeProjection{token, own}, "own"},
		"two tokens":  {[]corev1.VolumeProjection{token, token}, "spillway-token-1111"},
	} {
		local.Spec.Volumes[1].Projected.Sources = row.sources
		got := translate.Twin(local, env).Spec.Volumes[1].Projected.Sources
		if len(got) != 1 || got[0].Secret.Name != row.want || len(got[0].Secret.Items) != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
