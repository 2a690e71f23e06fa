package fidelity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/e2e/lab/realnode"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	root     = "../.." // of the module
	east     = "east"  // home
	west     = "west"  // the peer
	appImage = "spillway.dev/lab/app:v1"
	soon     = 30 * time.Second
)

// world is two peered clusters with a real node each.
type world struct {
	lab  *lab.Lab
	bin  string
	kube kubernetes.Interface // home's
	away kubernetes.Interface // the peer's
	home string               // the real node of home
}

// newWorld starts it, until the test ends.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: real nodes")
	}
	if missing := realnode.Preflight(); len(missing) > 0 {
		t.Skip("real nodes cannot run here: " + strings.Join(missing, "; "))
	}
	w := &world{bin: t.TempDir()}
	if err := w.start(t); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) start(t *testing.T) error {
	build := exec.CommandContext(t.Context(), "go", "build", "-o", w.bin, "./cmd/spillway", "./cmd/spillwayd")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	var err error
	w.lab, err = lab.Up(t.Context(), lab.Options{Progress: os.Stderr, Clusters: []lab.ClusterOptions{
		{Name: east, Real: 1}, {Name: west, Real: 1},
	}})
	if err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := w.lab.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	options := lab.SpillwayOptions{Binary: filepath.Join(w.bin, "spillwayd"), Chart: filepath.Join(root, "charts", "spillway")}
	if err := w.lab.StartSpillway(t.Context(), options); err != nil {
		return err
	}
	for _, c := range w.lab.Clusters() {
		config := rest.CopyConfig(c.Config())
		config.QPS, config.Burst, config.ContentType = 500, 500, runtime.ContentTypeProtobuf
		kube, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		if c.Name() == east {
			w.kube = kube
		} else {
			w.away = kube
		}
		eventually(t, soon, func(ctx context.Context) error { // its controller is there
			_, err := kube.CoordinationV1().Leases(lab.SpillwayNamespace).Get(ctx, lab.Spillwayd, metav1.GetOptions{})
			return err
		})
	}
	return w.peer(t)
}

// peer makes west lend to east.
func (w *world) peer(t *testing.T) error {
	nodes, err := w.kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(nodes.Items) != 1 {
		return fmt.Errorf("home has %d nodes, not one", len(nodes.Items))
	}
	w.home = nodes.Items[0].Name
	cmd := exec.CommandContext(t.Context(), filepath.Join(w.bin, "spillway"), "peer", "--context", east, "--remote-context", west, "--timeout", "30s")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.lab.Kubeconfig())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("peer: %w\n%s", err, out)
	}
	for _, kube := range []kubernetes.Interface{w.kube, w.away} {
		eventually(t, soon, func(ctx context.Context) error { return settled(ctx, kube) })
	}
	return nil
}

// settled says which node its cluster still takes for not ready: the node controller takes that back a moment after the node has
// said so, and until then a scheduler warns.
func settled(ctx context.Context, kube kubernetes.Interface) error {
	nodes, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		for _, taint := range n.Spec.Taints {
			if taint.Key == corev1.TaintNodeNotReady {
				return fmt.Errorf("node %s has the taint %s", n.Name, taint.Key)
			}
		}
	}
	return nil
}

// namespace makes one that may leave, with what the pods refer to.
func (w *world) namespace(t *testing.T, name string) {
	t.Helper()
	core := w.kube.CoreV1()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelOffload: v1alpha1.OffloadEnabled}}}
	_, err := core.Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
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
	eventually(t, soon, func(ctx context.Context) error {
		_, err := core.ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// eventually waits until holds returns nil.
func eventually(t *testing.T, within time.Duration, holds func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, within, true, func(ctx context.Context) (bool, error) {
		last = holds(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("not within %s: %v", within, last)
	}
}
