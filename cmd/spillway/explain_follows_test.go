package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestServicesOf_ThoseThatLeadToThePod(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "tier": "front"}}}
	service := func(name string, selector map[string]string) corev1.Service {
		return corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Selector: selector}}
	}
	got := servicesOf(pod, []corev1.Service{
		service("web", map[string]string{"app": "web"}), service("db", map[string]string{"app": "db"}), service("elsewhere", nil),
		service("both", map[string]string{"app": "web", "tier": "front"}),
	})
	want := []need{{kindService, "both", false, presenceThere, presenceUnknown}, {kindService, "web", false, presenceThere, presenceUnknown}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMountsToken(t *testing.T) {
	volume := func(sources ...corev1.VolumeProjection) *corev1.PodSpec {
		return &corev1.PodSpec{Volumes: []corev1.Volume{{}, {VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}}}
	}
	for name, row := range map[string]struct {
		spec *corev1.PodSpec
		want bool
	}{
		"nothing":        {&corev1.PodSpec{}, false},
		"something else": {volume(corev1.VolumeProjection{Secret: &corev1.SecretProjection{}}), false},
		"a token":        {volume(corev1.VolumeProjection{}, corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}), true},
	} {
		if got := mountsToken(row.spec); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
