package install

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/spillway-dev/spillway/e2e/load"
)

const (
	rate           = 200          // requests per second
	leastRate      = rate * 3 / 4 // that must have been asked for a judgement to count
	requestTimeout = 5 * time.Second
)

// asked is a pod at home that asks a URL at a steady rate, and what has come of it.
type asked struct{ load.Tally }

// offloadedService makes a Service at home whose pods, web-0 and so on, all run away, and gives its URL. It has no name in it, so that
// nobody but Spillway is on the way.
func (w *world) offloadedService(t *testing.T, namespace string, pods int) string {
	t.Helper()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"service": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
	}}
	made, err := w.home.kube.CoreV1().Services(namespace).Create(t.Context(), service, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods {
		pod := offloadedPod(fmt.Sprintf("web-%d", i))
		pod.Labels["service"] = "web"
		w.start(t, namespace, pod)
	}
	return "http://" + made.Spec.ClusterIP + "/"
}

// ask has a pod on a node of home ask a URL until the test is over.
func (w *world) ask(t *testing.T, namespace, url string) *asked {
	t.Helper()
	a := &asked{}
	pod := appPod("asks", map[string]string{corev1.LabelHostname: w.home.nodes[0]})
	pod.Spec.Containers[0].ReadinessProbe = nil
	pod.Spec.Containers[0].Args = []string{"load", url, fmt.Sprint(rate), requestTimeout.String()}
	w.start(t, namespace, pod)
	lines, err := w.home.kube.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Follow: true}).Stream(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var read sync.WaitGroup
	read.Go(func() { _, _ = io.Copy(a, lines) }) // a test that finds no more seconds says so
	t.Cleanup(func() { _ = lines.Close(); read.Wait() })
	eventually(t, soon, "requests are answered", func(context.Context) error {
		if sum := a.Since(time.Now().Add(-4 * time.Second)); sum.Seconds < 3 || sum.Failed > 0 {
			return fmt.Errorf("%s", sum)
		}
		return nil
	})
	return a
}

// noneFailed waits until all requests of this moment are known, and fails the test when one failed since began, or when there were too
// few to judge by.
func (a *asked) noneFailed(t *testing.T, what string, began time.Time) {
	t.Helper()
	now := time.Now()
	eventually(t, soon, "the requests are counted", func(context.Context) error {
		if last := a.Last(); last.Before(now.Add(requestTimeout + time.Second)) {
			return fmt.Errorf("the last second that is known ended at %s", last)
		}
		return nil
	})
	sum := a.Since(began)
	t.Logf("%s: %s", what, sum)
	if sum.Failed > 0 {
		t.Errorf("%s: %d requests failed", what, sum.Failed)
	}
	if sum.Rate() < leastRate {
		t.Errorf("%s: %.0f requests per second were made, want %d: too few to judge by", what, sum.Rate(), rate)
	}
}
