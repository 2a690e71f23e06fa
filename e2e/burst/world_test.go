package burst

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/e2e/trail"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

// shared is the world of all tests: starting one takes longer than most of them.
var shared struct {
	sync.Once
	duo *duo.Duo
	dir string
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.duo != nil {
		if err := shared.duo.Down(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	_ = os.RemoveAll(shared.dir)
	os.Exit(code)
}

// scenario is one test, with a namespace of its own at home.
type scenario struct {
	*testing.T
	*duo.Duo
	ns         string
	trail      *trail.Trail
	policies   peeringclient.Policies
	migrations peeringclient.Migrations
}

// begin returns a scenario on the shared world. Its namespace has no label: what may leave is said by policies and Migrations.
func begin(t *testing.T) *scenario {
	t.Helper()
	if missing := duo.Missing(); len(missing) > 0 {
		t.Skip("real nodes cannot run here: " + strings.Join(missing, "; "))
	}
	shared.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "spillway-burst-"); shared.err == nil {
			shared.duo, shared.err = duo.Start(context.Background(), duo.Options{Dir: shared.dir, Root: "../..", Tunnel: true, Progress: os.Stderr})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	s := &scenario{T: t, Duo: shared.duo, ns: strings.ToLower(t.Name())}
	config := s.Lab.Cluster(duo.East).Config()
	policies, err := peeringclient.NewPolicies(config)
	s.check(err)
	migrations, err := peeringclient.NewMigrations(config)
	s.check(err)
	s.policies, s.migrations = policies(s.ns), migrations(s.ns)
	s.namespace()
	s.follow()
	t.Cleanup(func() { // the first to run: everything is still there
		if t.Failed() {
			t.Log(s.explain())
		}
	})
	return s
}

func (s *scenario) namespace() {
	s.Helper()
	namespaces := s.Home.CoreV1().Namespaces()
	_, err := namespaces.Create(s.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.ns}}, metav1.CreateOptions{})
	s.check(err)
	s.Cleanup(func() { _ = namespaces.Delete(context.Background(), s.ns, metav1.DeleteOptions{}) })
	s.eventually(duo.Soon, "namespace "+s.ns+" is usable", func(ctx context.Context) error {
		_, err := s.Home.CoreV1().ServiceAccounts(s.ns).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// open lets pods of the namespace leave without a policy.
func (s *scenario) open() {
	s.Helper()
	_, err := s.Home.CoreV1().Namespaces().Patch(s.Context(), s.ns, types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, v1alpha1.LabelOffload, v1alpha1.OffloadEnabled), metav1.PatchOptions{})
	s.check(err)
}

// follow writes down what becomes of the pods of the namespace, until the test is over.
func (s *scenario) follow() {
	s.Helper()
	s.trail = trail.New(s.Home, s.ns)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { s.trail.Run(ctx) })
	s.Cleanup(func() { cancel(); done.Wait() })
	select {
	case <-s.trail.Synced():
	case <-time.After(duo.Soon):
		s.Fatal("the watch of the pods does not start")
	}
}

// explain tells all that is known of the scenario's namespace, and the last words of spillwayd.
func (s *scenario) explain() string {
	text := s.trail.String() + trail.Explain(context.Background(), s.Lab.Cluster(duo.East).Config(), s.ns)
	for _, cluster := range []string{duo.East, duo.West} {
		log, _ := os.ReadFile(s.Lab.Cluster(cluster).Component(lab.Spillwayd).Log())
		lines := strings.Split(strings.TrimSpace(string(log)), "\n")
		text += fmt.Sprintf("the end of the log of spillwayd in %s:\n%s\n", cluster, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
	return text
}

// check fails the test on an error.
func (s *scenario) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// eventually waits until holds returns nil, and returns how long that took.
func (s *scenario) eventually(within time.Duration, what string, holds func(context.Context) error) time.Duration {
	s.Helper()
	began := time.Now()
	if err := duo.Until(s.Context(), within, holds); err != nil {
		s.Fatalf("%s: %v", what, err)
	}
	took := time.Since(began)
	s.Logf("%s: after %s", what, took.Round(10*time.Millisecond))
	return took
}

// always fails the test when holds returns an error before the time is over.
func (s *scenario) always(during time.Duration, what string, holds func() error) {
	s.Helper()
	var broken error
	_ = duo.Until(s.Context(), during, func(context.Context) error {
		if broken = holds(); broken == nil {
			return errors.New("not over")
		}
		return nil
	})
	if broken != nil {
		s.Fatalf("%s: %v", what, broken)
	}
}

// are waits until an app has these Ready pods at home and in the peer, and no others: none that waits, begins or ends.
func (s *scenario) are(within time.Duration, app string, home, away int) time.Duration {
	s.Helper()
	return s.eventually(within, fmt.Sprintf("%d pods of %s at home, %d in the peer, all Ready", home, app, away), func(context.Context) error {
		return s.exactly(app, home, away)
	})
}

func (s *scenario) exactly(app string, home, away int) error {
	if h, a, others := s.trail.Now(app); h != home || a != away || others > 0 {
		return fmt.Errorf("%d Ready pods of %s are at home and %d in the peer, want %d and %d; %d others wait, begin or end", h, app, a, home, away, others)
	}
	return nil
}

// ever fails the test unless there were, over all the time, this many pods of an app at home and in the peer, and none without a node.
// Each move makes one pod, so it says whether one moved twice, or for nothing.
func (s *scenario) ever(app string, home, away int) {
	s.Helper()
	if made, h, a := s.trail.Count(app); made != home+away || h != home || a != away {
		s.Errorf("of %s there were %d pods in all, %d at home and %d in the peer; want %d: %d and %d", app, made, h, a, home+away, home, away)
	}
}

// scale sets the replicas of a Deployment.
func (s *scenario) scale(name string, replicas int) {
	s.Helper()
	_, err := s.Home.AppsV1().Deployments(s.ns).Patch(s.Context(), name, types.MergePatchType,
		fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas), metav1.PatchOptions{})
	s.check(err)
}

// cordon says whether the scheduler may use a node.
func (s *scenario) cordon(node string, on bool) {
	s.Helper()
	_, err := s.Home.CoreV1().Nodes().Patch(s.Context(), node, types.StrategicMergePatchType,
		fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, on), metav1.PatchOptions{})
	s.check(err)
}

// spillway runs the command for people at home, and fails the test when it does not succeed.
func (s *scenario) spillway(args ...string) {
	s.Helper()
	out, err := s.Duo.Spillway(s.Context(), append(args, "--context", duo.East)...)
	s.Logf("spillway %s:\n%s", strings.Join(args, " "), out)
	if err != nil {
		s.Fatalf("spillway %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// kubectl does the same with kubectl.
func (s *scenario) kubectl(args ...string) {
	s.Helper()
	path, err := lab.Binary(s.Context(), "kubectl", os.Stderr)
	s.check(err)
	cmd := exec.CommandContext(s.Context(), path, append(args, "--context", duo.East)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Lab.Kubeconfig())
	out, err := cmd.CombinedOutput()
	s.Logf("kubectl %s:\n%s", strings.Join(args, " "), out)
	if err != nil {
		s.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// west is where pods overflow and migrate to.
func west() v1alpha1.Destination { return v1alpha1.Destination{Peer: duo.West} }

// atHome is where they come back to.
func atHome() v1alpha1.Destination { return v1alpha1.Destination{Home: true} }
