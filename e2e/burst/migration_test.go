package burst

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab/realnode"
	"github.com/spillway-dev/spillway/e2e/load"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	webPods       = 10
	rate          = 200
	leastRate     = rate * 3 / 4 // that must have been asked for a judgement to count
	oneMigration  = 3 * time.Minute
	rollbackAfter = time.Minute
)

// TestStagedMigration: a Deployment of 10 moves to the peer in three steps and comes home in one, while 200 requests per second go
// through its Service from a pod at home; then a gate that fails in the second step takes back what has moved. No request fails.
func TestStagedMigration(t *testing.T) {
	s := begin(t)
	address := s.service("web")
	s.deployment("web", webPods, server(draining))
	s.are(time.Minute, "web", webPods, 0)
	asked := s.ask("http://" + address + "/")

	began := time.Now()
	s.migrate("forward", v1alpha1.MigrationSpec{To: west(), Steps: []int32{10, 50, 100}, Gate: soaking(3 * time.Second)})
	s.phase("forward", oneMigration, v1alpha1.MigrationCompleted)
	s.are(duo.Soon, "web", 0, webPods)
	s.ever("web", webPods, webPods)
	s.noneFailed("forward", asked, began)
	s.allAnswered(asked, true)

	began = time.Now()
	s.migrate("home", v1alpha1.MigrationSpec{To: atHome(), Gate: soaking(time.Second), MaxConcurrent: ptr.To[int32](webPods / 2)})
	s.phase("home", oneMigration, v1alpha1.MigrationCompleted)
	s.are(duo.Soon, "web", webPods, 0)
	s.ever("web", 2*webPods, webPods)
	s.noneFailed("home", asked, began)
	s.allAnswered(asked, false)

	began = time.Now()
	s.failingGate()
	s.are(duo.Soon, "web", webPods, 0)
	// One pod went with the first step, four with the second, and all five came back.
	s.ever("web", 2*webPods+webPods/2, webPods+webPods/2)
	s.noneFailed("with a gate that fails", asked, began)
	s.allAnswered(asked, false)
}

// failingGate migrates with a gate that holds in the first step and fails from the second on, and waits until all is taken back.
func (s *scenario) failingGate() {
	s.Helper()
	var broken atomic.Bool
	var once sync.Once
	failed := make(chan time.Time, 1)
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			once.Do(func() { failed <- time.Now() })
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	s.Cleanup(gate.Close)
	holds := soaking(3 * time.Second)
	holds.HTTP = &v1alpha1.HTTPGate{URL: gate.URL + "/"}
	s.migrate("gated", v1alpha1.MigrationSpec{To: west(), Steps: []int32{10, 50, 100}, Gate: holds})
	s.eventually(oneMigration, "the second step begins", func(ctx context.Context) error {
		m, err := s.migrations.Get(ctx, "gated", metav1.GetOptions{})
		if err == nil && m.Status.Step < 2 {
			err = fmt.Errorf("its status is %+v", m.Status)
		}
		return err
	})
	broken.Store(true)
	var began time.Time
	select {
	case began = <-failed:
	case <-time.After(oneMigration):
		s.Fatal("nobody asks the gate in the second step")
	}
	m := s.phase("gated", rollbackAfter+10*time.Second, v1alpha1.MigrationRolledBack)
	s.are(rollbackAfter, "web", webPods, 0)
	if took := time.Since(began); took > rollbackAfter {
		s.Errorf("rolled back %s after the gate had failed, want %s at most", took, rollbackAfter)
	} else {
		s.Logf("rolled back %s after the gate had failed: %s", took.Round(10*time.Millisecond), m.Status.Message)
	}
	if c := conditionOf(m, v1alpha1.ConditionGateHolds); c == nil || c.Status != metav1.ConditionFalse {
		s.Errorf("the condition of the gate is %+v, want False", c)
	}
}

func soaking(d time.Duration) v1alpha1.MigrationGate {
	return v1alpha1.MigrationGate{Soak: &metav1.Duration{Duration: d}}
}

// migrate makes a Migration; what it moves is Deployment web unless it says so.
func (s *scenario) migrate(name string, spec v1alpha1.MigrationSpec) {
	s.Helper()
	if spec.Workloads.Names == nil {
		spec.Workloads.Names = []v1alpha1.WorkloadName{{Kind: v1alpha1.WorkloadDeployment, Name: "web"}}
	}
	_, err := s.migrations.Create(s.Context(), &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns}, Spec: spec}, metav1.CreateOptions{})
	s.check(err)
}

