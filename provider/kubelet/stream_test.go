package kubelet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

// executors are the two clients of kubectl.
func executors(t *testing.T, w *world, path string) map[string]remotecommand.Executor {
	t.Helper()
	u := w.url(t, path)
	spdy, err := remotecommand.NewSPDYExecutor(w.caller, http.MethodPost, u)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := remotecommand.NewWebSocketExecutor(w.caller, http.MethodGet, u.String())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]remotecommand.Executor{"SPDY": spdy, "WebSocket": socket}
}

func TestStreams_ExecHandsOnOutputAndExitCode(t *testing.T) {
	w := newWorld(t)
	for name, e := range executors(t, w, "/exec/shop/web/main?command=fail&output=1&error=1") {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut})
			var exit exec.CodeExitError
			if !errors.As(err, &exit) || exit.Code != 7 || out.String() != "out" || errOut.String() != "err" {
				t.Errorf("%v, stdout %q, stderr %q; want exit 7, out, err", err, out.String(), errOut.String())
			}
		})
	}
}

func TestStreams_ExecKeepsEveryWordOfTheCommand(t *testing.T) {
	w := newWorld(t)
	for name, e := range executors(t, w, "/exec/shop/web/"+podUID+"/main?command=args&command=&command=a+b%26c%3D%00&command=&output=1") {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff("[\"args\",\"\",\"a b\\u0026c=\\u0000\",\"\"]\n", out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The process sees the end of its input and answers after it: each direction closes for itself.
func TestStreams_StdinClosesAloneAndBytesStayThemselves(t *testing.T) {
	w := newWorld(t)
	in := make([]byte, 8<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(in)
	for _, path := range []string{"/exec/shop/web/main?command=cat&input=1&output=1", "/attach/shop/web/main?input=1&output=1"} {
		for name, e := range executors(t, w, path) {
			t.Run(name+path, func(t *testing.T) {
				var out bytes.Buffer
				err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: bytes.NewReader(in), Stdout: &out})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(in, out.Bytes()) {
					t.Errorf("%d bytes came back changed from %d", out.Len(), len(in))
				}
			})
		}
	}
}

type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	if size, ok := <-s; ok {
		return &size
	}
	return nil
}

func TestStreams_TerminalIsResized(t *testing.T) {
	w := newWorld(t)
	for name, e := range executors(t, w, "/exec/shop/web/debug?command=size&output=1&tty=1") {
		t.Run(name, func(t *testing.T) {
			queue := make(sizes, 2)
			queue <- remotecommand.TerminalSize{Width: 80, Height: 24}
			queue <- remotecommand.TerminalSize{Width: 132, Height: 50}
			defer close(queue)
			var out bytes.Buffer
			err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: queue})
			if err != nil || out.String() != "80x24 132x50 " {
				t.Errorf("%v, %q", err, out.String())
			}
		})
	}
}

func TestStreams_KilledClientEndsTheProcess(t *testing.T) {
	w := newWorld(t)
	for name, e := range executors(t, w, "/exec/shop/web/main?command=cat&input=1&output=1") {
		t.Run(name, func(t *testing.T) {
			ctx, kill := context.WithCancel(t.Context())
			defer kill()
			in, type_ := io.Pipe()
			defer func() { _ = type_.Close() }()
			out, screen := io.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: screen})
			}()
			_, _ = io.WriteString(type_, "x")
			if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			kill()
			within(t, "the client ends", done)
			within(t, "the process ends", w.peer.ended)
		})
	}
}
