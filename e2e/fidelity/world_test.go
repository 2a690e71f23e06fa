package fidelity

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab"
)

const (
	root     = "../.."  // of the module
	east     = duo.East // home
	west     = duo.West // the peer
	appImage = "spillway.dev/lab/app:v1"
	soon     = 30 * time.Second
)

// world is two peered clusters with a real node each.
type world struct {
	*duo.Duo
	lab  *lab.Lab
	kube kubernetes.Interface // home's
	away kubernetes.Interface // the peer's
	home string               // the real node of home
}

// newWorld starts it, until the test ends.
func newWorld(t *testing.T) *world {
	t.Helper()
	if missing := duo.Missing(); len(missing) > 0 {
		t.Skip("real nodes cannot run here: " + strings.Join(missing, "; "))
	}
	d, err := duo.Start(t.Context(), duo.Options{Dir: t.TempDir(), Root: root, Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &world{Duo: d, lab: d.Lab, kube: d.Home, away: d.Away, home: d.Node}
}

// namespace makes one that may leave, with what the pods refer to.
func (w *world) namespace(t *testing.T, name string) {
	t.Helper()
	core := w.kube.CoreV1()
	err := w.Namespace(t.Context(), name)
	for _, c := range configMaps() {
		_, e := core.ConfigMaps(name).Create(t.Context(), c, metav1.CreateOptions{})
		err = errors.Join(err, e)
	}
	for _, s := range secrets() {
		_, e := core.Secrets(name).Create(t.Context(), s, metav1.CreateOptions{})
		err = errors.Join(err, e)
	}
	front := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "front"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"none": "such"}, Ports: []corev1.ServicePort{{Port: 8080}},
	}}
	_, e := core.Services(name).Create(t.Context(), front, metav1.CreateOptions{})
	if err = errors.Join(err, e); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until holds returns nil.
func eventually(t *testing.T, within time.Duration, holds func(context.Context) error) {
	t.Helper()
	if err := duo.Until(t.Context(), within, holds); err != nil {
		t.Fatal(err)
	}
}
