package realnode

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

// starter is the way to a node that is being started: it sends the phases. Until the last one the node ends with the starter.
type starter struct {
	pid int
	in  io.WriteCloser
}

func (s *starter) send(phase string) error {
	if _, err := fmt.Fprintln(s.in, phase); err != nil {
		return fmt.Errorf("tell the node that it has %s: %w", phase, err)
	}
	return nil
}

// launch starts the first process of a node and returns its pid as the machine sees it. in becomes its standard input. With the
// role Images it returns when that is done.
func launch(ctx context.Context, nodeInit string, spec nodespec.Spec, in *os.File) (int, error) {
	if err := os.MkdirAll(filepath.Join(spec.Dir, "log"), 0o755); err != nil {
		return 0, fmt.Errorf("make directory of %s: %w", spec.Hostname, err)
	}
	file := filepath.Join(spec.Dir, "spec.json")
	if err := spec.Write(file); err != nil {
		return 0, err
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, nodeInit, "launch", file)
	cmd.Env = append(os.Environ(), nodespec.EnvLab+"="+spec.Lab, nodespec.EnvNode+"="+spec.Dir)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if in != nil {
		cmd.Stdin = in
	}
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("start %s: %w: %s%s", spec.Hostname, err, errs.String(), lastLines(filepath.Join(spec.Dir, "log", "init.log")))
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", spec.Hostname, err)
	}
	return pid, nil
}

// launchWaiting starts a node or router that waits for its phases.
func launchWaiting(ctx context.Context, nodeInit string, spec nodespec.Spec) (*starter, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Hostname, err)
	}
	defer r.Close()
	pid, err := launch(ctx, nodeInit, spec, r)
	if err != nil {
		w.Close()
		return nil, err
	}
	return &starter{pid: pid, in: w}, nil
}

// lastLines is the end of a log, for error messages.
func lastLines(file string) string {
	const most = 2000
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return string(data[max(0, len(data)-most):])
}

// writeFiles writes files below dir and makes directories as needed.
func writeFiles(dir string, files map[string]string) error {
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("write files of a node: %w", err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return fmt.Errorf("write files of a node: %w", err)
		}
	}
	return nil
}
