package lab

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// logWriter passes progress on to the test's log.
type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func TestLab(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two clusters")
	}
	begun := time.Now()
	l, err := Up(t.Context(), Options{Audit: true, Clusters: DefaultClusters(3), Progress: logWriter{t}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up in %s", time.Since(begun).Round(time.Millisecond))
	t.Cleanup(func() {
		begun := time.Now()
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		t.Logf("down in %s", time.Since(begun).Round(time.Millisecond))
		assertGone(t, l.Name())
	})
	s := &scenario{T: t, lab: l, east: l.Cluster("east")}
	for _, step := range []struct {
		name string
		run  func(*scenario)
	}{
		{"NameIsTaken", (*scenario).nameIsTaken},
		{"NodesReady", (*scenario).nodesReady},
		{"PodsRun", (*scenario).podsRun},
		{"OtherNodesAreLeftAlone", (*scenario).otherNodesAreLeftAlone},
		{"Requests", (*scenario).requests},
		{"Link", (*scenario).links},
		{"InstallSpillway", (*scenario).installSpillway},
		{"KillAndRestart", (*scenario).killAndRestart},
		{"Process", (*scenario).process},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.run(&scenario{T: t, lab: s.lab, east: s.east})
		})
	}
}

// scenario is one step on a running lab.
type scenario struct {
	*testing.T
	lab  *Lab
	east *Cluster
}

func (s *scenario) client(c *rest.Config) kubernetes.Interface {
	s.Helper()
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		s.Fatal(err)
	}
	return client
}

func (s *scenario) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// eventually waits up to 30 s.
func (s *scenario) eventually(what string, f func(context.Context) (bool, error)) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	if err := poll(ctx, 20*time.Millisecond, f); err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

func (s *scenario) nameIsTaken() {
	if _, err := Up(s.Context(), Options{Name: s.lab.Name()}); !errors.Is(err, ErrExists) {
		s.Errorf("second lab of the same name: got %v, want ErrExists", err)
	}
	if err := DownNamed(s.Context(), s.lab.Name(), false); !errors.Is(err, ErrInUse) {
		s.Errorf("down of another's lab: got %v, want ErrInUse", err)
	}
	s.must(Sweep(s.Context()))
}

func (s *scenario) nodesReady() {
	for _, name := range []string{"east", "east-direct", "west", "west-direct"} {
		config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: s.lab.Kubeconfig()},
			&clientcmd.ConfigOverrides{CurrentContext: name}).ClientConfig()
		s.must(err)
		nodes, err := s.client(config).CoreV1().Nodes().List(s.Context(), metav1.ListOptions{})
		s.must(err)
		if len(nodes.Items) != 3 || countReady(nodes.Items) != 3 {
			s.Errorf("context %s: %d nodes, %d Ready, want 3", name, len(nodes.Items), countReady(nodes.Items))
		}
		if got := nodes.Items[1].Spec.PodCIDR; !strings.HasSuffix(got, ".1.0/24") {
			s.Errorf("context %s: range of node %s is %q", name, nodes.Items[1].Name, got)
		}
	}
}

func pod(name string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "c", Image: "none"}},
		},
	}
}

func (s *scenario) podsRun() {
	pods := s.client(s.east.Config()).CoreV1().Pods("default")
	create := func(p *corev1.Pod) {
		_, err := pods.Create(s.Context(), p, metav1.CreateOptions{})
		s.must(err)
	}
	phase := func(name string, want corev1.PodPhase) {
		s.eventually("pod "+name+" "+string(want), func(ctx context.Context) (bool, error) {
			p, err := pods.Get(ctx, name, metav1.GetOptions{})
			return err == nil && p.Status.Phase == want, err
		})
	}
	create(pod("plain", nil))
	create(pod("ends", map[string]string{RunForAnnotation: "200ms"}))
	create(pod("fails", map[string]string{RunForAnnotation: "10ms", ExitCodeAnnotation: "3"}))
	create(pod("lingers", map[string]string{IgnoreSIGTERMAnnotation: ""}))
	phase("plain", corev1.PodRunning)
	phase("ends", corev1.PodSucceeded)
	phase("fails", corev1.PodFailed)
	phase("lingers", corev1.PodRunning)

	grace := int64(2)
	begun := time.Now()
	s.must(pods.Delete(s.Context(), "lingers", metav1.DeleteOptions{GracePeriodSeconds: &grace}))
	s.must(pods.Delete(s.Context(), "plain", metav1.DeleteOptions{}))
	for _, name := range []string{"plain", "lingers"} {
		s.eventually("pod "+name+" gone", func(ctx context.Context) (bool, error) {
			_, err := pods.Get(ctx, name, metav1.GetOptions{})
			return apierrors.IsNotFound(err), nil
		})
	}
	if took := time.Since(begun); took < time.Second {
		s.Errorf("the pod that ignores SIGTERM was gone after %s, want its grace period of 2 s", took)
	}
}

