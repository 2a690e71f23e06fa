package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/spillway-dev/spillway/e2e/lab"
)

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "serve",
		Short:  "Own a lab until SIGTERM (started by up)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), cmd.InOrStdin()) },
	}
}

// messagesFD is the descriptor that up reads from.
const messagesFD = 3

// messenger tells up what happens, until it has said that all is ready. It is
// an io.Writer for progress.
type messenger struct {
	mu   sync.Mutex // guards pipe
	pipe *os.File   // nil when nobody listens any more
}

func (m *messenger) send(msg message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pipe == nil {
		return
	}
	err := json.NewEncoder(m.pipe).Encode(msg)
	if err != nil || msg.Ready || msg.Error != "" {
		_ = m.pipe.Close()
		m.pipe = nil
	}
}

func (m *messenger) Write(p []byte) (int, error) {
	m.send(message{Progress: string(p)})
	return len(p), nil
}

// serve starts the lab, answers on its control socket, and takes it down when
// ctx is done.
func serve(ctx context.Context, in io.Reader) error {
	unix.CloseOnExec(messagesFD) // else every process of the lab would hold it
	m := &messenger{pipe: os.NewFile(messagesFD, "messages")}
	var request serveRequest
	if err := json.NewDecoder(in).Decode(&request); err != nil {
		return fmt.Errorf("read what to serve (`lab serve` is for `lab up` only): %w", err)
	}
	request.Options.Progress = m
	l, err := lab.Up(ctx, request.Options)
	if err != nil {
		m.send(message{Error: err.Error()})
		return err
	}
	err = own(ctx, l, m, request)
	err = errors.Join(err, l.Down(context.WithoutCancel(ctx)))
	if err != nil {
		m.send(message{Error: err.Error()})
	}
	return err
}

func own(ctx context.Context, l *lab.Lab, m *messenger, request serveRequest) error {
	if err := redirect(filepath.Join(l.Dir(), "log", "lab.log")); err != nil {
		return err
	}
	if err := startSpillway(ctx, l, request); err != nil {
		return err
	}
	ln, err := net.Listen("unix", socketPath(l.Name()))
	if err != nil {
		return fmt.Errorf("listen on the control socket: %w", err)
	}
	server := &http.Server{Handler: newControl(l), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	m.send(message{Ready: true})
	select {
	case err = <-served:
		return fmt.Errorf("serve the control socket: %w", err)
	case <-ctx.Done():
	}
	err = server.Close()
	<-served
	return err
}

// startSpillway does with Spillway what was asked for.
func startSpillway(ctx context.Context, l *lab.Lab, request serveRequest) error {
	in := request.Options.InCluster
	o := lab.SpillwayOptions{Agents: request.Tunnel || in, InCluster: in}
	switch {
	case request.Spillway:
		return l.StartSpillway(ctx, o)
	case in:
		return l.LoadSpillway(ctx, lab.SpillwayOptions{})
	default:
		return nil
	}
}

// redirect sends what this process itself prints, such as a panic, to a file.
func redirect(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the lab's log: %w", err)
	}
	defer f.Close()
	for _, fd := range []int{syscall.Stdout, syscall.Stderr} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("redirect the lab's output: %w", err)
		}
	}
	return nil
}

func socketPath(name string) string { return filepath.Join(lab.Dir(name), "control.sock") }
