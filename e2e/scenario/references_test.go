package scenario

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestReferencesFollow: the ConfigMaps and Secrets of a pod are there before its twin, change with those at home, and go
// with the last pod that uses them. Others stay home.
func TestReferencesFollow(t *testing.T) {
	s := begin(t)
	home := s.consumer.kube.CoreV1()
	remote := s.tenantNamespace(s.ns)
	there := s.provider.kube.CoreV1()
	for _, name := range []string{"settings", "unused"} {
		_, err := home.ConfigMaps(s.ns).Create(s.ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"colour": "blue"},
		}, metav1.CreateOptions{})
		s.check(err)
	}
	_, err := home.Secrets(s.ns).Create(s.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "key"}, Data: map[string][]byte{"key": []byte("1234")},
	}, metav1.CreateOptions{})
	s.check(err)

	for _, name := range []string{"first", "second"} {
		s.create(s.remotePod(name, usingBoth))
		s.running(name)
	}
	config := func(ctx context.Context, want string) error {
		cm, err := there.ConfigMaps(remote).Get(ctx, "settings", getOptions())
		if err == nil && cm.Data["colour"] != want {
			return fmt.Errorf("the twin of ConfigMap settings says %q, want %q", cm.Data["colour"], want)
		}
		return err
	}
	secret := func(ctx context.Context, want string) error {
		sec, err := there.Secrets(remote).Get(ctx, "key", getOptions())
		if err == nil && string(sec.Data["key"]) != want {
			return fmt.Errorf("the twin of Secret key says %q, want %q", sec.Data["key"], want)
		}
		return err
	}
	s.check(config(s.ctx, "blue")) // the twin runs, so both are there
	s.check(secret(s.ctx, "1234"))
	if _, err := there.ConfigMaps(remote).Get(s.ctx, "unused", getOptions()); !apierrors.IsNotFound(err) {
		t.Errorf("a ConfigMap that no pod uses: %v, want not found", err)
	}

	cm, err := home.ConfigMaps(s.ns).Get(s.ctx, "settings", getOptions())
	s.check(err)
	cm.Data["colour"] = "green"
	_, err = home.ConfigMaps(s.ns).Update(s.ctx, cm, metav1.UpdateOptions{})
	s.check(err)
	sec, err := home.Secrets(s.ns).Get(s.ctx, "key", getOptions())
	s.check(err)
	sec.Data["key"] = []byte("5678")
	_, err = home.Secrets(s.ns).Update(s.ctx, sec, metav1.UpdateOptions{})
	s.check(err)
	s.eventually(soon, "changes follow", func(ctx context.Context) error {
		if err := config(ctx, "green"); err != nil {
			return err
		}
		return secret(ctx, "5678")
	})

	s.deletePod("first", metav1.DeleteOptions{})
	s.eventually(soon, "the first user is gone", func(ctx context.Context) error { return s.gone(ctx, "first") })
	s.check(config(s.ctx, "green")) // the second still uses it
	s.deletePod("second", metav1.DeleteOptions{})
	s.eventually(soon, "both go with their last user", func(ctx context.Context) error {
		_, configErr := there.ConfigMaps(remote).Get(ctx, "settings", getOptions())
		_, secretErr := there.Secrets(remote).Get(ctx, "key", getOptions())
		if !apierrors.IsNotFound(configErr) || !apierrors.IsNotFound(secretErr) {
			return fmt.Errorf("ConfigMap: %v, Secret: %v, want not found", configErr, secretErr)
		}
		return nil
	})
	if _, err := home.Secrets(s.ns).Get(s.ctx, "key", getOptions()); err != nil {
		t.Errorf("the Secret at home: %v", err)
	}
}

// usingBoth makes a pod use ConfigMap settings and Secret key.
func usingBoth(pod *corev1.Pod) {
	c := &pod.Spec.Containers[0]
	c.EnvFrom = append(c.EnvFrom, corev1.EnvFromSource{
		ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}},
	})
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
		Name: "key", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "key"}},
	})
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "key", MountPath: "/key"})
}
