package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab/realnode"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const namespace, podName = "streams", "subject"

// way is one to the pod: through home, or at the provider directly.
type way struct {
	config    *rest.Config
	kube      kubernetes.Interface
	namespace string
}

// bed is a pod with a long log.
type bed struct {
	home, provider way
	size           int64 // of the log
}

const lineBytes = 100

// newBed starts the pod and waits until its log is complete.
func newBed(ctx context.Context, d *duo.Duo, lines int) (*bed, error) {
	if err := d.Namespace(ctx, namespace); err != nil {
		return nil, err
	}
	if _, err := d.Home.CoreV1().Pods(namespace).Create(ctx, subject(lines), metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	remote, err := d.Remote(ctx, namespace)
	if err != nil {
		return nil, err
	}
	b := &bed{
		home:     way{d.Lab.Cluster(duo.East).Config(), d.Home, namespace},
		provider: way{d.Lab.Cluster(duo.West).Config(), d.Away, remote},
		size:     int64(lines) * lineBytes,
	}
	err = duo.Until(ctx, 4*duo.Soon, func(ctx context.Context) error {
		p, err := d.Home.CoreV1().Pods(namespace).Get(ctx, podName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range p.Status.ContainerStatuses {
			if c.Name == "log" && c.State.Terminated != nil {
				return nil
			}
		}
		return fmt.Errorf("pod %s is %s", podName, p.Status.Phase)
	})
	return b, err
}

// subject has a container that has said a lot and one that programs run in.
func subject(lines int) *corev1.Pod {
	container := func(name string, args ...string) corev1.Container {
		return corev1.Container{Name: name, Image: realnode.AppImage, ImagePullPolicy: corev1.PullNever, Args: args}
	}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: podName}, Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: ptr.To(int64(1)),
		NodeSelector: map[string]string{corev1.LabelHostname: duo.VirtualNode},
		Tolerations:  []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}},
		Containers:   []corev1.Container{container("log", "fill", strconv.Itoa(lines)), container("main", "sleep")},
	}}
}

// measure takes the two ways in turn, and begins with the other one each time.
func (b *bed) measure(ctx context.Context, o options, r *result) error {
	r.LogBytes = b.size
	for i := range o.rounds + 1 { // the first is for caches and connections
		home, provider, err := inTurn(i, func(home bool) (float64, error) { return b.log(ctx, home) })
		if err != nil {
			return err
		}
		if i > 0 {
			r.LogMBps.add(home, provider)
		}
	}
	for i := range o.execs + 1 {
		home, provider, err := inTurn(i, func(home bool) (float64, error) { return b.exec(ctx, home) })
		if err != nil {
			return err
		}
		if i > 0 {
			r.ExecMs.add(home, provider)
		}
	}
	return nil
}

func inTurn(i int, measure func(home bool) (float64, error)) (home, provider float64, err error) {
	for _, atHome := range []bool{i%2 == 0, i%2 != 0} {
		figure, err := measure(atHome)
		if err != nil {
			return 0, 0, err
		}
		if atHome {
			home = figure
		} else {
			provider = figure
		}
	}
	return home, provider, nil
}

func (b *bed) way(home bool) way {
	if home {
		return b.home
	}
	return b.provider
}

// log reads all of it and gives the rate in MB/s.
func (b *bed) log(ctx context.Context, home bool) (float64, error) {
	w := b.way(home)
	began := time.Now()
	in, err := w.kube.CoreV1().Pods(w.namespace).GetLogs(podName, &corev1.PodLogOptions{Container: "log"}).Stream(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	defer in.Close()
	n, err := io.Copy(io.Discard, in)
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	if n != b.size {
		return 0, fmt.Errorf("the log has %d bytes, not %d", n, b.size)
	}
	return float64(n) / 1e6 / time.Since(began).Seconds(), nil
}

// exec runs a program that does nothing, as kubectl would, and gives the milliseconds until it has ended.
func (b *bed) exec(ctx context.Context, home bool) (float64, error) {
	w := b.way(home)
	u := w.kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(w.namespace).Name(podName).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "main", Command: []string{"/app", "true"}, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	began := time.Now()
	x, err := remotecommand.NewWebSocketExecutor(w.config, "GET", u.String())
	if err != nil {
		return 0, err
	}
	if err := x.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard}); err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	return float64(time.Since(began).Microseconds()) / 1e3, nil
}
