package kubelet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab"
)

const (
	follows, execs = 200, 50
	// mostRSS of spillwayd while all of these are open.
	mostRSS = 150 << 20
	// slack is for what watches and renewals have open by chance.
	slack = 12
	// atOnce is how many streams are on their way to be open at the same time: a handshake of each has to be done in 3 s.
	atOnce = 40
)

// load is streams that are all open.
type load struct {
	count  int
	ends   chan error // one per stream
	cancel context.CancelFunc
}

// open starts streams and waits until each has brought something. They go on until cancel.
func (w *world) open(t *testing.T, follows, execs int) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	l := &load{count: follows + execs, ends: make(chan error, follows+execs), cancel: cancel}
	alive := make(chan struct{}, l.count)
	begin := func(n int) {
		if n < follows {
			go func() { l.ends <- w.followOne(ctx, alive) }()
		} else if n < l.count {
			go func() { l.ends <- w.execOne(ctx, alive) }()
		}
	}
	for n := range atOnce {
		begin(n)
	}
	late := time.NewTimer(2 * soon)
	defer late.Stop()
	for n := range l.count {
		select {
		case <-alive:
			begin(n + atOnce)
		case err := <-l.ends:
			t.Fatalf("a stream of %d has ended after %d were open: %v", l.count, n, err)
		case <-late.C:
			t.Fatalf("only %d of %d streams are open after %s", n, l.count, 2*soon)
		}
	}
	return l
}

// wait until all streams have ended, whatever they say.
func (l *load) wait(t *testing.T, within time.Duration) {
	t.Helper()
	late := time.NewTimer(within)
	defer late.Stop()
	for n := range l.count {
		select {
		case <-l.ends:
		case <-late.C:
			t.Fatalf("%d of %d streams have not ended after %s", l.count-n, l.count, within)
		}
	}
}

func (w *world) followOne(ctx context.Context, alive chan<- struct{}) error {
	lines, err := w.Home.CoreV1().Pods(namespace).
		GetLogs("talker", &corev1.PodLogOptions{Container: "ticks", Follow: true, TailLines: ptr.To(int64(1))}).Stream(ctx)
	if err != nil {
		return err
	}
	defer lines.Close()
	in := bufio.NewScanner(lines)
	for first := true; in.Scan(); first = false {
		if first {
			alive <- struct{}{}
		}
	}
	return errors.Join(in.Err(), io.EOF)
}

// first tells of the first bytes.
type first struct{ alive chan<- struct{} }

func (f *first) Write(p []byte) (int, error) {
	if f.alive != nil {
		f.alive <- struct{}{}
		f.alive = nil
	}
	return len(p), nil
}

func (w *world) execOne(ctx context.Context, alive chan<- struct{}) error {
	in, typed := io.Pipe()
	defer in.Close()
	go func() { _, _ = io.WriteString(typed, "there\n") }() // it ends with the pipe
	err := w.home.run(ctx, webSocket, "tool", "main", remotecommand.StreamOptions{Stdin: in, Stdout: &first{alive}, Stderr: io.Discard}, "copy")
	return errors.Join(err, io.EOF)
}

// left is what streams could leave open in spillwayd.
type left struct{ goroutines, descriptors int }

func (w *world) leftNow(ctx context.Context) (left, error) {
	var l left
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.debug[duo.East]+"/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		return l, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return l, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return l, err
	}
	if _, err := fmt.Sscanf(string(text), "goroutine profile: total %d", &l.goroutines); err != nil {
		return l, fmt.Errorf("%w in %.100q", err, text)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.consumer().PID()))
	l.descriptors = len(files)
	return l, err
}

// manyStreams: 200 follow logs and 50 execs at once fit into the memory that is promised, and leave nothing.
func (w *world) manyStreams(t *testing.T) {
	before, err := w.leftNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	l := w.open(t, follows, execs)
	t.Logf("open after %s", time.Since(began).Round(100*time.Millisecond))
	during, err := w.leftNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	usage, err := w.consumer().Usage()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("RSS %d MiB, goroutines %d → %d, descriptors %d → %d", usage.RSS>>20, before.goroutines, during.goroutines, before.descriptors, during.descriptors)
	if usage.RSS > mostRSS {
		t.Errorf("spillwayd has %d MiB of RSS, %d at most", usage.RSS>>20, mostRSS>>20)
	}
	l.cancel()
	l.wait(t, soon)
	eventually(t, soon, func(ctx context.Context) error {
		now, err := w.leftNow(ctx)
		if err == nil && (now.goroutines > before.goroutines+slack || now.descriptors > before.descriptors+slack) {
			err = fmt.Errorf("goroutines %d, were %d; descriptors %d, were %d", now.goroutines, before.goroutines, now.descriptors, before.descriptors)
		}
		return err
	})
}

// killed: streams end as when a kubelet dies, and new ones work after its restart.
func (w *world) killed(t *testing.T) {
	l := w.open(t, 25, 25)
	home := w.Lab.Cluster(duo.East)
	if err := home.Kill(t.Context(), lab.Spillwayd); err != nil {
		t.Fatal(err)
	}
	l.wait(t, 5*time.Second)
	began := time.Now()
	if err := home.Restart(t.Context(), lab.Spillwayd); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func(ctx context.Context) error {
		said, err := w.home.output(ctx, "say", "again", "", "0")
		if err == nil && said != "again\n" {
			err = fmt.Errorf("it says %q", said)
		}
		return err
	})
	t.Logf("an exec works %s after the restart", time.Since(began).Round(100*time.Millisecond))
	w.open(t, 5, 5).cancel()
}

// unreachable: while the way to the peer is cut, whoever asks is told so, and by whom nothing is heard.
func (w *world) unreachable(t *testing.T) {
	link := w.Lab.Cluster(duo.West).Link()
	for _, mode := range []lab.CutMode{lab.Refuse, lab.Blackhole} {
		t.Run(string(mode), func(t *testing.T) {
			if err := link.Cut(mode); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := link.Restore(); err != nil {
					t.Error(err)
				}
				eventually(t, soon, func(ctx context.Context) error {
					_, err := w.home.output(ctx, "true")
					return err
				})
			}()
			for what, ask := range map[string]func(context.Context) error{
				"logs": func(ctx context.Context) error {
					text, err := w.home.log(ctx, "talker", &corev1.PodLogOptions{Container: "lines", TailLines: ptr.To(int64(1))})
					return withText(err, text)
				},
				"exec": func(ctx context.Context) error {
					_, err := w.home.output(ctx, "true")
					return err
				},
				"exec by SPDY": func(ctx context.Context) error {
					return w.home.run(ctx, spdyOld, "tool", "main", remotecommand.StreamOptions{Stdout: io.Discard}, "true")
				},
			} {
				t.Run(what, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), soon)
					defer cancel()
					began := time.Now()
					err := ask(ctx)
					switch took := time.Since(began); {
					case err == nil:
						t.Error("it works")
					case took > 5*time.Second:
						t.Errorf("the answer took %s: %v", took, err)
					case !strings.Contains(err.Error(), duo.West):
						t.Errorf("the answer does not name the peer: %v", err)
					default:
						t.Logf("after %s: %v", took.Round(time.Millisecond), err)
					}
				})
			}
		})
	}
}

func withText(err error, text string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", err, text)
}
