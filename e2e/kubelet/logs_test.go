package kubelet

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/e2e/duo"
)

// logs: each way of asking gives what the provider's API server gives.
func (w *world) logs(t *testing.T) {
	stamp, _, _ := strings.Cut(w.said(t)[5], " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		t.Fatal(err)
	}
	since := metav1.NewTime(at.Add(time.Second))
	for name, row := range map[string]struct {
		pod  string
		o    corev1.PodLogOptions
		want string // in it
	}{
		"all of it":      {"talker", corev1.PodLogOptions{Container: "lines"}, "00001999"},
		"tail":           {"talker", corev1.PodLogOptions{Container: "lines", TailLines: ptr.To(int64(10))}, "00001990"},
		"tail of none":   {"talker", corev1.PodLogOptions{Container: "lines", TailLines: ptr.To(int64(0))}, ""},
		"timestamps":     {"talker", corev1.PodLogOptions{Container: "lines", Timestamps: true}, "Z 00000000"},
		"bytes":          {"talker", corev1.PodLogOptions{Container: "lines", LimitBytes: ptr.To(int64(1234))}, "00000011"},
		"init container": {"talker", corev1.PodLogOptions{Container: "first"}, "line 3\n"},
		"previous":       {"again", corev1.PodLogOptions{Previous: true}, `env:WHO "again"`},
		"after previous": {"again", corev1.PodLogOptions{}, ""},
		"since, cut":     {"talker", corev1.PodLogOptions{Container: "ticks", SinceTime: &since, LimitBytes: ptr.To(int64(500)), Timestamps: true}, "line "},
	} {
		t.Run(name, func(t *testing.T) {
			here, err := w.home.log(t.Context(), row.pod, &row.o)
			if err != nil {
				t.Fatal(err)
			}
			there, err := w.away.log(t.Context(), row.pod, &row.o)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(here, row.want) {
				t.Errorf("no %q in %.200q", row.want, here)
			}
			if diff := cmp.Diff(there, here); diff != "" {
				t.Errorf("-provider +home:\n%.2000s", diff)
			}
		})
	}
	t.Run("previous of the first", func(t *testing.T) {
		w.sameLogError(t, "talker", corev1.PodLogOptions{Container: "ticks", Previous: true})
	})
	t.Run("no such container", func(t *testing.T) { w.sameLogError(t, "talker", corev1.PodLogOptions{Container: "none"}) })
	t.Run("since seconds", w.logsSince)
	t.Run("all containers", w.logsOfAll)
	t.Run("follow", w.follow)
}

// said waits until enough is in the logs, and gives the lines of the container that ticks.
func (w *world) said(t *testing.T) (lines []string) {
	t.Helper()
	const ticks = 60 // of which 20 are made in a second
	err := duo.Until(t.Context(), soon, func(ctx context.Context) error {
		all, err := w.away.log(ctx, "talker", &corev1.PodLogOptions{Container: "lines"})
		if err != nil || !strings.Contains(all, "00001999") {
			return fmt.Errorf("not all lines are there: %v", err)
		}
		stamped, err := w.away.log(ctx, "talker", &corev1.PodLogOptions{Container: "ticks", Timestamps: true})
		if lines = strings.Split(stamped, "\n"); err != nil || len(lines) < ticks {
			return fmt.Errorf("%d ticks, want %d: %v", len(lines), ticks, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// sameLogError: what cannot be is refused in the same words, but for the name of the namespace.
func (w *world) sameLogError(t *testing.T, pod string, o corev1.PodLogOptions) {
	var said []string
	for _, e := range w.ends() {
		text, err := e.log(t.Context(), pod, &o)
		if err == nil {
			t.Fatalf("%s answers %.100q", e.name, text)
		}
		said = append(said, strings.ReplaceAll(err.Error()+" "+text, e.namespace, "NAMESPACE"))
	}
	if said[0] != said[1] {
		t.Errorf("home says\n%s\nthe provider\n%s", said[0], said[1])
	}
}

func (w *world) logsSince(t *testing.T) {
	lately, err := w.home.log(t.Context(), "talker", &corev1.PodLogOptions{Container: "ticks", SinceSeconds: ptr.To(int64(1))})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(lately, "\n"); n == 0 || n > 60 {
		t.Errorf("%d lines in a second, 20 are made", n)
	}
}

// logsOfAll asks as people do. kubectl prints the containers in any order, and other parts write into them for a while.
func (w *world) logsOfAll(t *testing.T) {
	err := duo.Until(t.Context(), soon, func(context.Context) error {
		var said [][]string
		for _, e := range w.ends() {
			out, err := w.kubectl(t, e, "logs", "tool", "--all-containers", "--prefix", "--tail=5").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", e.name, err, out)
			}
			lines := strings.Split(string(out), "\n")
			slices.SortStableFunc(lines, func(a, b string) int {
				return strings.Compare(strings.SplitAfter(a, "]")[0], strings.SplitAfter(b, "]")[0])
			})
			said = append(said, lines)
		}
		if diff := cmp.Diff(said[1], said[0]); diff != "" {
			return fmt.Errorf("-provider +home:\n%s", diff)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// follow: lines come while they are made, a container that ends ends the stream, and who goes away is forgotten.
func (w *world) follow(t *testing.T) {
	pods := w.Home.CoreV1().Pods(namespace)
	p := pod("brief", container("main", "log", "40", "50ms"))
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	if _, err := pods.Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func(ctx context.Context) error {
		p, err := pods.Get(ctx, "brief", metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodRunning && p.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("it is %s", p.Status.Phase)
		}
		return err
	})
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	all, err := w.home.log(ctx, "brief", &corev1.PodLogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(all, "\n"); n != 40 || !strings.HasSuffix(all, "line 40\n") {
		t.Errorf("%d lines of 40: %q", n, all)
	}
	lines, err := w.home.kube.CoreV1().Pods(namespace).
		GetLogs("talker", &corev1.PodLogOptions{Container: "ticks", Follow: true, TailLines: ptr.To(int64(1))}).Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	began := time.Now()
	for in, n := bufio.NewScanner(lines), 0; n < 21; n++ {
		if !in.Scan() {
			t.Fatalf("it ends after %d lines: %v", n, in.Err())
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("20 lines took %s, they are made in one second", took)
	}
}
