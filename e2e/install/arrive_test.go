package install

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/spillway-dev/spillway/e2e/duo"
)

// times are how long after the beginning the steps of arrive were done.
type times struct {
	installed, peered, ready time.Duration
}

func (t times) String() string {
	return fmt.Sprintf("installed in both after %.1f s, peered after %.1f s, an offloaded pod Ready after %.1f s",
		t.installed.Seconds(), t.peered.Seconds(), t.ready.Seconds())
}

// arrive brings Spillway into both clusters and peers them, if that has not been done or has been undone (see left), and waits for a
// Ready offloaded pod.
func (w *world) arrive(t *testing.T) {
	t.Helper()
	if w.peered {
		return
	}
	begun, now := time.Now(), times{}
	g, ctx := errgroup.WithContext(t.Context())
	for _, s := range w.sides() {
		g.Go(func() error {
			_, err := w.run(ctx, "install", "--context", s.Name())
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	now.installed = time.Since(begun)
	w.spillway(t, "peer", "--context", homeName, "--remote-context", awayName)
	now.peered = time.Since(begun)
	t.Run("FirstPod", func(t *testing.T) {
		ns := w.namespace(t, offloadable())
		w.start(t, ns, offloadedPod("first"))
		now.ready = time.Since(begun)
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Log(now)
	w.peered = true
	if w.took == nil {
		w.took = &now
	}
}

// left says that Spillway has been removed from a cluster, or the peering.
func (w *world) left() { w.peered = false }

// start makes a pod at home and waits until it is Ready.
func (w *world) start(t *testing.T, namespace string, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	if _, err := w.home.kube.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var now *corev1.Pod
	eventually(t, time.Minute, "pod "+pod.Name+" is Ready", func(ctx context.Context) (err error) {
		now, err = readyPod(ctx, w.home.kube, namespace, pod.Name)
		return err
	})
	return now
}

// readyPod is an error until the pod is Ready.
func readyPod(ctx context.Context, kube kubernetes.Interface, namespace, name string) (*corev1.Pod, error) {
	pod, err := kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return pod, nil
		}
	}
	return nil, fmt.Errorf("pod %s is not Ready: %+v", name, pod.Status)
}

func ready() *corev1.Probe {
	return &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
		HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)},
	}}
}

// remote is the namespace at away that stands for one of home.
func (w *world) remote(t *testing.T, local string) string {
	t.Helper()
	name, err := (&duo.Duo{Home: w.home.kube, Away: w.away.kube}).Remote(t.Context(), local)
	if err != nil {
		t.Fatal(err)
	}
	return name
}