// otherNodesAreLeftAlone: kwok must not touch a virtual node or its pods.
func (s *scenario) otherNodesAreLeftAlone() {
	client := s.client(s.east.Config())
	_, err := client.CoreV1().Nodes().Create(s.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "virtual"}}, metav1.CreateOptions{})
	s.must(err)
	for name, node := range map[string]string{"foreign": "virtual", "ours": "east-node-1"} {
		p := pod(name, nil)
		p.Spec.NodeName = node
		_, err := client.CoreV1().Pods("default").Create(s.Context(), p, metav1.CreateOptions{})
		s.must(err)
	}
	s.eventually("pod on a simulated node Running", func(ctx context.Context) (bool, error) {
		p, err := client.CoreV1().Pods("default").Get(ctx, "ours", metav1.GetOptions{})
		return err == nil && p.Status.Phase == corev1.PodRunning, err
	})
	p, err := client.CoreV1().Pods("default").Get(s.Context(), "foreign", metav1.GetOptions{})
	s.must(err)
	if p.Status.Phase != corev1.PodPending || p.Status.PodIP != "" {
		s.Errorf("pod on the other node: %s %q, want it untouched", p.Status.Phase, p.Status.PodIP)
	}
	n, err := client.CoreV1().Nodes().Get(s.Context(), "virtual", metav1.GetOptions{})
	s.must(err)
	if nodeReady(n) || n.Status.Phase != "" {
		s.Errorf("the other node's status was written: %+v", n.Status)
	}
	s.must(client.CoreV1().Nodes().Delete(s.Context(), "virtual", metav1.DeleteOptions{}))
}

