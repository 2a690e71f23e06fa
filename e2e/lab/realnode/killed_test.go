package realnode_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/e2e/lab/realnode"
)

// ownerEnv makes the test binary the owner of a lab with that name.
const ownerEnv = "SPILLWAY_REALNODE_TEST_OWNER"

func TestMain(m *testing.M) {
	if name := os.Getenv(ownerEnv); name != "" {
		_, err := lab.Up(context.Background(), lab.Options{
			Name: name, Progress: os.Stdout, Clusters: []lab.ClusterOptions{{Name: "east", Real: 1}},
		})
		fmt.Println("owner:", err)
		if err == nil {
			select {}
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestRealNodes_OwnerKilled: whatever its owner was doing when it was killed, the next one removes all of it.
func TestRealNodes_OwnerKilled(t *testing.T) {
	needReal(t)
	if _, err := lab.Binaries(t.Context(), logWriter{t}, lab.BinaryNames(true)...); err != nil {
		t.Fatal(err)
	}
	before := look(t)
	for i, words := range []string{"API server ready", "real nodes joining", "ready after"} {
		name := fmt.Sprintf("killed-%d-%d", os.Getpid(), i)
		plan := killOwner(t, name, words)
		begun := time.Now()
		if err := lab.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		t.Logf("killed at %q, swept in %.2f s", words, time.Since(begun).Seconds())
		traces{lab: name, dir: lab.Dir(name), uplink: plan.Uplink}.gone(t)
		if _, err := os.Stat(lab.Dir(name)); !os.IsNotExist(err) {
			t.Errorf("the lab's directory: %v", err)
		}
	}
	if diff := cmp.Diff(before, look(t)); diff != "" {
		t.Errorf("the machine has changed: -before +after:\n%s", diff)
	}
}

// killOwner starts a lab in another process and kills that when it says the words.
func killOwner(t *testing.T, name, words string) realnode.Plan {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), ownerEnv+"="+name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if !strings.Contains(lines.Text(), words) {
			continue
		}
		nodes, err := realnode.Open(filepath.Join(lab.Dir(name), "real"))
		if err != nil {
			t.Fatal(err)
		}
		return nodes.Plan()
	}
	t.Fatalf("the owner ended without saying %q", words)
	return realnode.Plan{}
}
