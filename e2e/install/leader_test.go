package install

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

const (
	// nextLeads is how soon another replica leads when the one that does is killed.
	nextLeads = 5 * time.Second
	// askedEvery is how often a pod is made, which the API server asks about; startedEvery is how often one is made that starts, each
	// of which is a container on this machine.
	askedEvery, startedEvery = 100 * time.Millisecond, 2 * time.Second
)

// TestLeader_Killed: the leader's process is killed and its pod deleted by force. Another leads soon, without virtual nodes being lost,
// and new pods start.
func TestLeader_Killed(t *testing.T) {
	w := newWorld(t)
	w.arrive(t)
	ns := w.strictNamespace(t)
	w.twoReplicas(t)
	leader := w.leader(t)
	node := w.watchNode(t)
	began := time.Now()
	w.kill(t, leader)
	force := int64(0)
	err := w.home.kube.CoreV1().Pods(lab.SpillwayNamespace).Delete(t.Context(), leader.Name, metav1.DeleteOptions{GracePeriodSeconds: &force})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "another replica leads", func(ctx context.Context) error { return w.another(ctx, leader.Name) })
	took := time.Since(began)
	t.Logf("another replica leads %.2f s after the kill", took.Seconds())
	if took >= nextLeads {
		t.Errorf("another replica leads %s after the kill, want less than %s", took, nextLeads)
	}
	w.start(t, ns, offloadedPod("after"))
	t.Logf("a pod that was made then is Ready %.2f s after the kill", time.Since(began).Seconds())
	node.neverLost(t)
	w.twoReplicas(t)
}

// TestLeader_Stopped: the leader's pod is deleted, and then all replicas are exchanged. Meanwhile the API server asks about new pods ten
// times a second, and is always answered; pods that are to run away start, and no virtual node is lost.
func TestLeader_Stopped(t *testing.T) {
	w := newWorld(t)
	w.arrive(t)
	ns := w.strictNamespace(t)
	w.twoReplicas(t)
	node := w.watchNode(t)
	made := w.makePods(t, ns)

	leader := w.leader(t)
	began := time.Now()
	w.kube(t, "--context", homeName, "-n", lab.SpillwayNamespace, "delete", "pod", leader.Name, "--wait=false")
	eventually(t, time.Minute, "another replica leads", func(ctx context.Context) error { return w.another(ctx, leader.Name) })
	t.Logf("another replica leads %.2f s after the deletion", time.Since(began).Seconds())
	w.twoReplicas(t)

	w.kube(t, "--context", homeName, "-n", lab.SpillwayNamespace, "rollout", "restart", "deployment/spillway-controller")
	w.kube(t, "--context", homeName, "-n", lab.SpillwayNamespace, "rollout", "status", "deployment/spillway-controller", "--timeout", "2m")
	w.twoReplicas(t)
	made.noneMissed(t)
	node.neverLost(t)
}

// strictNamespace has a policy without whose webhook no pod is made.
func (w *world) strictNamespace(t *testing.T) string {
	t.Helper()
	ns := w.namespace(t, offloadable())
	policies, err := peeringclient.NewPolicies(w.home.Config())
	if err != nil {
		t.Fatal(err)
	}
	_, err = policies(ns).Create(t.Context(), &v1alpha1.OffloadPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "away", Namespace: ns},
		Spec:       v1alpha1.OffloadPolicySpec{Peers: []v1alpha1.PeerChoice{{Name: awayName}}, FailurePolicy: v1alpha1.FailurePolicyFail},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.start(t, ns, offloadedPod("before"))
	return ns
}

// twoReplicas waits until two replicas are ready and the third of an exchange is gone.
func (w *world) twoReplicas(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "two replicas are ready", func(ctx context.Context) error {
		list, err := w.home.kube.CoreV1().Pods(lab.SpillwayNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
		if err != nil {
			return err
		}
		for _, pod := range list.Items {
			if _, err := readyPod(ctx, w.home.kube, pod.Namespace, pod.Name); err != nil {
				return err
			}
		}
		if len(list.Items) != 2 {
			return fmt.Errorf("%d replicas", len(list.Items))
		}
		_, err = w.holder(ctx)
		return err
	})
}

// holder is the replica that leads; none is an error.
func (w *world) holder(ctx context.Context) (string, error) {
	lease, err := w.home.kube.CoordinationV1().Leases(lab.SpillwayNamespace).Get(ctx, v1alpha1.ControllerLease, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return "", fmt.Errorf("no replica leads")
	}
	return *lease.Spec.HolderIdentity, nil
}

func (w *world) another(ctx context.Context, than string) error {
	now, err := w.holder(ctx)
	if err == nil && now == than {
		err = fmt.Errorf("%s leads", now)
	}
	return err
}

