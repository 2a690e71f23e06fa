package kubelet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab"
)

// The two protocols of client-go's executors and forwarders.
const (
	webSocket = "websocket"
	spdyOld   = "spdy"
)

func protocols() []string { return []string{webSocket, spdyOld} }

func (e end) url(pod, sub string, options runtime.Object) *url.URL {
	return e.kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(e.namespace).Name(pod).SubResource(sub).
		VersionedParams(options, scheme.ParameterCodec).URL()
}

func (e end) executor(protocol string, u *url.URL) (remotecommand.Executor, error) {
	if protocol == webSocket {
		return remotecommand.NewWebSocketExecutor(e.config, "GET", u.String())
	}
	return remotecommand.NewSPDYExecutor(e.config, "POST", u)
}

// run executes the app in a container.
func (e end) run(ctx context.Context, protocol, pod, container string, s remotecommand.StreamOptions, args ...string) error {
	u := e.url(pod, "exec", &corev1.PodExecOptions{
		Container: container, Command: append([]string{"/app"}, args...),
		Stdin: s.Stdin != nil, Stdout: s.Stdout != nil, Stderr: s.Stderr != nil, TTY: s.Tty,
	})
	x, err := e.executor(protocol, u)
	if err != nil {
		return err
	}
	return x.StreamWithContext(ctx, s)
}

// attach goes to what a container runs.
func (e end) attach(ctx context.Context, protocol, pod, container string, s remotecommand.StreamOptions) error {
	u := e.url(pod, "attach", &corev1.PodAttachOptions{
		Container: container, Stdin: s.Stdin != nil, Stdout: s.Stdout != nil, Stderr: s.Stderr != nil, TTY: s.Tty,
	})
	x, err := e.executor(protocol, u)
	if err != nil {
		return err
	}
	return x.StreamWithContext(ctx, s)
}

// output is what the app prints, executed in tool's container main.
func (e end) output(ctx context.Context, args ...string) (string, error) {
	var out, wrong bytes.Buffer
	err := e.run(ctx, webSocket, "tool", "main", remotecommand.StreamOptions{Stdout: &out, Stderr: &wrong}, args...)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, wrong.String())
	}
	return out.String(), err
}

// log is the whole of a log.
func (e end) log(ctx context.Context, pod string, o *corev1.PodLogOptions) (string, error) {
	data, err := e.kube.CoreV1().Pods(e.namespace).GetLogs(pod, o).DoRaw(ctx)
	return string(data), err
}

// kubectl prepares a run of kubectl in the end's cluster.
func (w *world) kubectl(t *testing.T, e end, args ...string) *exec.Cmd {
	t.Helper()
	path, err := lab.Binary(t.Context(), "kubectl", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"--context", e.context, "-n", e.namespace}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.Lab.Kubeconfig())
	return cmd
}

// watched keeps what is written and tells of it.
type watched struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// has waits until something was written.
func (w *watched) has(ctx context.Context, want string) error {
	return duo.Until(ctx, soon, func(context.Context) error {
		if got := w.String(); !strings.Contains(got, want) {
			return fmt.Errorf("no %q in %q", want, got)
		}
		return nil
	})
}

// sizes are those of a terminal, handed over one by one.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

// noise is bytes of every value, the same in each run: those of the app's bytes.
func noise() io.Reader { return rand.NewChaCha8([32]byte{1}) }

// sumOf is what the app's sum prints.
func sumOf(r io.Reader) (string, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return fmt.Sprintln(n, hex.EncodeToString(h.Sum(nil))), err
}

// ended waits for the end of something that runs in a goroutine.
func ended(done <-chan error, within time.Duration) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errors.New("it has not ended")
	}
}