func (s *scenario) requests() {
	before, err := s.east.Requests(s.Context())
	s.must(err)
	config := s.east.ProxiedConfig()
	config.UserAgent = "counted/v1 (test)"
	maps := s.client(config).CoreV1().ConfigMaps("default")
	for _, name := range []string{"a", "b"} {
		_, err := maps.Create(s.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		s.must(err)
	}
	_, err = maps.Get(s.Context(), "none", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		s.Fatal(err)
	}
	after, err := s.east.Requests(s.Context())
	s.must(err)
	want := map[RequestKey]int64{
		{Verb: "create", Resource: "configmaps", Client: "counted", Code: http.StatusCreated}: 2,
		{Verb: "get", Resource: "configmaps", Client: "counted", Code: http.StatusNotFound}:   1,
	}
	for _, r := range DiffRequests(before, after) {
		if r.Client == "counted" && want[r.RequestKey] != r.Count {
			s.Errorf("counted %+v", r)
		}
		delete(want, r.RequestKey)
	}
	if len(want) > 0 {
		s.Errorf("not counted: %+v", want)
	}
	watches, err := s.east.Watches(s.Context())
	s.must(err)
	if len(watches) == 0 {
		s.Error("no open watches, but the controllers have some")
	}
	s.metricsCount()
}

// metricsCount checks the other way of counting, too.
func (s *scenario) metricsCount() {
	text, err := s.east.metrics(s.Context())
	s.must(err)
	counts, err := parseRequests(text)
	s.must(err)
	for _, r := range counts {
		if r.Verb == "create" && r.Resource == "configmaps" && r.Code == http.StatusCreated {
			return
		}
	}
	s.Errorf("no create of configmaps in %+v", counts)
}

func (s *scenario) links() {
	config := s.east.ProxiedConfig()
	config.Timeout = 3 * time.Second
	client := s.client(config).CoreV1().Namespaces()
	get := func() (time.Duration, error) {
		begun := time.Now()
		_, err := client.Get(s.Context(), "default", metav1.GetOptions{})
		return time.Since(begun), err
	}
	_, err := get()
	s.must(err)
	s.must(s.east.Link().Slow(200 * time.Millisecond))
	_, _ = get()
	if took, err := get(); err != nil || took < 200*time.Millisecond {
		s.Errorf("slow link: %s, %v", took, err)
	}
	for _, mode := range []CutMode{Refuse, Blackhole} {
		s.must(s.east.Link().Cut(mode))
		if took, err := get(); err == nil {
			s.Errorf("the link is cut (%s), but a request passed in %s", mode, took)
		}
		s.must(s.east.Link().Restore())
		s.eventually("restored", func(context.Context) (bool, error) { _, err := get(); return err == nil, err })
	}
	if took, err := get(); err != nil || took > 190*time.Millisecond {
		s.Errorf("restored link: %s, %v", took, err)
	}
}

// installSpillway: the kinds are served, and spillwayd is itself, not the
// administrator.
func (s *scenario) installSpillway() {
	for range 2 { // a second time changes nothing
		path, err := s.east.InstallSpillway(s.Context())
		s.must(err)
		config, err := clientcmd.BuildConfigFromFlags("", path)
		s.must(err)
		review, err := s.client(config).AuthenticationV1().SelfSubjectReviews().Create(
			s.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		s.must(err)
		if got := review.Status.UserInfo.Username; got != "system:serviceaccount:spillway-system:spillwayd" {
			s.Errorf("spillwayd is %s", got)
		}
		s.must(s.client(config).Discovery().RESTClient().Get().AbsPath("/apis/spillway.dev/v1alpha1/peerings").Do(s.Context()).Error())
	}
}

func (s *scenario) killAndRestart() {
	client := s.client(s.east.Config())
	for _, name := range []string{Etcd, APIServer, ControllerManager, Scheduler, Kwok} {
		begun := time.Now()
		old := s.east.Component(name).PID()
		s.must(s.east.Kill(s.Context(), name))
		s.must(s.east.Restart(s.Context(), name))
		if now := s.east.Component(name).PID(); now == old {
			s.Errorf("%s: the same process %d as before", name, now)
		}
		_, err := client.CoreV1().Namespaces().Get(s.Context(), "default", metav1.GetOptions{})
		s.must(err)
		s.Logf("%s again after %s", name, time.Since(begun).Round(time.Millisecond))
	}
	s.must(s.east.Kill(s.Context(), "east-node-2"))
	s.must(s.east.Restart(s.Context(), "east-node-2"))
	if err := s.east.Kill(s.Context(), "nonesuch"); err == nil || !strings.Contains(err.Error(), "east-node-3") {
		s.Errorf("kill of an unknown node: %v, want the names there are", err)
	}
}

func (s *scenario) process() {
	p, err := s.lab.Start(s.Context(), Process{Name: "sleeper", Path: "/bin/sleep", Args: []string{"1000"}})
	s.must(err)
	old := p.PID()
	s.must(p.Restart())
	if p.PID() == old || !p.Running() {
		s.Errorf("restart: process %d, was %d, running %v", p.PID(), old, p.Running())
	}
	u, err := s.east.Component(APIServer).Usage()
	s.must(err)
	if u.RSS < 50<<20 || u.PeakRSS < u.RSS || u.CPU <= 0 {
		s.Errorf("usage of the API server: %+v", u)
	}
	s.must(p.Stop(s.Context()))
}

// assertGone fails if a process or file of the lab is left.
func assertGone(t *testing.T, name string) {
	t.Helper()
	left, err := marked(name)
	if err != nil || len(left) > 0 {
		t.Errorf("processes left: %v (%v)", left, err)
	}
	if _, err := os.Stat(Dir(name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state directory %s is left (%v)", Dir(name), err)
	}
}
