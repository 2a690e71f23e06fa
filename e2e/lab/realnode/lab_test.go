package realnode_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/e2e/lab/realnode"
)

// needReal skips where real nodes cannot run, with the reason.
func needReal(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real nodes")
	}
	if missing := realnode.Preflight(); len(missing) > 0 {
		t.Skip(strings.Join(missing, "; "))
	}
}

type logWriter struct{ *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// clusters is a lab of two clusters with an app pod on each node.
type clusters struct {
	*testing.T
	lab   *lab.Lab
	nodes *realnode.Nodes
	names []string
	kube  map[string]kubernetes.Interface
	pods  map[string][]corev1.Pod // by cluster, one per node
}

func TestRealNodes(t *testing.T) {
	needReal(t)
	before := look(t)
	// The binaries' build is not part of the time that is measured.
	if _, err := lab.Binaries(t.Context(), logWriter{t}, lab.BinaryNames(true)...); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	l, err := lab.Up(t.Context(), lab.Options{Progress: logWriter{t}, Clusters: []lab.ClusterOptions{
		{Name: "east", Real: 2, Metrics: true}, {Name: "west", Real: 2},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("two clusters of two real nodes, Ready with DNS: %.1f s", time.Since(begun).Seconds())
	c := &clusters{T: t, lab: l, nodes: l.RealNodes(), names: []string{"east", "west"},
		kube: map[string]kubernetes.Interface{}, pods: map[string][]corev1.Pod{}}
	left := traces{lab: l.Name(), dir: filepath.Join(l.Dir(), "real"), uplink: c.nodes.Plan().Uplink}
	t.Cleanup(func() {
		begun := time.Now()
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		t.Logf("down: %.1f s", time.Since(begun).Seconds())
		left.gone(t)
		if diff := cmp.Diff(before, look(t)); diff != "" {
			t.Errorf("the machine has changed: -before +after:\n%s", diff)
		}
		if err := realnode.Clean(context.WithoutCancel(t.Context()), l.Name(), filepath.Join(l.Dir(), "real")); err != nil {
			t.Errorf("clean again: %v", err)
		}
	})
	c.startPods()
	for _, step := range []struct {
		name string
		run  func(*clusters)
	}{
		{"PodToPod", (*clusters).podToPod},
		{"ServiceAndDNS", (*clusters).serviceAndDNS},
		{"PodToAPIServer", (*clusters).podToAPIServer},
		{"LogsAndEndings", (*clusters).logsAndEndings},
		{"BetweenClusters", (*clusters).betweenClusters},
		{"Top", (*clusters).top},
		{"RestartedComponentsLeavePodsAlone", (*clusters).restartedComponents},
		{"KilledNode", (*clusters).killedNode},
		{"UnknownNames", (*clusters).unknownNames},
	} {
		t.Run(step.name, func(t *testing.T) {
			sub := *c
			sub.T = t
			step.run(&sub)
		})
	}
}

// startPods runs one app pod per node, behind Service app on port 80.
func (c *clusters) startPods() {
	c.Helper()
	begun := time.Now()
	for _, name := range c.names {
		client, err := kubernetes.NewForConfig(c.lab.Cluster(name).Config())
		if err != nil {
			c.Fatal(err)
		}
		c.kube[name] = client
		if _, err := client.AppsV1().DaemonSets("default").Create(c.Context(), appDaemonSet(), metav1.CreateOptions{}); err != nil {
			c.Fatal(err)
		}
		if _, err := client.CoreV1().Services("default").Create(c.Context(), appService(), metav1.CreateOptions{}); err != nil {
			c.Fatal(err)
		}
	}
	for _, name := range c.names {
		c.pods[name] = c.waitPods(name, "app=app", 2)
	}
	c.Logf("four pods Ready: %.1f s", time.Since(begun).Seconds())
}

// waitPods waits until n pods are Ready and returns them.
func (c *clusters) waitPods(cluster, selector string, n int) []corev1.Pod {
	c.Helper()
	var pods []corev1.Pod
	c.eventually(60*time.Second, func() error {
		list, err := c.kube[cluster].CoreV1().Pods("default").List(c.Context(), metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		pods = list.Items
		ready := 0
		for _, p := range pods {
			if isReady(p) {
				ready++
			}
		}
		if ready != n {
			return fmt.Errorf("%s: %d of %d pods are Ready", cluster, ready, n)
		}
		return nil
	})
	return pods
}

func isReady(p corev1.Pod) bool {
	for _, condition := range p.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}

// eventually tries until f succeeds; the test ends with f's last error.
func (c *clusters) eventually(within time.Duration, f func() error) {
	c.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(within)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("not within %s: %v", within, err)
		}
		<-ticker.C
	}
}

// app runs the app of a pod once more, with other arguments, and returns what it printed.
func (c *clusters) app(cluster string, pod corev1.Pod, args ...string) (string, error) {
	config := c.lab.Cluster(cluster).Config()
	client, ok := c.kube[cluster].CoreV1().RESTClient().(*rest.RESTClient)
	if !ok {
		return "", errors.New("no REST client")
	}
	request := client.Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: append([]string{"/app"}, args...), Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(config, "GET", request.URL().String())
	if err != nil {
		return "", err
	}
	var out, errs bytes.Buffer // two, because both are written at once
	err = executor.StreamWithContext(c.Context(), remotecommand.StreamOptions{Stdout: &out, Stderr: &errs})
	return out.String() + errs.String(), err
}

// expect runs the app of a pod and wants all of these words in what it prints.
func (c *clusters) expect(cluster string, pod corev1.Pod, want []string, args ...string) {
	c.Helper()
	out, err := c.app(cluster, pod, args...)
	if err != nil {
		c.Errorf("%s on %s: %v: %s", args, pod.Name, err, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			c.Errorf("%s on %s: no %q in %s", args, pod.Name, w, out)
		}
	}
}

func (c *clusters) podToPod() {
	for _, name := range c.names {
		for _, from := range c.pods[name] {
			for _, to := range c.pods[name] {
				c.expect(name, from, []string{
					"pod: " + to.Name, "node: " + to.Spec.NodeName, "namespace: default", "client: " + from.Status.PodIP + ":",
				}, "get", "http://"+to.Status.PodIP+":8080/")
			}
		}
	}
}

func (c *clusters) serviceAndDNS() {
	for _, name := range c.names {
		service, err := c.kube[name].CoreV1().Services("default").Get(c.Context(), "app", metav1.GetOptions{})
		if err != nil {
			c.Fatal(err)
		}
		for _, from := range c.pods[name] {
			c.eventually(10*time.Second, func() error { // kube-proxy learns of endpoints a moment after they are Ready
				out, err := c.app(name, from, "get", "http://"+service.Spec.ClusterIP+"/")
				if err == nil && !strings.Contains(out, "pod: app-") {
					err = fmt.Errorf("%s answers %q", service.Spec.ClusterIP, out)
				}
				return err
			})
			c.expect(name, from, []string{service.Spec.ClusterIP}, "resolve", "app.default.svc.cluster.local")
			c.expect(name, from, []string{"pod: app-"}, "get", "http://app/")
		}
	}
}

func (c *clusters) podToAPIServer() {
	for _, name := range c.names {
		for _, from := range c.pods[name] {
			c.expect(name, from, []string{`"gitVersion"`}, "get", "https://kubernetes.default.svc/version")
		}
	}
}

// logsAndEndings: logs of a running pod, the exit code and the words of one that ended.
func (c *clusters) logsAndEndings() {
	client, pod := c.kube["east"], c.pods["east"][0]
	log, err := client.CoreV1().Pods("default").GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(c.Context())
	if err != nil || string(log) != "serving on :8080\n" {
		c.Errorf("log of %s: %q, %v", pod.Name, log, err)
	}
	ending := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "ending", Namespace: "default"},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{
			{Name: "app", Image: realnode.AppImage, ImagePullPolicy: corev1.PullNever, Args: []string{"exit", "7"}},
		}},
	}
	if _, err := client.CoreV1().Pods("default").Create(c.Context(), ending, metav1.CreateOptions{}); err != nil {
		c.Fatal(err)
	}
	c.eventually(30*time.Second, func() error {
		p, err := client.CoreV1().Pods("default").Get(c.Context(), "ending", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p.Status.Phase != corev1.PodFailed {
			return fmt.Errorf("the pod is %s", p.Status.Phase)
		}
		if code := p.Status.ContainerStatuses[0].State.Terminated.ExitCode; code != 7 {
			c.Errorf("exit code %d, want 7", code)
		}
		return nil
	})
}

// betweenClusters: nodes reach each other over the router, pods are unknown to it, and each API server is there for all.
func (c *clusters) betweenClusters() {
	from := c.pods["east"][0]
	service, err := c.kube["west"].CoreV1().Services("default").Get(c.Context(), "app", metav1.GetOptions{})
	if err != nil {
		c.Fatal(err)
	}
	west := c.nodes.Plan().Clusters[1]
	c.expect("east", from, []string{"pod: app-"},
		"get", fmt.Sprintf("http://%s:%d/", west.Nodes[0].Addr, service.Spec.Ports[0].NodePort))
	if out, err := c.app("east", from, "get", "http://"+c.pods["west"][0].Status.PodIP+":8080/"); err == nil {
		c.Errorf("a pod of west answered a pod of east through the router: %s", out)
	}
	server, err := url.Parse(c.lab.Cluster("west").Config().Host)
	if err != nil {
		c.Fatal(err)
	}
	out, err := c.app("east", from, "get", "https://"+west.APIServer.String()+":"+server.Port()+"/version")
	if err == nil || !strings.Contains(out, "certificate") { // it answers, with a certificate of another CA
		c.Errorf("west's API server from a pod of east: %v: %s", err, out)
	}
}

// containers are the ids of all containers of the app pods, which change when one is restarted.
func (c *clusters) containers(cluster string) map[string]string {
	c.Helper()
	ids := map[string]string{}
	for _, p := range c.waitPods(cluster, "app=app", 2) {
		for _, s := range p.Status.ContainerStatuses {
			ids[p.Name+"/"+s.Name] = s.ContainerID
		}
	}
	return ids
}

func (c *clusters) restartedComponents() {
	before := c.containers("east")
	pod := c.pods["east"][0]
	node := pod.Spec.NodeName
	other := c.pods["east"][1]
	if err := c.nodes.KillComponent(c.Context(), node, realnode.Kubelet); err != nil {
		c.Fatal(err)
	}
	c.expect("east", other, []string{"pod: " + pod.Name}, "get", "http://"+pod.Status.PodIP+":8080/")
	if out, err := c.app("east", pod, "env"); err == nil {
		c.Errorf("exec without a kubelet worked: %s", out)
	}
	for _, component := range []string{realnode.Containerd, realnode.Kubelet, realnode.KubeProxy} {
		if err := c.nodes.RestartComponent(c.Context(), node, component); err != nil {
			c.Fatal(err)
		}
	}
	c.eventually(30*time.Second, func() error {
		_, err := c.app("east", pod, "get", "http://app/")
		return err
	})
	if diff := cmp.Diff(before, c.containers("east")); diff != "" {
		c.Errorf("containers: -before +after:\n%s", diff)
	}
}

// killedNode: everything of the node is gone at once; after Restart the same pods run again.
func (c *clusters) killedNode() {
	pod, other := c.pods["west"][0], c.pods["west"][1]
	node := pod.Spec.NodeName
	begun := time.Now()
	if err := c.nodes.Kill(c.Context(), node); err != nil {
		c.Fatal(err)
	}
	c.Logf("node killed: %.2f s", time.Since(begun).Seconds())
	if _, err := c.nodes.PID(node); !errors.Is(err, realnode.ErrNotRunning) {
		c.Errorf("process of a killed node: %v", err)
	}
	if out, err := c.app("west", other, "get", "http://"+pod.Status.PodIP+":8080/"); err == nil {
		c.Errorf("a pod on a killed node answered: %s", out)
	}
	if err := c.nodes.Kill(c.Context(), node); err != nil {
		c.Errorf("killing a dead node: %v", err)
	}
	begun = time.Now()
	if err := c.nodes.Restart(c.Context(), node); err != nil {
		c.Fatal(err)
	}
	c.eventually(90*time.Second, func() error {
		p, err := c.kube["west"].CoreV1().Pods("default").Get(c.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p.UID != pod.UID || !isReady(*p) || p.Status.ContainerStatuses[0].RestartCount == 0 {
			return fmt.Errorf("pod %s: UID %s, Ready %v, %d restarts", p.Name, p.UID, isReady(*p), p.Status.ContainerStatuses[0].RestartCount)
		}
		out, err := c.app("west", other, "get", "http://"+p.Status.PodIP+":8080/")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	c.Logf("node back with its pods: %.1f s", time.Since(begun).Seconds())
}

func (c *clusters) unknownNames() {
	if err := c.nodes.Kill(c.Context(), "nobody"); !errors.Is(err, realnode.ErrInvalid) {
		c.Errorf("kill an unknown node: %v", err)
	}
	err := c.nodes.KillComponent(c.Context(), "east-real-1", "nothing")
	if err == nil || !strings.Contains(err.Error(), `no component "nothing"`) {
		c.Errorf("kill an unknown component: %v", err)
	}
	cmd, err := c.nodes.Command(c.Context(), "east-real-1", "hostname")
	if err != nil {
		c.Fatal(err)
	}
	if out, err := cmd.Output(); err != nil || string(out) != "east-real-1\n" {
		c.Errorf("host name in the node: %q, %v", out, err)
	}
}

// deadPlane is a control plane that never answers.
type deadPlane struct{}

func (deadPlane) CA() []byte           { return []byte("none") }
func (deadPlane) Config() *rest.Config { return &rest.Config{Host: "https://127.0.0.1:1"} }
func (deadPlane) Issue(string, []string, []string) (cert, key []byte, err error) {
	return []byte("none"), []byte("none"), nil
}

// TestClean_HalfWay: nodes that never got to their API server, and whose starter gave up, leave nothing.
func TestClean_HalfWay(t *testing.T) {
	needReal(t)
	paths, err := lab.Binaries(t.Context(), logWriter{t}, lab.BinaryNames(true)...)
	if err != nil {
		t.Fatal(err)
	}
	tools := realnode.Tools{
		Cache:  t.TempDir(),
		Binary: func(_ context.Context, name string) (string, error) { return paths[name], nil },
	}
	before := look(t)
	dir := filepath.Join(t.TempDir(), "real")
	cfg := realnode.Config{Lab: fmt.Sprintf("half-%d", os.Getpid()), Dir: dir, Clusters: []realnode.Cluster{{
		Name: "half", Nodes: make([]realnode.Node, 2),
		PodCIDR: netip.MustParsePrefix("10.100.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.200.0.0/16"),
	}}}
	plan, err := realnode.Reserve(t.Context(), cfg, tools)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // as soon as a node runs
		nodes, _ := realnode.Open(dir)
		for nodes != nil && ctx.Err() == nil {
			if _, err := nodes.PID("half-real-2"); err == nil {
				cancel()
			}
		}
	}()
	if _, err := realnode.Start(ctx, cfg, plan, tools, []realnode.ControlPlane{deadPlane{}}); err == nil {
		t.Error("started without an API server")
	}
	for range 2 {
		if err := realnode.Clean(t.Context(), cfg.Lab, dir); err != nil {
			t.Error(err)
		}
	}
	traces{lab: cfg.Lab, dir: dir, uplink: plan.Uplink}.gone(t)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the nodes' directory: %v", err)
	}
	if diff := cmp.Diff(before, look(t)); diff != "" {
		t.Errorf("the machine has changed: -before +after:\n%s", diff)
	}
}
