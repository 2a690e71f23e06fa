package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/charts"
	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

const (
	root = "../.." // of the module
	// homeName borrows from awayName. They are the clusters' names and their contexts.
	homeName, awayName = "home", "away"
	// virtualNode is how away appears at home.
	virtualNode = "spillway-" + awayName
	// nodesEach is how many real nodes a cluster has.
	nodesEach = 2

	soon     = 30 * time.Second
	appImage = "spillway.dev/lab/app:v1" // on every real node
)

var shared struct {
	sync.Once
	world *world
	err   error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.world != nil {
		if err := shared.world.down(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// world is two clusters of real nodes that have the image of this checkout, and the command line.
type world struct {
	lab        *lab.Lab
	bin        string // folder with spillway and spillwayd
	kubectl    string // the program
	version    string // of the chart and of the image
	home, away *side

	before map[string]traces // what there was before the first installation, by cluster

	peered bool   // Spillway is installed in both and they are peered, see arrive
	took   *times // of the first time
}

// side is one cluster, seen by its administrator.
type side struct {
	*lab.Cluster
	kube     kubernetes.Interface
	peerings peeringclient.Peerings
	nodes    []string // real ones
}

// newWorld gives the package's one world. At first nothing is installed; later it is as the test before has left it, so ask for what
// is needed: arrive.
func newWorld(t *testing.T) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real nodes")
	}
	if missing := duo.Missing(); len(missing) > 0 {
		t.Skip("real nodes cannot run here: " + strings.Join(missing, "; "))
	}
	shared.Do(func() { shared.world, shared.err = startWorld(context.Background()) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(shared.world.explain())
		}
	})
	return shared.world
}

func startWorld(ctx context.Context) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.down(ctx))
			w = nil
		}
	}()
	chart, err := charts.Load()
	if err != nil {
		return w, err
	}
	w.version = chart.AppVersion()
	if w.bin, err = os.MkdirTemp("", "spillway-install-"); err != nil {
		return w, err
	}
	if err := build(ctx, w.version, w.bin); err != nil {
		return w, err
	}
	if w.kubectl, err = lab.Binary(ctx, "kubectl", os.Stderr); err != nil {
		return w, err
	}
	w.lab, err = lab.Up(ctx, lab.Options{InCluster: true, Audit: true, Progress: os.Stderr, Clusters: []lab.ClusterOptions{
		{Name: homeName, Real: nodesEach}, {Name: awayName, Real: nodesEach},
	}})
	if err != nil {
		return w, err
	}
	if w.home, err = newSide(ctx, w.lab.Cluster(homeName)); err != nil {
		return w, err
	}
	if w.away, err = newSide(ctx, w.lab.Cluster(awayName)); err != nil {
		return w, err
	}
	if err := w.load(ctx, w.version, filepath.Join(w.bin, "spillwayd")); err != nil {
		return w, err
	}
	w.before, err = w.lookAtAll(ctx)
	return w, err
}

// build makes spillway and spillwayd of a version in folder.
func build(ctx context.Context, version, folder string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", lab.VersionFlag(version), "-o", folder, "./cmd/spillway", "./cmd/spillwayd")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", version, err, out)
	}
	return nil
}

func newSide(ctx context.Context, c *lab.Cluster) (*side, error) {
	s := &side{Cluster: c}
	config := rest.CopyConfig(c.Config())
	config.UserAgent = "install-test"
	var err error
	if s.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if s.peerings, err = peeringclient.New(config); err != nil {
		return nil, err
	}
	list, err := s.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, n := range list.Items {
		s.nodes = append(s.nodes, n.Name)
	}
	return s, nil
}

// sides are both clusters.
func (w *world) sides() []*side { return []*side{w.home, w.away} }

// load puts a built spillwayd on all nodes of both clusters, as the image of that version.
func (w *world) load(ctx context.Context, version, binary string) error {
	archive, err := lab.PackSpillwayd(ctx, binary, version, filepath.Join(w.bin, "images"))
	if err != nil {
		return err
	}
	return w.lab.ImportImage(ctx, archive)
}

func (w *world) down(ctx context.Context) error {
	var err error
	if w.lab != nil {
		err = w.lab.Down(ctx)
	}
	return errors.Join(err, os.RemoveAll(w.bin))
}

// run runs the command line, and gives what it says.
func (w *world) run(ctx context.Context, args ...string) (string, error) {
	return w.command(ctx, filepath.Join(w.bin, "spillway"), args...)
}

func (w *world) command(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.lab.Kubeconfig())
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// spillway runs the command line, which has to succeed.
func (w *world) spillway(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// kube runs kubectl, which has to succeed.
func (w *world) kube(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.command(t.Context(), w.kubectl, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// explain says how Spillway's pods are and what they have said last.
func (w *world) explain() string {
	var b bytes.Buffer
	for _, s := range w.sides() {
		for _, namespace := range []string{lab.SpillwayNamespace, lab.AgentNamespace} {
			pods, err := s.kube.CoreV1().Pods(namespace).List(context.Background(), metav1.ListOptions{})
			if err != nil {
				fmt.Fprintln(&b, err)
				continue
			}
			for _, p := range pods.Items {
				lines := int64(15)
				words, _ := s.kube.CoreV1().Pods(namespace).GetLogs(p.Name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(context.Background())
				fmt.Fprintf(&b, "%s: %s/%s on %s: %s %+v\n%s\n", s.Name(), namespace, p.Name, p.Spec.NodeName, p.Status.Phase, p.Status.ContainerStatuses, words)
			}
		}
	}
	return b.String()
}

// eventually waits until holds returns nil and says how long that took.
func eventually(t *testing.T, within time.Duration, what string, holds func(context.Context) error) time.Duration {
	t.Helper()
	began := time.Now()
	if err := duo.Until(t.Context(), within, holds); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return time.Since(began)
}

// namespace makes one at home and takes it away at the end. Its pods may leave if they tolerate it.
func (w *world) namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := w.home.kube.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		_ = w.home.kube.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
		_ = duo.Until(ctx, soon, func(ctx context.Context) error { // the next test may remove Spillway, which empties it
			if _, err := w.home.kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err == nil {
				return fmt.Errorf("namespace %s is still there", name)
			}
			return nil
		})
	})
	eventually(t, soon, "the ServiceAccount of namespace "+name, func(ctx context.Context) error {
		_, err := w.home.kube.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return name
}

// offloadable are the labels of a namespace whose pods may leave.
func offloadable() map[string]string {
	return map[string]string{v1alpha1.LabelOffload: v1alpha1.OffloadEnabled}
}

// appPod serves HTTP on port 8080; its label app is its name.
func appPod(name string, on map[string]string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace, NodeSelector: on,
			Containers: []corev1.Container{{
				Name: "app", Image: appImage, ImagePullPolicy: corev1.PullNever, Args: []string{"serve"}, ReadinessProbe: ready(),
			}},
		},
	}
}

// offloadedPod is an appPod that runs away.
func offloadedPod(name string) *corev1.Pod {
	pod := appPod(name, map[string]string{corev1.LabelHostname: virtualNode})
	pod.Spec.Tolerations = []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}}
	return pod
}
