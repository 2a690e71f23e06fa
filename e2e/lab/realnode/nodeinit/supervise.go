package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

// restartAfter keeps a component that dies at once from eating a core.
const restartAfter = time.Second

// retryWithin is long enough for containerd on a busy machine.
const retryWithin = 30 * time.Second

// component is one supervised program; all fields belong to the supervisor's goroutine.
type component struct {
	nodespec.Component
	pid    int  // 0 while it does not run
	wanted bool // keep it running
}

// supervisor is process 1 of a node: one goroutine owns all state, everything else sends it events.
type supervisor struct {
	spec       nodespec.Spec
	components []*component
	requests   chan request
	restarts   chan *component
}

func newSupervisor(spec nodespec.Spec) *supervisor {
	s := &supervisor{spec: spec, requests: make(chan request), restarts: make(chan *component)}
	for _, c := range spec.Components {
		s.components = append(s.components, &component{Component: c})
	}
	return s
}

func (s *supervisor) run() error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	if err := s.startAfter(""); err != nil {
		return err
	}
	if s.spec.Role == nodespec.Images {
		return s.runCommands()
	}
	if err := serveControl(s.requests); err != nil {
		return err
	}
	phases, reached := readPhases(os.Stdin), ""
	for {
		select {
		case <-children:
			s.reap()
		case c := <-s.restarts:
			if c.wanted && c.pid == 0 {
				s.logError(s.start(c))
			}
		case r := <-s.requests:
			r.answer <- s.handle(r)
		case phase, open := <-phases:
			if !open && reached != nodespec.PhaseAPI {
				return errors.New("the starter ended before the node was complete")
			}
			if !open {
				phases = nil
				continue
			}
			reached = phase
			if err := s.enter(phase); err != nil {
				return err
			}
		}
	}
}

func (s *supervisor) enter(phase string) error {
	if phase == nodespec.PhaseNetwork && s.spec.Rules != "" {
		if err := s.loadRules(); err != nil {
			return err
		}
	}
	return s.startAfter(phase)
}

func (s *supervisor) startAfter(phase string) error {
	for _, c := range s.components {
		if c.After != phase {
			continue
		}
		if err := s.start(c); err != nil {
			return err
		}
	}
	return nil
}

// start forks without os/exec: process 1 reaps whatever ends, so nobody else may wait.
func (s *supervisor) start(c *component) error {
	log, err := os.OpenFile(filepath.Join("/var/log", c.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", c.Name, err)
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("open input of %s: %w", c.Name, err)
	}
	defer null.Close()
	pid, err := syscall.ForkExec(c.Args[0], c.Args, &syscall.ProcAttr{
		Dir:   "/",
		Env:   os.Environ(),
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", c.Name, err)
	}
	c.pid, c.wanted = pid, true
	return nil
}

// reap collects every ended process, the orphans of containers too.
func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		s.ended(pid, status)
	}
}

func (s *supervisor) ended(pid int, status syscall.WaitStatus) {
	for _, c := range s.components {
		if c.pid != pid {
			continue
		}
		c.pid = 0
		fmt.Fprintf(os.Stderr, "%s ended: exit %d, signal %d\n", c.Name, status.ExitStatus(), status.Signal())
		if c.wanted {
			time.AfterFunc(restartAfter, func() { s.restarts <- c })
		}
	}
}

// handle executes one request of the control socket.
func (s *supervisor) handle(r request) error {
	for _, c := range s.components {
		if c.Name != r.component {
			continue
		}
		c.wanted = false
		if err := s.kill(c); err != nil {
			return err
		}
		if r.verb == nodespec.VerbRestart {
			return s.start(c)
		}
		return nil
	}
	return fmt.Errorf("no component %q on this node", r.component)
}

// kill ends c and waits until it is gone; SIGKILL, because a component must survive that and it is what a lab wants to see.
func (s *supervisor) kill(c *component) error {
	if c.pid == 0 {
		return nil
	}
	if err := syscall.Kill(c.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", c.Name, err)
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(c.pid, &status, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	c.pid = 0
	return nil
}

func (s *supervisor) loadRules() error {
	// The supervisor's loop is not reaping while this runs, so os/exec may wait for its own child.
	out, err := exec.Command("nft", "-f", s.spec.Rules).CombinedOutput()
	if err != nil {
		return fmt.Errorf("load %s: %w: %s", s.spec.Rules, err, out)
	}
	return nil
}

// runCommands is the life of the role Images: the commands, then an orderly end so that databases are complete.
func (s *supervisor) runCommands() error {
	if err := await(s.spec.Await); err != nil {
		return err
	}
	for _, args := range s.spec.Run {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("run %v: %w: %s", args, err, out)
		}
	}
	for _, c := range s.components {
		if err := syscall.Kill(c.pid, syscall.SIGTERM); err != nil {
			return fmt.Errorf("stop %s: %w", c.Name, err)
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(c.pid, &status, 0, nil); err != nil {
			return fmt.Errorf("wait for %s: %w", c.Name, err)
		}
	}
	return nil
}

// await waits until somebody listens on a Unix socket.
func await(socket string) error {
	err := retry(func() error {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", socket, err)
	}
	return nil
}

// retry calls f until it succeeds; after retryWithin it returns f's last error.
func retry(f func() error) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(retryWithin); ; <-ticker.C {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

func (s *supervisor) logError(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// readPhases sends each line of in and closes the channel at its end.
func readPhases(in io.Reader) <-chan string {
	phases := make(chan string)
	go func() {
		defer close(phases)
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			phases <- lines.Text()
		}
	}()
	return phases
}