// phase waits until a Migration has ended in this phase.
func (s *scenario) phase(name string, within time.Duration, want v1alpha1.MigrationPhase) *v1alpha1.Migration {
	s.Helper()
	var m *v1alpha1.Migration
	final := []v1alpha1.MigrationPhase{v1alpha1.MigrationRefused, v1alpha1.MigrationRolledBack, v1alpha1.MigrationCompleted, v1alpha1.MigrationPaused}
	s.eventually(within, fmt.Sprintf("Migration %s is %s", name, want), func(ctx context.Context) (err error) {
		if m, err = s.migrations.Get(ctx, name, metav1.GetOptions{}); err != nil || slices.Contains(final, m.Status.Phase) {
			return err
		}
		return fmt.Errorf("it is %s, share %d, moved %s: %s", m.Status.Phase, m.Status.Share, m.Status.Moved, m.Status.Message)
	})
	if m.Status.Phase != want {
		s.Fatalf("Migration %s is %s, want %s: %s", name, m.Status.Phase, want, m.Status.Message)
	}
	return m
}

func conditionOf(m *v1alpha1.Migration, kind string) *metav1.Condition {
	for i := range m.Status.Conditions {
		if m.Status.Conditions[i].Type == kind {
			return &m.Status.Conditions[i]
		}
	}
	return nil
}

// ask has a pod at home ask a URL 200 times per second until the test is over.
func (s *scenario) ask(url string) *load.Tally {
	s.Helper()
	tally := &load.Tally{}
	spec := corev1.PodSpec{TerminationGracePeriodSeconds: ptr.To[int64](3), Containers: []corev1.Container{{
		Name: "app", Image: realnode.AppImage, ImagePullPolicy: corev1.PullNever, Args: []string{"load", url, fmt.Sprint(rate), "5s"},
	}}}
	pods := s.Home.CoreV1().Pods(s.ns)
	_, err := pods.Create(s.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "client", Labels: labelled("client")}, Spec: spec}, metav1.CreateOptions{})
	s.check(err)
	s.are(duo.Soon, "client", 1, 0)
	lines, err := pods.GetLogs("client", &corev1.PodLogOptions{Follow: true}).Stream(context.Background())
	s.check(err)
	var read sync.WaitGroup
	read.Go(func() { _, _ = io.Copy(tally, lines) }) // a test that finds no more seconds says so
	s.Cleanup(func() { _ = lines.Close(); read.Wait() })
	s.eventually(duo.Soon, "the requests begin", func(context.Context) error {
		if sum := tally.Since(time.Time{}); sum.Seconds < 3 {
			return fmt.Errorf("after %s", sum)
		}
		return nil
	})
	return tally
}

// noneFailed waits until all requests of this moment are known, and fails the test when one failed since began, or when there were
// too few to judge by.
func (s *scenario) noneFailed(what string, asked *load.Tally, began time.Time) {
	s.Helper()
	now := time.Now()
	s.eventually(duo.Soon, "the requests are counted", func(context.Context) error {
		if last := asked.Last(); last.Before(now.Add(3 * time.Second)) { // a request fails after 2 s
			return fmt.Errorf("the last second that is known ended at %s", last)
		}
		return nil
	})
	sum := asked.Since(began)
	s.Logf("%s: %s", what, sum)
	if sum.Failed > 0 {
		s.Errorf("%s: %d requests failed", what, sum.Failed)
	}
	if sum.Rate() < leastRate {
		s.Errorf("%s: %.0f requests per second were made, want %d: too few to judge by", what, sum.Rate(), rate)
	}
}

// allAnswered fails the test unless every pod of web, and no other, has answered in the last seconds, from the cluster it is in.
func (s *scenario) allAnswered(asked *load.Tally, away bool) {
	s.Helper()
	sum := asked.Since(time.Now().Add(-2500 * time.Millisecond))
	want := map[string]bool{}
	for _, l := range s.trail.Of("web") {
		if l.Gone.IsZero() {
			want[l.Name] = true
		}
		if l.Gone.IsZero() && l.Away() != away {
			s.Errorf("pod %s is on node %s", l.Name, l.Node)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sum.Pods)) {
		if !want[name] {
			s.Errorf("%q, which is no pod of web any more, has answered %d requests", name, sum.Pods[name])
		}
		delete(want, name)
	}
	if len(want) > 0 {
		s.Errorf("%s have not answered: %v", strings.Join(slices.Sorted(maps.Keys(want)), ", "), sum)
	}
	for node := range sum.Nodes {
		if strings.Contains(node, duo.West) != away {
			s.Errorf("answers came from node %s: %v", node, sum)
		}
	}
}
