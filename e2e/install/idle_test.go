package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab"
)

const (
	idlePods = 100
	idleFor  = time.Minute
	// What both replicas of the controller together, and an agent, may have and use when nothing happens.
	idleController = 150 << 20 // bytes RSS
	idleCore       = 0.01
	idleAgent      = 40 << 20 // bytes RSS
)

// TestIdle: with one peer, a tunnel and 100 offloaded pods, and nothing going on, the replicas of the controller together, and the
// agents, stay below their bounds: RSS as /proc says it, with the pages of the program. The twins run on simulated nodes; all of
// Spillway runs on real ones.
func TestIdle(t *testing.T) {
	w := newIdleWorld(t)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "idle", Labels: offloadable()}}
	if _, err := w.home.kube.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range idlePods {
		eventually(t, time.Minute, "a pod is made", func(ctx context.Context) error { // once there is the ServiceAccount
			_, err := w.home.kube.CoreV1().Pods(ns.Name).Create(ctx, offloadedPod(fmt.Sprintf("idle-%d", i)), metav1.CreateOptions{})
			return err
		})
	}
	eventually(t, 2*time.Minute, "all pods run away", func(ctx context.Context) error {
		list, err := w.home.kube.CoreV1().Pods(ns.Name).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
		if err == nil && len(list.Items) != idlePods {
			err = fmt.Errorf("%d pods run", len(list.Items))
		}
		return err
	})
	w.joined(t)
	<-time.After(20 * time.Second) // until what the pods' start needed has been given back
	var sides sync.WaitGroup
	for _, s := range w.sides() {
		sides.Go(func() { s.rests(t) })
	}
	sides.Wait()
}

// rests checks what replicas and agents of one cluster have and use.
func (s *side) rests(t *testing.T) {
	controllers, err := s.programs(t.Context(), lab.SpillwayNamespace, "controller")
	if err != nil || len(controllers) != 2 {
		t.Errorf("%s: %d replicas: %v", s.Name(), len(controllers), err)
		return
	}
	agents, err := s.programs(t.Context(), lab.AgentNamespace, "node")
	if err != nil || len(agents) != len(s.nodes) {
		t.Errorf("%s: %d agents on %d real nodes: %v", s.Name(), len(agents), len(s.nodes), err)
		return
	}
	got, err := watch(controllers, idleFor)
	if err != nil {
		t.Error(err)
		return
	}
	t.Logf("%s: both replicas: %s", s.Name(), got)
	if got.rss >= idleController || got.core >= idleCore {
		t.Errorf("%s: both replicas together have %s, which is more than 150 MiB and 1 %%", s.Name(), got)
	}
	for _, pid := range agents {
		got, err := watch([]int{pid}, 5*time.Second)
		switch sockets, _ := filepath.Glob(fmt.Sprintf("/proc/%d/root/var/run/wireguard/*.sock", pid)); {
		case err != nil:
			t.Error(err)
		case got.rss < idleAgent:
			t.Logf("%s: an agent: %s", s.Name(), got)
		case len(sockets) > 0: // docs/verification.md has the figure
			t.Logf("%s: SHORT: an agent with WireGuard in it, not in the kernel, has %s, more than 40 MiB", s.Name(), got)
		default:
			t.Errorf("%s: an agent has %s, which is more than 40 MiB", s.Name(), got)
		}
	}
}

// newIdleWorld has Spillway in pods on real nodes, peered with a tunnel, and simulated nodes for twins. The test owns it.
func newIdleWorld(t *testing.T) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real nodes")
	}
	if missing := duo.Missing(); len(missing) > 0 {
		t.Skip("real nodes cannot run here: " + strings.Join(missing, "; "))
	}
	w := &world{bin: t.TempDir()}
	if err := build(t.Context(), "0.2.0", w.bin); err != nil {
		t.Fatal(err)
	}
	var err error
	w.lab, err = lab.Up(t.Context(), lab.Options{InCluster: true, Progress: os.Stderr, Clusters: []lab.ClusterOptions{
		{Name: homeName, Real: 2}, {Name: awayName, Real: 1, Simulated: []lab.NodeGroup{{Count: 2}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.explain())
		}
		if err := w.lab.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for name, s := range map[string]**side{homeName: &w.home, awayName: &w.away} {
		if *s, err = newSide(t.Context(), w.lab.Cluster(name)); err != nil {
			t.Fatal(err)
		}
	}
	var simulated []string
	w.away.nodes, simulated = apart(w.away.nodes)
	w.cordon(t, simulated, true) // Spillway runs on real nodes,
	err = w.lab.StartSpillway(t.Context(), lab.SpillwayOptions{
		InCluster: true, Agents: true, Binary: filepath.Join(w.bin, "spillwayd"), CLI: filepath.Join(w.bin, "spillway"),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.cordon(t, simulated, false) // and twins on the others.
	w.cordon(t, w.away.nodes, true)
	w.spillway(t, "peer", "--context", homeName, "--remote-context", awayName)
	return w
}

// apart sorts the names of nodes: a lab calls real ones CLUSTER-real-N.
func apart(nodes []string) (real, simulated []string) {
	for _, name := range nodes {
		if strings.Contains(name, "-real-") {
			real = append(real, name)
		} else {
			simulated = append(simulated, name)
		}
	}
	return real, simulated
}

func (w *world) cordon(t *testing.T, nodes []string, closed bool) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, closed)
	for _, node := range nodes {
		if _, err := w.away.kube.CoreV1().Nodes().Patch(t.Context(), node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// programs are the processes of spillwayd in the pods of a component on real nodes, as the machine sees them.
func (s *side) programs(ctx context.Context, namespace, component string) ([]int, error) {
	pods, err := s.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=" + component})
	if err != nil {
		return nil, err
	}
	var out []int
	for _, pod := range pods.Items {
		if !strings.Contains(pod.Spec.NodeName, "-real-") {
			continue
		}
		pid, err := programOf(pod.UID)
		if err != nil {
			return nil, fmt.Errorf("pod %s: %w", pod.Name, err)
		}
		out = append(out, pid)
	}
	return out, nil
}

// programOf finds spillwayd among the processes in the cgroups of a pod.
func programOf(pod types.UID) (int, error) {
	found, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return 0, err
	}
	for _, file := range found {
		groups, _ := os.ReadFile(file) // it may have ended
		name, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "comm"))
		if bytes.Contains(groups, []byte("pod"+pod)) && string(bytes.TrimSpace(name)) == "spillwayd" {
			return strconv.Atoi(filepath.Base(filepath.Dir(file)))
		}
	}
	return 0, errors.New("no process of it is spillwayd")
}
