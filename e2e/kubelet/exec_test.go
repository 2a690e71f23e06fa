package kubelet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
)

const much = 64 << 20

func (w *world) exec(t *testing.T) {
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) {
			t.Run("outputs and exit code", func(t *testing.T) { w.exitCodes(t, protocol) })
			t.Run("terminal", func(t *testing.T) { w.terminal(t, protocol) })
			t.Run("half-close", func(t *testing.T) { w.halfClose(t, protocol) })
			t.Run("64 MiB in", func(t *testing.T) { w.muchIn(t, protocol) })
			t.Run("64 MiB out", func(t *testing.T) { w.muchOut(t, protocol) })
		})
	}
}

func (w *world) exitCodes(t *testing.T, protocol string) {
	for _, code := range []string{"0", "3", "255"} {
		var said []string
		for _, e := range w.ends() {
			var out, wrong bytes.Buffer
			err := e.run(t.Context(), protocol, "tool", "main", remotecommand.StreamOptions{Stdout: &out, Stderr: &wrong}, "say", "yes", "no", code)
			if out.String() != "yes\n" || wrong.String() != "no\n" {
				t.Errorf("%s: out %q, err %q", e.name, out.String(), wrong.String())
			}
			var exit utilexec.CodeExitError
			if (err == nil) != (code == "0") || err != nil && !errors.As(err, &exit) {
				t.Errorf("%s: exit %s gives %v", e.name, code, err)
			}
			said = append(said, errorText(err))
		}
		if said[0] != said[1] {
			t.Errorf("home says %q, the provider %q", said[0], said[1])
		}
	}
	var said []string
	for _, e := range w.ends() {
		x, err := e.executor(protocol, withoutApp(e))
		if err != nil {
			t.Fatal(err)
		}
		err = x.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard})
		if err == nil {
			t.Fatalf("%s: a program that is not there runs", e.name)
		}
		said = append(said, withoutID(errorText(err)))
	}
	if said[0] != said[1] {
		t.Errorf("of a program that is not there home says\n%s\nthe provider\n%s", said[0], said[1])
	}
}

// withoutApp asks for a program that is not in the image.
func withoutApp(e end) *url.URL {
	return e.url("tool", "exec", &corev1.PodExecOptions{Container: "main", Command: []string{"/none"}, Stdout: true, Stderr: true})
}

// withoutID blots out what is another each time: ids of containers and of the exec.
func withoutID(text string) string {
	return regexp.MustCompile(`[0-9a-f]{64}`).ReplaceAllString(text, "ID")
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// terminal: its size follows, what is typed arrives, and it ends with the program.
func (w *world) terminal(t *testing.T, protocol string) {
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	in, typed := io.Pipe()
	defer typed.Close()
	var out watched
	resize := make(sizes, 1)
	defer close(resize)
	resize <- remotecommand.TerminalSize{Width: 80, Height: 24}
	done := make(chan error, 1)
	go func() {
		done <- w.home.run(ctx, protocol, "tool", "main", remotecommand.StreamOptions{Stdin: in, Stdout: &out, Tty: true, TerminalSizeQueue: resize}, "tty")
	}()
	if err := out.has(ctx, "size 80x24"); err != nil {
		t.Fatal(err)
	}
	resize <- remotecommand.TerminalSize{Width: 132, Height: 50}
	if err := out.has(ctx, "size 132x50"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ typed, want string }{{"hello\n", "you said hello"}, {"end\n", "end"}} {
		if _, err := io.WriteString(typed, step.typed); err != nil {
			t.Fatal(err)
		}
		if err := out.has(ctx, step.want); err != nil {
			t.Fatal(err)
		}
	}
	if err := ended(done, soon); err != nil {
		t.Error(err)
	}
}

// halfClose: the end of the input arrives, and what comes after it still does.
func (w *world) halfClose(t *testing.T, protocol string) {
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	want, err := sumOf(strings.NewReader("abc"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := w.home.run(ctx, protocol, "tool", "main", remotecommand.StreamOptions{Stdin: strings.NewReader("abc"), Stdout: &out}, "sum"); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func (w *world) muchIn(t *testing.T, protocol string) {
	want, err := sumOf(io.LimitReader(noise(), much))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	in := io.LimitReader(noise(), much)
	if err := w.home.run(t.Context(), protocol, "tool", "main", remotecommand.StreamOptions{Stdin: in, Stdout: &out}, "sum"); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// muchOut: the program stays until all has been heard. Kubernetes' own proxies, of which two are on the way, may lose what is still
// under way when a stream ends just as its client pings.
func (w *world) muchOut(t *testing.T, protocol string) {
	in, out := io.Pipe()
	heard, hear := io.Pipe()
	said, wrong := io.Pipe()
	got, sent := make(chan string, 1), make(chan string, 1)
	go func() {
		sum, err := sumOf(io.LimitReader(in, much))
		got <- sum + errorText(err)
	}()
	go func() {
		line, err := bufio.NewReader(said).ReadString('\n')
		sent <- line + errorText(err)
	}()
	done := make(chan error, 1)
	go func() {
		done <- w.home.run(t.Context(), protocol, "tool", "main", remotecommand.StreamOptions{Stdin: heard, Stdout: out, Stderr: wrong},
			"bytes", strconv.Itoa(much), "heard")
		_ = errors.Join(out.Close(), wrong.Close()) // of pipes
	}()
	if sum, want := <-got, <-sent; sum != want {
		t.Errorf("got %q, want %q", sum, want)
	}
	_ = hear.Close() // of a pipe
	if err := ended(done, soon); err != nil {
		t.Error(err)
	}
}
