package joined

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/e2e/lab/realnode"
	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

const (
	root = "../.." // of the module
	east = "east"  // the consumer
	west = "west"  // a provider with the ranges of east
	far  = "far"   // a provider whose pod range overlaps theirs in part

	soon     = 30 * time.Second
	labImage = "spillway.dev/lab/app:v1"
)

var shared struct {
	sync.Once
	world *world
	err   error
}

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "pod":
		os.Exit(podMain())
	case "forget":
		os.Exit(forgetMain())
	}
	code := m.Run()
	if shared.world != nil {
		if err := shared.world.down(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

type world struct {
	lab    *lab.Lab
	bin    string
	sides  map[string]*side
	agents map[string]*nodeAgent // by node
}

type side struct {
	*lab.Cluster
	kube     kubernetes.Interface
	peerings peeringclient.Peerings
	nodes    []string
}

// theWorld starts the lab once: every node but that of far is a gateway, and each cluster has one slot.
func theWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: real nodes")
	}
	if missing := realnode.Preflight(); len(missing) > 0 {
		t.Skip("real nodes cannot run here: " + strings.Join(missing, "; "))
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl: it reads the agents' reports")
	}
	shared.Do(func() { shared.world, shared.err = newWorld(context.Background()) })
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

func newWorld(ctx context.Context) (w *world, err error) {
	w = &world{sides: map[string]*side{}, agents: map[string]*nodeAgent{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.down(ctx))
			w = nil
		}
	}()
	if w.bin, err = os.MkdirTemp("", "spillway-joined-"); err != nil {
		return w, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", w.bin, "./cmd/spillway", "./cmd/spillwayd")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return w, fmt.Errorf("build: %w\n%s", err, out)
	}
	w.lab, err = lab.Up(ctx, lab.Options{Progress: os.Stderr, Clusters: []lab.ClusterOptions{
		{Name: east, Real: 2, PodCIDR: "10.1.0.0/16", ServiceCIDR: "10.2.0.0/16"},
		{Name: west, Real: 2, PodCIDR: "10.1.0.0/16", ServiceCIDR: "10.2.0.0/16"},
		{Name: far, Real: 1, PodCIDR: "10.1.128.0/17", ServiceCIDR: "10.3.0.0/16"},
	}})
	if err != nil {
		return w, err
	}
	options := lab.SpillwayOptions{
		Binary: filepath.Join(w.bin, "spillwayd"),
		Args:   []string{"--alias-pools", "100.64.0.0/16,100.64.0.0/10"}, // all choose the same at first, and one has to give way
	}
	if err := w.lab.StartSpillway(ctx, options); err != nil {
		return w, err
	}
	for _, c := range w.lab.Clusters() {
		if err := w.addSide(ctx, c); err != nil {
			return w, err
		}
	}
	for _, provider := range []string{west, far} {
		if out, err := w.peer(ctx, provider); err != nil {
			return w, fmt.Errorf("peer: %w\n%s\n%s", err, out, w.agentLogs())
		}
	}
	return w, nil
}

// peer joins east with a provider, which calls namespaces as home does if it is far.
func (w *world) peer(ctx context.Context, provider string) (string, error) {
	return w.spillway(ctx, "peer", "--context", east, "--remote-context", provider, "--timeout", "60s", fmt.Sprintf("--same-namespaces=%v", provider == far))
}

func (w *world) addSide(ctx context.Context, c *lab.Cluster) error {
	s := &side{Cluster: c}
	var err error
	if s.kube, err = kubernetes.NewForConfig(c.Config()); err != nil {
		return err
	}
	if s.peerings, err = peeringclient.New(c.Config()); err != nil {
		return err
	}
	w.sides[c.Name()] = s
	nodes, err := s.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		s.nodes = append(s.nodes, n.Name)
		label := []byte(`{"metadata":{"labels":{"spillway.dev/gateway":""}}}`)
		if _, err := s.kube.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, label, metav1.PatchOptions{}); err != nil {
			return err
		}
		a := &nodeAgent{w: w, side: s, node: n.Name}
		w.agents[n.Name] = a
		if err := errors.Join(a.install(ctx), a.start(ctx)); err != nil {
			return fmt.Errorf("start the agent of %s: %w", n.Name, err)
		}
	}
	return nil
}

// explain says what agents see.
func (w *world) explain() string {
	text := w.agentLogs()
	for node := range w.agents {
		r, err := w.report(context.Background(), node)
		text += fmt.Sprintf("%s: routes %q, peers %+v, refused %v\n", node, r.Tunnel.Routes, r.Tunnel.Peers, r.Tunnel.Refused)
		text += fmt.Sprintf("%s: %v offline %v slots %v of %v, members %v, reachable %d, problems %v, last error %q, missing %v, paths %+v, samples %+v\n",
			node, err, r.Offline, r.Slots, r.Holders, r.Members, r.Tunnel.Reachable, r.Problems, r.Tunnel.LastError, r.Tunnel.Missing, r.Paths, r.Samples)
	}
	return text
}

