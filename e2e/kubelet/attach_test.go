package kubelet

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/google/go-cmp/cmp"
)

func (w *world) attach(t *testing.T) {
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) {
			w.talk(t, protocol, "reader", "hello "+protocol+"\n", "hello "+protocol)
			w.terminalOf(t, protocol)
		})
	}
}

// talk says something to what a container of tool runs, and hears it.
func (w *world) talk(t *testing.T, protocol, container, say, want string) {
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	in, typed := io.Pipe()
	defer typed.Close()
	var out watched
	done := make(chan error, 1)
	go func() {
		done <- w.home.attach(ctx, protocol, "tool", container, remotecommand.StreamOptions{Stdin: in, Stdout: &out, Stderr: io.Discard})
	}()
	if _, err := io.WriteString(typed, say); err != nil {
		t.Fatal(err)
	}
	if err := out.has(ctx, want); err != nil {
		t.Error(err)
	}
	cancel() // the container goes on
	if err := ended(done, soon); err == nil {
		t.Error("attach to what goes on has ended by itself")
	}
}

// terminalOf attaches to a container with a terminal.
func (w *world) terminalOf(t *testing.T, protocol string) {
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	in, typed := io.Pipe()
	defer typed.Close()
	var out watched
	width := uint16(70 + len(protocol))
	resize := make(sizes, 1)
	defer close(resize)
	resize <- remotecommand.TerminalSize{Width: width, Height: 20}
	done := make(chan error, 1)
	go func() {
		done <- w.home.attach(ctx, protocol, "tool", "terminal", remotecommand.StreamOptions{Stdin: in, Stdout: &out, Tty: true, TerminalSizeQueue: resize})
	}()
	if err := out.has(ctx, fmt.Sprintf("size %dx20", width)); err != nil {
		t.Error(err)
	}
	if _, err := io.WriteString(typed, protocol+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := out.has(ctx, "you said "+protocol); err != nil {
		t.Error(err)
	}
	cancel()
	_ = ended(done, soon) // by our own doing
}

// debugged: an ephemeral container that is added at home runs in the peer, is shown at home, and can be talked to.
func (w *world) debugged(t *testing.T) {
	pods := w.Home.CoreV1().Pods(namespace)
	p, err := pods.Get(t.Context(), "network", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "debugger", Image: container("").Image, ImagePullPolicy: corev1.PullNever, Args: []string{"copy"}, Stdin: true,
		},
		TargetContainerName: "echo",
	})
	if _, err := pods.UpdateEphemeralContainers(t.Context(), p.Name, p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func(ctx context.Context) error {
		p, err := pods.Get(ctx, "network", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if all := p.Status.EphemeralContainerStatuses; len(all) != 1 || all[0].State.Running == nil {
			return fmt.Errorf("ephemeral containers are %+v", all)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	in, typed := io.Pipe()
	defer typed.Close()
	var out watched
	done := make(chan error, 1)
	go func() {
		done <- w.home.attach(ctx, webSocket, "network", "debugger", remotecommand.StreamOptions{Stdin: in, Stdout: &out})
	}()
	if _, err := io.WriteString(typed, "anybody there\n"); err != nil {
		t.Fatal(err)
	}
	if err := out.has(ctx, "anybody there"); err != nil {
		t.Error(err)
	}
	cancel()
	_ = ended(done, soon) // by our own doing
}

// copies: kubectl cp of 1 GiB there, and of a small file there and back.
func (w *world) copies(t *testing.T) {
	dir := t.TempDir()
	small, back, big := filepath.Join(dir, "small"), filepath.Join(dir, "back"), filepath.Join(dir, "big")
	want := []byte{0, 1, 2, 0xff, '\n', '\r', 4}
	if err := os.WriteFile(small, want, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := sparse(big, 1<<30); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{small, "tool:/tmp/small"}, {"tool:/tmp/small", back}} {
		if out, err := w.kubectl(t, w.home, append([]string{"cp", "-c", "main"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("cp %v: %v\n%s", args, err, out)
		}
	}
	got, err := os.ReadFile(back)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("there and back: -want +got:\n%s", diff)
	}
	began := time.Now()
	cp := w.kubectl(t, w.home, "cp", "-c", "main", big, "tool:/tmp/big")
	cp.Env = append(cp.Env, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false") // SPDY, which takes half as long
	if out, err := cp.CombinedOutput(); err != nil {
		t.Fatalf("cp of 1 GiB: %v\n%s", err, out)
	}
	t.Logf("1 GiB in %s", time.Since(began).Round(100*time.Millisecond))
	f, err := os.Open(big)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum, err := sumOf(f)
	if err != nil {
		t.Fatal(err)
	}
	there, err := w.away.output(t.Context(), "sum", "/tmp/big")
	if err != nil || there != sum {
		t.Errorf("the copy is %q, the file %q: %v", there, sum, err)
	}
	if _, err := w.away.output(t.Context(), "rm", "/tmp/big"); err != nil {
		t.Error(err)
	}
}

// sparse makes a file of that size with something at its beginning and end: it takes no room here.
func sparse(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const part = 1 << 20
	for _, at := range []int64{0, size - part} {
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(f, noise(), part); err != nil {
			return err
		}
	}
	return nil
}
