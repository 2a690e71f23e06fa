package fidelity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
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

// world is two peered clusters with a real node each. Tests share it, and keep to their namespaces.
type world struct {
	*duo.Duo
	lab  *lab.Lab
	kube kubernetes.Interface // home's
	away kubernetes.Interface // the peer's
	home string               // the real node of home
}

var shared struct {
	sync.Once
	dir   string // of what the world runs
	world *world
	err   error
}

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

// runTests takes the world down when all tests have run.
func runTests(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "spillway-fidelity-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared.dir = dir
	code = m.Run()
	if shared.world != nil {
		if err := shared.world.Down(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// theWorld starts the two clusters once, for all tests.
func theWorld(t *testing.T) *world {
	t.Helper()
	if missing := duo.Missing(); len(missing) > 0 {
		t.Skip("real nodes cannot run here: " + strings.Join(missing, "; "))
	}
	shared.Do(func() {
		d, err := duo.Start(context.Background(), duo.Options{Dir: shared.dir, Root: root, Progress: os.Stderr})
		if err != nil {
			shared.err = err
			return
		}
		shared.world = &world{Duo: d, lab: d.Lab, kube: d.Home, away: d.Away, home: d.Node}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.world
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
	t.Cleanup(func() { _ = core.Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{}) })
}

// eventually waits until holds returns nil.
func eventually(t *testing.T, within time.Duration, holds func(context.Context) error) {
	t.Helper()
	if err := duo.Until(t.Context(), within, holds); err != nil {
		t.Fatal(err)
	}
}