// agentLogs are the last words of all agents.
func (w *world) agentLogs() string {
	text := ""
	for node := range w.agents {
		data, _ := os.ReadFile(filepath.Join(w.lab.Dir(), "log", node+"-agent.log"))
		text += node + ": " + string(data[max(0, len(data)-600):]) + "\n"
	}
	return text
}

func (w *world) down(ctx context.Context) error {
	var err error
	if w.lab != nil {
		err = w.lab.Down(ctx)
	}
	return errors.Join(err, os.RemoveAll(w.bin))
}

// spillway runs the command line.
func (w *world) spillway(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, "spillway"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.lab.Kubeconfig())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// eventually waits until holds returns nil and says how long that took.
func eventually(t *testing.T, within time.Duration, what string, holds func(context.Context) error) time.Duration {
	t.Helper()
	began := time.Now()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, within, true, func(ctx context.Context) (bool, error) {
		last = holds(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: not within %s: %v", what, within, last)
	}
	return time.Since(began)
}

// up says whether the tunnel of a Peering is up, as its condition says.
func (s *side) up(ctx context.Context, peering string) (bool, string, error) {
	p, err := s.peerings.Get(ctx, peering, metav1.GetOptions{})
	if err != nil {
		return false, "", err
	}
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionTunnelUp)
	if c == nil {
		return false, "", errors.New("there is no condition TunnelUp")
	}
	return c.Status == metav1.ConditionTrue, c.Reason + ": " + c.Message, nil
}

func (s *side) is(want bool, peering string) func(context.Context) error {
	return func(ctx context.Context) error {
		up, words, err := s.up(ctx, peering)
		if err == nil && up != want {
			err = fmt.Errorf("TunnelUp is %v: %s", up, words)
		}
		return err
	}
}

// seen maps an address of one cluster to what another sees.
func (w *world) seen(t *testing.T, by, of string, a netip.Addr) netip.Addr {
	t.Helper()
	p, err := w.sides[by].peerings.Get(t.Context(), of, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, alias := range p.Spec.Tunnel.Aliases {
		from, to := netip.MustParsePrefix(alias.Range), netip.MustParsePrefix(alias.As)
		if out, ok := address.Map(a, from, to); ok {
			return out
		}
	}
	return a
}

// pods makes one pod per node of a cluster, or pods of east on the virtual node of a provider, each an endpoint of the
// Service of its name, and enters them.
func (w *world) pods(t *testing.T, namespace, name, provider string, count int) []*caller {
	t.Helper()
	home := w.sides[east]
	var out []*caller
	for i := range count {
		pod := appPod(fmt.Sprintf("%s-%s-%d", namespace, name, i), name)
		if provider == "" {
			pod.Spec.NodeName = home.nodes[i]
		} else {
			pod.Spec.NodeSelector = map[string]string{"kubernetes.io/hostname": "spillway-" + provider}
			pod.Spec.Tolerations = []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}}
		}
		if _, err := home.kube.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		out = append(out, &caller{pod: pod.Name})
	}
	for i, c := range out {
		var local *corev1.Pod
		eventually(t, time.Minute, "pod "+c.pod+" runs", func(ctx context.Context) (err error) {
			if local, err = home.kube.CoreV1().Pods(namespace).Get(ctx, c.pod, metav1.GetOptions{}); err == nil &&
				(local.Status.PodIP == "" || local.Status.Phase != corev1.PodRunning) {
				err = fmt.Errorf("phase %s, address %q", local.Status.Phase, local.Status.PodIP)
			}
			return err
		})
		out[i] = enter(t, c.pod, local.Spec.NodeName, netip.MustParseAddr(local.Status.PodIP))
	}
	return out
}

func appPod(name, app string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{{
			Name: "app", Image: labImage, ImagePullPolicy: corev1.PullNever, Args: []string{"serve"},
		}}},
	}
}

// namespace makes one that may leave, with a Service per app, and takes it away at the end.
func (w *world) namespace(t *testing.T, apps ...string) string {
	t.Helper()
	kube := w.sides[east].kube
	name := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelOffload: v1alpha1.OffloadEnabled}}}
	if _, err := kube.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{}) })
	for _, app := range apps {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: app}, Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Port: podPort}},
		}}
		if _, err := kube.CoreV1().Services(name).Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// The cluster's own controllers take their time after its API server was away.
	eventually(t, 2*time.Minute, "the ServiceAccount of namespace "+name, func(ctx context.Context) error {
		_, err := kube.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return name
}
