package realnode_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// TestInCluster: the API servers of two clusters with the same ranges reach each the pods, Services and kubelets of its own, also
// when a node is gone.
func TestInCluster(t *testing.T) {
	needReal(t)
	const pods, services = "10.9.0.0/16", "10.8.0.0/16"
	l, err := lab.Up(t.Context(), lab.Options{InCluster: true, Progress: logWriter{t}, Clusters: []lab.ClusterOptions{
		{Name: "east", Real: 2, Metrics: true, PodCIDR: pods, ServiceCIDR: services},
		{Name: "west", Real: 2, PodCIDR: pods, ServiceCIDR: services},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	c := &clusters{T: t, lab: l, nodes: l.RealNodes(), names: []string{"east", "west"},
		kube: map[string]kubernetes.Interface{}, pods: map[string][]corev1.Pod{}}
	c.startPods()
	for _, name := range c.names {
		c.eventually(10*time.Second, func() error { return c.servedInside(name) })
		for _, pod := range c.pods[name] {
			c.reachesKubelet(name, pod)
		}
		if _, err := c.nodes.Dial(t.Context(), c.pods["east"][0].Spec.NodeName, c.lab.Cluster(name).Link().Addr()); err != nil {
			t.Errorf("the proxy of %s is not reached from a node: %v", name, err)
		}
	}
	gone, left := c.pods["east"][0], c.pods["east"][1]
	if gone.Spec.NodeName > left.Spec.NodeName {
		gone, left = left, gone // the first node is the one that was dialled from
	}
	if err := l.Cluster("east").Kill(t.Context(), gone.Spec.NodeName); err != nil {
		t.Fatal(err)
	}
	c.reachesKubelet("east", left)
	if err := c.answers("east", "pods", left.Name+":8080", left.Name); err != nil {
		t.Errorf("a pod is not reached when the first node is gone: %v", err)
	}
}

// servedInside asks the cluster's Service through its API server: a pod of that very cluster has to answer.
func (c *clusters) servedInside(cluster string) error {
	return c.answers(cluster, "services", "app:80", c.pods[cluster][0].Name, c.pods[cluster][1].Name)
}

// answers asks through the API server's proxy; the answer has to name one of pods.
func (c *clusters) answers(cluster, resource, name string, pods ...string) error {
	answer, err := c.kube[cluster].CoreV1().RESTClient().Get().Namespace("default").
		Resource(resource).Name(name).SubResource("proxy").DoRaw(c.Context())
	if err != nil {
		return fmt.Errorf("%s: %s %s: %w", cluster, resource, name, err)
	}
	for _, pod := range pods {
		if strings.Contains(string(answer), pod) {
			return nil
		}
	}
	return fmt.Errorf("%s: %s %s: none of %q has answered: %s", cluster, resource, name, pods, answer)
}

// reachesKubelet reads a pod's log and runs a command in it.
func (c *clusters) reachesKubelet(cluster string, pod corev1.Pod) {
	c.Helper()
	words, err := c.kube[cluster].CoreV1().Pods("default").GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(c.Context())
	if err != nil || !strings.Contains(string(words), "serving") {
		c.Errorf("%s: logs of %s: %v: %s", cluster, pod.Name, err, words)
	}
	if out, err := c.app(cluster, pod, "say", "hello", "", "0"); err != nil || !strings.Contains(out, "hello") {
		c.Errorf("%s: exec in %s: %v: %s", cluster, pod.Name, err, out)
	}
}
