package quickstart

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab"
)

const (
	root    = "../.." // of the module
	page    = root + "/docs/quickstart.md"
	labName = "quickstart" // on the page
	// longest is how long one block may take on a busy machine.
	longest = 5 * time.Minute
)

// TestQuickstart does what the page says. Building is not counted: a reader downloads the program.
func TestQuickstart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real nodes")
	}
	if missing := duo.Missing(); len(missing) > 0 {
		t.Skip("real nodes cannot run here: " + strings.Join(missing, "; "))
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	all, err := steps(string(text))
	if err != nil || len(all) == 0 {
		t.Fatalf("%s has %d blocks of commands for the lab: %v", page, len(all), err)
	}
	shell := newShell(t)
	t.Cleanup(func() {
		if err := lab.DownNamed(context.Background(), labName, true); err != nil {
			t.Log(err) // the page has taken it down
		}
	})
	begun := time.Now()
	for i, s := range all {
		from := time.Now()
		got, err := shell.run(s.script)
		t.Logf("line %d, %.1f s:\n%s\n%s", s.line, time.Since(from).Seconds(), s.script, got)
		if err != nil {
			t.Fatalf("docs/quickstart.md, line %d: %v", s.line, err)
		}
		if line := missing(s.want, got); line != "" {
			t.Errorf("docs/quickstart.md, line %d: the page shows a line that is not printed: %q", s.line, line)
		}
		if i == 0 {
			begun = time.Now()
		}
	}
	t.Logf("the whole page took %.0f s", time.Since(begun).Seconds())
}

// shell runs one block after the other as one terminal would: exported variables stay.
type shell struct {
	t     *testing.T
	state string // file with the variables
	path  string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	kubectl, err := lab.Binary(t.Context(), "kubectl", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(kubectl, filepath.Join(bin, "kubectl")); err != nil {
		t.Fatal(err)
	}
	return &shell{t: t, state: filepath.Join(t.TempDir(), "variables"), path: bin + ":" + os.Getenv("PATH")}
}

func (s *shell) run(script string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), longest)
	defer cancel()
	whole := fmt.Sprintf("set -eo pipefail\nif [ -f %[1]s ]; then . %[1]s; fi\n%s\nexport -p >%[1]s\n", s.state, script)
	cmd := exec.CommandContext(ctx, "bash", "-c", whole)
	cmd.Dir, cmd.Env, cmd.WaitDelay = root, append(os.Environ(), "PATH="+s.path), time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}
