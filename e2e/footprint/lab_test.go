package footprint_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/spillway-dev/spillway/e2e/footprint"
	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/e2e/lab/realnode"
)

// TestLab: a pod on a real node is seen in the cluster and on the node, and when it has gone all is as before, so that nothing that
// changes by itself is taken for a trace.
func TestLab(t *testing.T) {
	if os.Geteuid() != 0 || len(realnode.Preflight()) > 0 {
		t.Skip("needs root: a real node")
	}
	l, err := lab.Up(t.Context(), lab.Options{Progress: os.Stderr, Clusters: []lab.ClusterOptions{{Name: "home", Real: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c := l.Cluster("home")
	kube, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	look := func() (cluster, node footprint.Footprint) {
		cluster, err := footprint.OfCluster(t.Context(), c.Config())
		if err == nil {
			node, err = footprint.OfNode(t.Context(), func(ctx context.Context, args ...string) (*exec.Cmd, error) {
				return l.RealNodes().Command(ctx, nodes.Items[0].Name, args...)
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		return cluster, node
	}
	cluster, node := look()
	t.Logf("%d objects; %d things on the node", len(cluster), len(node))
	grace := int64(0)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "guest"}, Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{Name: "app", Image: realnode.AppImage, ImagePullPolicy: corev1.PullNever, Args: []string{"serve"}}}}}
	pods := kube.CoreV1().Pods("default")
	until(t, "the ServiceAccount is there", func(ctx context.Context) error {
		_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		return err
	})
	until(t, "the pod runs", func(ctx context.Context) error {
		now, err := pods.Get(ctx, "guest", metav1.GetOptions{})
		if err == nil && now.Status.Phase != corev1.PodRunning {
			err = errors.New(string(now.Status.Phase))
		}
		return err
	})
	withCluster, withNode := look()
	t.Logf("with a pod: %d and %d differences", len(footprint.Diff(cluster, withCluster)), len(footprint.Diff(node, withNode)))
	if len(footprint.Diff(cluster, withCluster)) == 0 || len(footprint.Diff(node, withNode)) == 0 {
		t.Error("the pod is not seen")
	}
	if err := pods.Delete(t.Context(), "guest", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "all is as before", func(context.Context) error {
		nowCluster, nowNode := look()
		if d := append(footprint.Diff(cluster, nowCluster), footprint.Diff(node, nowNode)...); len(d) > 0 {
			return errors.New(strings.Join(d, "\n"))
		}
		return nil
	})
}

func until(t *testing.T, what string, holds func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 500*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		last = holds(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: not within three minutes: %v", what, last)
	}
}
