package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ownerEnv makes the test binary the owner of a lab, see TestMain.
const ownerEnv = "SPILLWAY_LAB_TEST_OWNER"

func TestMain(m *testing.M) {
	if name := os.Getenv(ownerEnv); name != "" {
		os.Exit(own(name))
	}
	os.Exit(m.Run())
}

// own starts a lab, says so, and waits to be killed.
func own(name string) int {
	_, err := Up(context.Background(), Options{Name: name, Clusters: DefaultClusters(1), Progress: os.Stdout})
	if err != nil {
		_ = json.NewEncoder(os.Stdout).Encode(err.Error())
		return 1
	}
	select {}
}

// owner is another process that owns a lab.
type owner struct {
	*os.Process
	ended chan struct{} // closed when it has ended and is no zombie
}

func (o *owner) kill() {
	_ = o.Kill() // it may have ended
	<-o.ended
}

// startOwner returns when the owner has said the words.
func startOwner(t *testing.T, name, words string) *owner {
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
	o := &owner{cmd.Process, make(chan struct{})}
	lines := bufio.NewScanner(out)
	said := false
	for !said && lines.Scan() {
		t.Log(lines.Text())
		said = strings.Contains(lines.Text(), words)
	}
	go func() {
		defer close(o.ended)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(o.kill)
	if said {
		return o
	}
	t.Fatalf("the owner ended without saying %q", words)
	return nil
}

func TestSweep_OwnerKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two clusters")
	}
	for _, words := range []string{"API server ready", ": ready after"} {
		name := randomName()
		owner := startOwner(t, name, words)
		if !Alive(name) {
			t.Errorf("lab %s is not alive while its owner runs", name)
		}
		if err := Sweep(t.Context()); err != nil || !Alive(name) {
			t.Errorf("sweep with a living owner: %v, alive %v", err, Alive(name))
		}
		owner.kill()
		if left, _ := marked(name); len(left) < 2 {
			t.Errorf("%d processes survive their owner, so this test tests nothing", len(left))
		}
		begun := time.Now()
		if err := Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		t.Logf("swept in %s", time.Since(begun).Round(time.Millisecond))
		assertGone(t, name)
	}
}

func TestDownNamed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two clusters")
	}
	name := randomName()
	startOwner(t, name, "API server ready")
	if err := DownNamed(t.Context(), name, false); !errors.Is(err, ErrInUse) {
		t.Errorf("a living owner: got %v, want ErrInUse", err)
	}
	if err := DownNamed(t.Context(), name, true); err != nil {
		t.Error(err)
	}
	assertGone(t, name)
	if err := DownNamed(t.Context(), name, true); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is gone: got %v, want ErrNotFound", err)
	}
}

// TestDownNamed_FilesGone: the processes are found even when somebody has
// removed the state directory.
func TestDownNamed_FilesGone(t *testing.T) {
	name := randomName()
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.Env = append(os.Environ(), markEnv+"="+name)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := DownNamed(t.Context(), name, false); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := <-ended; !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the process ended with %v", err)
	}
}

func TestClaim(t *testing.T) {
	t.Setenv(rootEnv, t.TempDir())
	lock, err := claim(State{Name: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(State{Name: "one"}); !errors.Is(err, ErrExists) {
		t.Errorf("second claim: %v", err)
	}
	if !Alive("one") {
		t.Error("not alive while the lock is held")
	}
	_ = lock.Close()
	if Alive("one") {
		t.Error("alive though nobody holds the lock")
	}
	names, err := Names()
	if err != nil || len(names) != 1 || names[0] != "one" {
		t.Errorf("names: %v %v", names, err)
	}
	if err := Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names, _ := Names(); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
}
