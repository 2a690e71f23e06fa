package kubelet

import (
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/tools/remotecommand"

	"github.com/google/go-cmp/cmp"
)

// clients: when the client of an exec ends, by Ctrl-C or killed, what it ran goes on or ends exactly as with the provider directly.
func (w *world) clients(t *testing.T) {
	var marks [2][]string // by end: each way a client can go
	for i, e := range w.ends() {
		for _, run := range []struct {
			what  string
			flags []string
			args  []string
		}{
			{"that reads", []string{"-i"}, []string{"copy"}},
			{"that does not", nil, []string{"sleep", "60s"}},
		} {
			for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
				mark := fmt.Sprintf("%s-%s-%s", strings.ReplaceAll(run.what, " ", "-"), signal, e.name)
				args := append(append([]string{"exec", "tool", "-c", "main"}, run.flags...), "--", "/app")
				w.endClient(t, e, append(append(args, run.args...), strings.ReplaceAll(mark, " ", "-")), signal)
				marks[i] = append(marks[i], strings.ReplaceAll(mark, " ", "-"))
			}
		}
		w.leaveTerminal(t, e, "at-a-terminal-"+e.name)
		marks[i] = append(marks[i], "at-a-terminal-"+e.name)
	}
	// A reader has its end of input. What has a terminal or reads nothing is told by nobody that the client is gone.
	eventually(t, soon, func(ctx context.Context) error {
		running, err := w.away.output(ctx, "ps")
		if err != nil {
			return err
		}
		if strings.Contains(running, "that-reads") {
			return fmt.Errorf("still there: %s", running)
		}
		return nil
	})
	var went [2][]bool
	running, err := w.away.output(t.Context(), "ps")
	if err != nil {
		t.Fatal(err)
	}
	for i := range marks {
		for _, mark := range marks[i] {
			went[i] = append(went[i], strings.Contains(running, mark))
		}
	}
	if diff := cmp.Diff(went[1], went[0]); diff != "" {
		t.Errorf("still running (%v): -provider +home:\n%s", marks[0], diff)
	}
}

// endClient runs kubectl until its last argument is among the container's processes, and ends it.
func (w *world) endClient(t *testing.T, e end, args []string, signal syscall.Signal) {
	t.Helper()
	cmd := w.kubectl(t, e, args...)
	in, typed := io.Pipe() // nobody types, and there is no end
	defer typed.Close()
	cmd.Stdin = in
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.shows(t, args[len(args)-1])
	if err := cmd.Process.Signal(signal); err != nil {
		t.Error(err)
	}
	_ = typed.Close()
	if err := cmd.Wait(); err == nil {
		t.Errorf("kubectl %v has ended well", args)
	}
}

// leaveTerminal goes away from a program with a terminal.
func (w *world) leaveTerminal(t *testing.T, e end, mark string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, typed := io.Pipe()
	defer typed.Close()
	done := make(chan error, 1)
	go func() {
		done <- e.run(ctx, webSocket, "tool", "main", remotecommand.StreamOptions{Stdin: in, Stdout: io.Discard, Tty: true}, "copy", mark)
	}()
	w.shows(t, mark)
	cancel()
	_ = ended(done, soon) // by our own doing
}

// shows waits until the container has a process with that in its command line.
func (w *world) shows(t *testing.T, mark string) {
	t.Helper()
	eventually(t, soon, func(ctx context.Context) error {
		running, err := w.away.output(ctx, "ps")
		if err == nil && !strings.Contains(running, mark) {
			err = fmt.Errorf("no %s in %s", mark, running)
		}
		return err
	})
}
