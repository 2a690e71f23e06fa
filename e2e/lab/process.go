package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process says what to run, see Lab.Start.
type Process struct {
	// Name in messages and of the log file, unique in the lab.
	Name string
	// Path of the program.
	Path string
	Args []string
	// Env is added to the caller's environment.
	Env []string
	// Dir is the working folder; empty means the state directory.
	Dir string
}

// Proc is a process of a lab: in a session of its own (so Ctrl-C reaches only
// the owner), marked, and ended with the lab. Its methods may be called by
// several goroutines.
type Proc struct {
	spec Process
	log  string

	mu   sync.Mutex // guards run
	run  *run
	note func(*Proc) // called after each start
}

// run is one life of a Proc.
type run struct {
	cmd   *exec.Cmd
	start uint64
	done  chan struct{} // closed after cmd.Wait
}

// stopAfter is how long Stop waits between SIGTERM and SIGKILL.
const stopAfter = 10 * time.Second

func startProcess(dir, mark string, spec Process, note func(*Proc)) (*Proc, error) {
	if spec.Dir == "" {
		spec.Dir = dir
	}
	spec.Env = append(cleanEnv(os.Environ()), append(spec.Env, markEnv+"="+mark)...)
	p := &Proc{spec: spec, log: filepath.Join(dir, "log", spec.Name+".log"), note: note}
	return p, p.start()
}

// cleanEnv leaves out what would change the components' ways: a proxy for
// HTTP, etcd's flags, and the mark of a lab the caller itself may belong to.
func cleanEnv(env []string) []string {
	var kept []string
	for _, kv := range env {
		key, _, _ := strings.Cut(kv, "=")
		switch strings.ToUpper(key) {
		case "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "KUBECONFIG", markEnv:
			continue
		}
		if !strings.HasPrefix(key, "ETCD_") { // each of etcd's flags has one
			kept = append(kept, kv)
		}
	}
	return kept
}

func (p *Proc) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil && !p.run.ended() {
		return nil
	}
	logFile, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", p.spec.Name, err)
	}
	defer logFile.Close()
	cmd := exec.Command(p.spec.Path, p.spec.Args...)
	cmd.Env, cmd.Dir = p.spec.Env, p.spec.Dir
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	r := &run{cmd: cmd, done: make(chan struct{})}
	r.start, _ = startTime(cmd.Process.Pid)
	p.run = r
	go func() {
		defer close(r.done)
		_ = cmd.Wait() // its state is kept in cmd
	}()
	if p.note != nil {
		p.note(p)
	}
	return nil
}

func (r *run) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (p *Proc) current() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// Name is the name it was started under.
func (p *Proc) Name() string { return p.spec.Name }

// Log is the path of the file with its output. A restart appends.
func (p *Proc) Log() string { return p.log }

// PID is its process number, also after its end.
func (p *Proc) PID() int { return p.current().cmd.Process.Pid }

// Running says whether it has not ended yet.
func (p *Proc) Running() bool { return !p.current().ended() }

// Done is closed when the present life of the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.current().done }

// Kill ends it at once (SIGKILL) and waits until it is gone. Killing what has
// ended is no error.
func (p *Proc) Kill() error {
	r := p.current()
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.spec.Name, err)
	}
	<-r.done
	return nil
}

// Stop asks it to end (SIGTERM), waits, and kills it when it has not ended
// after 10 seconds or when ctx is done.
func (p *Proc) Stop(ctx context.Context) error {
	r := p.current()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.spec.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopAfter)
	defer cancel()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return p.Kill()
	}
}

// Restart kills it if it runs and starts it again with the same arguments.
func (p *Proc) Restart() error {
	if err := p.Kill(); err != nil {
		return err
	}
	return p.start()
}

// Usage is what the present life of the process has used; after its end the
// whole of it.
func (p *Proc) Usage() (Usage, error) {
	r := p.current()
	if !r.ended() {
		if u, err := readUsage(r.cmd.Process.Pid); err == nil {
			return u, nil
		}
		<-r.done // it ended in between
	}
	state := r.cmd.ProcessState
	u := Usage{CPU: state.UserTime() + state.SystemTime()}
	if ru, ok := state.SysUsage().(*syscall.Rusage); ok {
		u.PeakRSS = ru.Maxrss << 10
	}
	return u, nil
}

// failure explains an unexpected end with the last lines of the log.
func (p *Proc) failure() error {
	return fmt.Errorf("%s ended (%s); the end of %s:\n%s",
		p.spec.Name, p.current().cmd.ProcessState, p.log, tail(p.log, 10))
}

// tail returns the last n lines of a file.
func tail(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 16<<10 {
		_, _ = f.Seek(-16<<10, io.SeekEnd)
	}
	data, _ := io.ReadAll(f)
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}
