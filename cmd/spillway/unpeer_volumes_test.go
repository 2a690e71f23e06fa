package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSayKept(t *testing.T) {
	if got := sayKept(nil); got != "" {
		t.Errorf("without volumes: %q", got)
	}
	volumes := []corev1.PersistentVolume{
		{Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "shop", Name: "data"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "pvc-1"}},
	}
	if got := sayKept(volumes); !strings.HasSuffix(got, ": pvc-1, shop/data") {
		t.Errorf("two volumes: %q", got)
	}
}
