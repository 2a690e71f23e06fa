package install

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/spillway-dev/spillway/charts"
	"github.com/spillway-dev/spillway/e2e/lab"
)

// TestUpgrade: while 200 requests per second go from a pod at home to a Service whose pods run away, Spillway is upgraded in one cluster
// after the other and then rolled back in both. No request fails, no offloaded pod is restarted, and all of Spillway's pods are new each
// time.
//
// Both versions are made of this checkout: what the test shows is that the exchange itself hurts nobody, and that clusters of two
// versions talk to each other. What differs between releases it cannot show.
func TestUpgrade(t *testing.T) {
	w := newWorld(t)
	w.arrive(t)
	next := w.release(t)
	ns := w.namespace(t, offloadable())
	url := w.offloadedService(t, ns, 3)
	twins := w.twins(t, ns)
	asked := w.ask(t, ns, url)
	for _, step := range []struct {
		of   *side
		to   string
		args []string
	}{
		{w.home, next.version, []string{"upgrade", "--chart", next.chart}},
		{w.away, next.version, []string{"upgrade", "--chart", next.chart}},
		{w.away, w.version, []string{"rollback"}},
		{w.home, w.version, []string{"rollback"}},
	} {
		what := fmt.Sprintf("%s of %s to %s", step.args[0], step.of.Name(), step.to)
		old, began := step.of.spillwayPods(t), time.Now()
		out, err := w.command(t.Context(), next.cli, append(step.args, "--context", step.of.Name())...)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s took %s:\n%s", what, time.Since(began).Round(100*time.Millisecond), out)
		step.of.allRun(t, step.to, old)
		w.tunnelIsUp(t)
		asked.noneFailed(t, what, began)
		if now := w.twins(t, ns); !maps.Equal(now, twins) {
			t.Errorf("%s: the offloaded pods were %v and are %v", what, twins, now)
		}
	}
}

// release is a version of Spillway that can be installed.
type release struct {
	version string
	cli     string // the program
	chart   string // folder
}

// release makes the version after the world's: the programs of this checkout, built with that version, and its chart, which says so.
// The image is on all nodes.
func (w *world) release(t *testing.T) release {
	t.Helper()
	now, err := version.ParseSemantic(w.version)
	if err != nil {
		t.Fatal(err)
	}
	next := now.WithMinor(now.Minor() + 1).WithPatch(0).String()
	folder := t.TempDir()
	if err := build(t.Context(), next, folder); err != nil {
		t.Fatal(err)
	}
	if err := w.load(t.Context(), next, filepath.Join(folder, "spillwayd")); err != nil {
		t.Fatal(err)
	}
	chart := filepath.Join(folder, "chart")
	if err := os.CopyFS(chart, charts.Spillway()); err != nil {
		t.Fatal(err)
	}
	text, err := fs.ReadFile(charts.Spillway(), "Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^(version|appVersion):.*$`).ReplaceAll(text, []byte("$1: "+next))
	if err := os.WriteFile(filepath.Join(chart, "Chart.yaml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	return release{version: next, cli: filepath.Join(folder, "spillway"), chart: chart}
}

// podsOfSpillway has the pods of the controller and of the agents in one cluster, by UID.
type podsOfSpillway map[types.UID]corev1.Pod

func (s *side) listSpillwayPods(ctx context.Context) (podsOfSpillway, error) {
	found := podsOfSpillway{}
	for _, namespace := range []string{lab.SpillwayNamespace, lab.AgentNamespace} {
		list, err := s.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=spillway"})
		if err != nil {
			return nil, err
		}
		for _, pod := range list.Items {
			found[pod.UID] = pod
		}
	}
	return found, nil
}

func (s *side) spillwayPods(t *testing.T) podsOfSpillway {
	t.Helper()
	found, err := s.listSpillwayPods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// allRun waits until the old pods are gone, and fails the test unless the new ones are of this version.
func (s *side) allRun(t *testing.T, want string, old podsOfSpillway) {
	t.Helper()
	var now podsOfSpillway
	eventually(t, time.Minute, "the pods of Spillway before are gone from "+s.Name(), func(ctx context.Context) (err error) {
		if now, err = s.listSpillwayPods(ctx); err != nil {
			return err
		}
		for uid, pod := range now {
			if _, was := old[uid]; was {
				return fmt.Errorf("pod %s is still there", pod.Name)
			}
		}
		return nil
	})
	if len(now) != len(old) {
		t.Errorf("%s has %d pods of Spillway, and had %d", s.Name(), len(now), len(old))
	}
	for _, pod := range now {
		if image := pod.Spec.Containers[0].Image; !strings.HasSuffix(image, ":"+want) {
			t.Errorf("pod %s of %s runs %s, want version %s", pod.Name, s.Name(), image, want)
		}
		if n := restarts(&pod); n > 0 {
			t.Errorf("pod %s of %s was restarted %d times", pod.Name, s.Name(), n)
		}
	}
}

func restarts(pod *corev1.Pod) (n int32) {
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		n += c.RestartCount
	}
	return n
}

// life tells an offloaded pod from one that took its place, at home or away, and from itself before a restart.
type life struct {
	home, away types.UID
	node       string // at away
	restarts   int32
}

// twins has the offloaded pods of a namespace by name.
func (w *world) twins(t *testing.T, namespace string) map[string]life {
	t.Helper()
	away, err := w.away.kube.CoreV1().Pods(w.remote(t, namespace)).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]life{}
	for _, pod := range away.Items {
		local, err := w.home.kube.CoreV1().Pods(namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		found[pod.Name] = life{local.UID, pod.UID, pod.Spec.NodeName, restarts(&pod)}
	}
	return found
}
