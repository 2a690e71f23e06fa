package joined

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab/realnode"
	"github.com/spillway-dev/spillway/internal/netbench"
)

const (
	tryFor  = 300 * time.Millisecond
	tryWait = 2*tryFor + 2*time.Second
)

// podPID is a process in the network namespace of a pod, as the machine sees it; 0 when there is none.
func podPID(pod string) int {
	for pid, command := range commands() {
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if strings.Contains(string(environ), "HOSTNAME="+pod+"\x00") && strings.Contains(string(command), "\x00serve\x00") {
			return pid
		}
	}
	return 0
}

// bulkCommand is `spillwayd netbench` in the network namespace of a pod.
func (w *world) bulkCommand(ctx context.Context, c *caller, args ...string) (*exec.Cmd, error) {
	pid := podPID(c.pod)
	if pid == 0 {
		return nil, fmt.Errorf("pod %s does not run", c.pod)
	}
	words := append([]string{"-t", strconv.Itoa(pid), "--net", filepath.Join(w.bin, "spillwayd"), "netbench"}, args...)
	return exec.CommandContext(ctx, "nsenter", words...), nil
}

// bulkServer makes a pod the passive end of bulk until the test ends.
func (w *world) bulkServer(t *testing.T, c *caller) {
	t.Helper()
	cmd, err := w.bulkCommand(t.Context(), c, "serve")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // t.Context has ended by then, and the process with it
}

// bulk sends as much as passes from a pod to one with a bulkServer, then the other way, each for that long: bytes of
// payload per second. It ends with ctx, when that does not pass.
func (w *world) bulk(ctx context.Context, from, to *caller, long time.Duration) (up, down float64, err error) {
	cmd, err := w.bulkCommand(ctx, from, "run", "--target", to.addr.String(), "--count", "0", "--duration", long.String(), "--wait", "0s")
	if err != nil {
		return 0, 0, err
	}
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("bulk from %s to %s: %w: %s", from.pod, to.pod, errors.Join(err, ctx.Err()), words.String())
	}
	var r netbench.Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return 0, 0, err
	}
	return r.UpBitsPerSecond / 8, r.DownBitsPerSecond / 8, nil
}

// bulkServing waits until the passive end is there.
func (w *world) bulkServing(t *testing.T, from, to *caller) {
	t.Helper()
	eventually(t, soon, "bulk begins", func(ctx context.Context) error {
		return w.tryBulk(ctx, from, to)
	})
}

// tryBulk is bulk for a moment. An error: it did not pass within tryWait.
func (w *world) tryBulk(ctx context.Context, from, to *caller) error {
	ctx, cancel := context.WithTimeout(ctx, tryWait)
	defer cancel()
	_, _, err := w.bulk(ctx, from, to, tryFor)
	return err
}

// router runs a shell line in the wide-area network.
func (w *world) router(t *testing.T, line string) {
	t.Helper()
	cmd, err := w.lab.RealNodes().RouterCommand(context.Background(), "sh", "-ec", line)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("in the router: %v: %s\n%s", err, out, line)
	}
}

// onNode is look for what has to succeed.
func (w *world) onNode(t *testing.T, node, line string) {
	t.Helper()
	if out, err := w.look(context.Background(), node, line); err != nil {
		t.Fatalf("on %s: %v: %s\n%s", node, err, out, line)
	}
}

func (w *world) planOf(cluster string) realnode.ClusterPlan {
	for _, c := range w.lab.RealNodes().Plan().Clusters {
		if c.Name == cluster {
			return c
		}
	}
	return realnode.ClusterPlan{}
}

// megabytes of a rate, for people.
func megabytes(rate float64) string { return fmt.Sprintf("%.2f MB/s", rate/1e6) }