func (w *world) leader(t *testing.T) *corev1.Pod {
	t.Helper()
	name, err := w.holder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pod, err := w.home.kube.CoreV1().Pods(lab.SpillwayNamespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// kill ends the process of a replica at once.
func (w *world) kill(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	const script = `for p in /proc/[0-9]*; do
  case "$(tr '\0' ' ' <$p/cmdline 2>/dev/null)" in "/spillwayd controller"*) tr '\0' '\n' <$p/environ | grep -qx "POD_NAME=$0" && kill -9 ${p#/proc/} && exit 0;; esac
done; exit 1`
	cmd, err := w.lab.RealNodes().Command(t.Context(), pod.Spec.NodeName, "sh", "-c", script, pod.Name)
	if err == nil {
		_, err = cmd.Output()
	}
	if err != nil {
		t.Fatalf("kill the process of %s on %s: %v", pod.Name, pod.Spec.NodeName, err)
	}
}

// nodeWatch remembers when the virtual node was not Ready.
type nodeWatch struct {
	mu   sync.Mutex
	lost []string // guarded by mu
	seen int      // guarded by mu
}

// watchNode looks at the virtual node until the test ends.
func (w *world) watchNode(t *testing.T) *nodeWatch {
	t.Helper()
	found, err := w.home.kube.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + virtualNode})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(found.Stop)
	n := &nodeWatch{}
	go func() {
		for event := range found.ResultChan() {
			node, ok := event.Object.(*corev1.Node)
			if !ok {
				continue
			}
			n.mu.Lock()
			n.seen++
			if i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady }); i < 0 || node.Status.Conditions[i].Status != corev1.ConditionTrue {
				n.lost = append(n.lost, fmt.Sprintf("%s: %+v", time.Now().Format(time.TimeOnly), node.Status.Conditions))
			}
			n.mu.Unlock()
		}
	}()
	return n
}

func (n *nodeWatch) neverLost(t *testing.T) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == 0 || len(n.lost) > 0 {
		t.Errorf("the virtual node was seen %d times, and not Ready %d times: %s", n.seen, len(n.lost), strings.Join(n.lost, "; "))
	}
}

// made are pods that are made without a pause.
type made struct {
	w    *world
	ns   string
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	asked   int                  // guarded by mu
	refused []string             // guarded by mu
	created map[string]time.Time // guarded by mu; by name
}

// makePods makes pods until noneMissed: every askedEvery one that is only tried, and every startedEvery one that is to start.
func (w *world) makePods(t *testing.T, ns string) *made {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	m := &made{w: w, ns: ns, stop: stop, done: make(chan struct{}), created: map[string]time.Time{}}
	t.Cleanup(stop)
	go func() {
		defer close(m.done)
		ticker := time.NewTicker(askedEvery)
		defer ticker.Stop()
		var all sync.WaitGroup
		defer all.Wait()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			start := i%int(startedEvery/askedEvery) == 0
			all.Go(func() { m.make(context.WithoutCancel(ctx), fmt.Sprintf("made-%d", i), start) })
		}
	}()
	return m
}

func (m *made) make(ctx context.Context, name string, start bool) {
	o := metav1.CreateOptions{}
	if !start {
		o.DryRun = []string{metav1.DryRunAll}
	}
	began := time.Now()
	_, err := m.w.home.kube.CoreV1().Pods(m.ns).Create(ctx, offloadedPod(name), o)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	switch {
	case err != nil:
		m.refused = append(m.refused, fmt.Sprintf("%s: %v", began.Format(time.TimeOnly), err))
	case start:
		m.created[name] = began
	}
}

// noneMissed stops, and fails the test when one was refused or does not start.
func (m *made) noneMissed(t *testing.T) {
	t.Helper()
	m.stop()
	<-m.done
	m.mu.Lock()
	defer m.mu.Unlock()
	t.Logf("%d pods were asked for, %d of them to start", m.asked, len(m.created))
	if len(m.refused) > 0 {
		t.Errorf("%d pods were refused:\n%s", len(m.refused), strings.Join(m.refused, "\n"))
	}
	var longest time.Duration
	for name, began := range m.created {
		var pod *corev1.Pod
		eventually(t, time.Minute, "pod "+name+" is Ready", func(ctx context.Context) (err error) {
			pod, err = readyPod(ctx, m.w.home.kube, m.ns, name)
			return err
		})
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady {
				longest = max(longest, c.LastTransitionTime.Sub(began.Truncate(time.Second)))
			}
		}
		if n := restarts(pod); n > 0 {
			t.Errorf("pod %s was restarted %d times", name, n)
		}
	}
	t.Logf("each was Ready within %s", longest)
}
