package kubelet

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/e2e/lab/realnode"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	namespace = "streams" // of all pods here, at home
	soon      = duo.Soon
)

// world is two peered clusters, with pods of east that run in west.
type world struct {
	*duo.Duo
	home, away end
	debug      map[string]string // address of the profiles, by cluster
}

// end is one way to the pods: through home, or at the provider directly.
type end struct {
	name      string
	config    *rest.Config
	kube      kubernetes.Interface
	namespace string
	context   string // of the lab's kubeconfig
}

func (w *world) ends() []end { return []end{w.home, w.away} }

// TestKubelet: the parts that leave others alone run at once; those that break things come last.
func TestKubelet(t *testing.T) {
	if missing := duo.Missing(); len(missing) > 0 {
		t.Skip("real nodes cannot run here: " + strings.Join(missing, "; "))
	}
	w := newWorld(t)
	scaled := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { scaled <- w.autoscale(ctx) }() // it waits for metrics most of the time
	t.Run("AtOnce", func(t *testing.T) {
		for name, run := range map[string]func(*testing.T){
			"Logs": w.logs, "Exec": w.exec, "Attach": w.attach, "PortForward": w.portForward,
			"Debug": w.debugged, "Rights": w.rights, "Top": w.top, "Clients": w.clients, "Copy": w.copies,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t)
			})
		}
	})
	t.Run("ManyStreams", w.manyStreams)
	t.Run("Autoscaler", func(t *testing.T) {
		if err := <-scaled; err != nil {
			t.Error(err)
		}
	})
	t.Run("KilledDuringStreams", w.killed)
	t.Run("Unreachable", w.unreachable)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{debug: map[string]string{duo.East: freeAddress(t), duo.West: freeAddress(t)}}
	var err error
	w.Duo, err = duo.Start(t.Context(), duo.Options{
		Dir: t.TempDir(), Root: "../..", Metrics: true, Progress: os.Stderr,
		ArgsOf: func(cluster string) []string { return []string{"--debug-address", w.debug[cluster]} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := w.fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// freeAddress is one that nobody listened at a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// fill makes the pods and waits until all of them do what they are for.
func (w *world) fill(ctx context.Context) error {
	if err := w.Namespace(ctx, namespace); err != nil {
		return err
	}
	pods := w.Home.CoreV1().Pods(namespace)
	for _, p := range []*corev1.Pod{talker(), tool(), network(), again()} {
		if _, err := pods.Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	remote, err := w.Remote(ctx, namespace)
	if err != nil {
		return err
	}
	east, west := w.Lab.Cluster(duo.East).Config(), w.Lab.Cluster(duo.West).Config()
	w.home = end{"home", east, kubernetes.NewForConfigOrDie(east), namespace, duo.East}
	w.away = end{"provider", west, kubernetes.NewForConfigOrDie(west), remote, duo.West}
	for _, p := range []*corev1.Pod{talker(), tool(), network(), again()} {
		if err := w.running(ctx, p.Name); err != nil {
			return err
		}
	}
	return duo.Until(ctx, soon, func(ctx context.Context) error { // its first life is over
		p, err := pods.Get(ctx, again().Name, metav1.GetOptions{})
		if err == nil && (len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].RestartCount == 0) {
			err = fmt.Errorf("pod %s has not begun again", p.Name)
		}
		return err
	})
}

// running waits until a pod of home is.
func (w *world) running(ctx context.Context, name string) error {
	return duo.Until(ctx, soon, func(ctx context.Context) error {
		p, err := w.Home.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("pod %s is %s: %+v", name, p.Status.Phase, p.Status)
		}
		return err
	})
}

// container runs the lab's app.
func container(name string, args ...string) corev1.Container {
	return corev1.Container{Name: name, Image: realnode.AppImage, ImagePullPolicy: corev1.PullNever, Args: args}
}

func pod(name string, containers ...corev1.Container) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: podSpec(containers...)}
}

func podSpec(containers ...corev1.Container) corev1.PodSpec {
	grace := int64(1)
	return corev1.PodSpec{
		Containers: containers, TerminationGracePeriodSeconds: &grace,
		NodeSelector: map[string]string{corev1.LabelHostname: duo.VirtualNode},
		Tolerations:  []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}},
	}
}

// talker has logs: of an init container, of one that has ended, and of one that goes on.
func talker() *corev1.Pod {
	p := pod("talker", container("lines", "fill", "2000"), container("ticks", "log", "100000", "50ms"))
	p.Spec.InitContainers = []corev1.Container{container("first", "log", "3")}
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	return p
}

// tool is for exec and attach.
func tool() *corev1.Pod {
	reader, terminal := container("reader", "copy"), container("terminal", "tty")
	reader.Stdin, terminal.Stdin, terminal.TTY = true, true, true
	return pod("tool", container("main", "sleep"), reader, terminal)
}

// network listens.
func network() *corev1.Pod {
	return pod("network", container("echo", "echo", ":7"), container("web", "serve", ":8080"))
}

// again ends once and then stays.
func again() *corev1.Pod {
	c := container("main", "see", "to:-", "env:WHO", "first:/data/x:3", "stay")
	c.Env = []corev1.EnvVar{{Name: "WHO", Value: "again"}}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}
	p := pod("again", c)
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	return p
}

// consumer is the spillwayd of home.
func (w *world) consumer() *lab.Proc { return w.Lab.Cluster(duo.East).Component(lab.Spillwayd) }

// eventually waits until holds returns nil.
func eventually(t *testing.T, within time.Duration, holds func(context.Context) error) {
	t.Helper()
	if err := duo.Until(t.Context(), within, holds); err != nil {
		t.Fatal(err)
	}
}
