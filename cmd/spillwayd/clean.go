package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/spillway-dev/spillway/tunnel"
)

// cleanAgain is how soon a cleaning is tried again: an agent that is being replaced may still put things back.
const cleanAgain = time.Second

// cleanOptions are the flags of spillwayd node clean.
type cleanOptions struct {
	stateFile string
	stay      bool
	httpPort  uint16
	logLevel  string
	log       *zap.Logger
	kernel    func(context.Context) error
}

func cleanCommand() *cobra.Command {
	o := cleanOptions{kernel: tunnel.Clean}
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Take everything of Spillway off this node",
		Long: "Removes the links, routes, rules and nftables tables that spillwayd node made, and its state file with the folder it\n" +
			"is in, if nothing else is there. Run it when the agent no longer runs on this node; a running agent would put\n" +
			"everything back.",
		Example: "  spillwayd node clean            # once\n" +
			"  spillwayd node clean --stay     # in a DaemonSet, in place of the agent: its rollout tells when all nodes are clean",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.log, err = newLogger(o.logLevel); err != nil {
				return err
			}
			if o.stay {
				return o.cleanAndStay(cmd.Context())
			}
			return o.clean(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.stateFile, "state-file", defaultStateFile, "the agent's state file")
	f.BoolVar(&o.stay, "stay", false, "keep running until told to stop, and answer /readyz once the node is clean; what fails is tried again")
	f.Uint16Var(&o.httpPort, "http-port", defaultHTTPPort, "with --stay: TCP port of /healthz and /readyz")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// clean takes away what there is. It may be called again.
func (o *cleanOptions) clean(ctx context.Context) error {
	return errors.Join(o.kernel(ctx), o.removeState())
}

// removeState removes the state file, one that was half written, and the folder if that leaves it empty.
func (o *cleanOptions) removeState() error {
	for _, file := range []string{o.stateFile, o.stateFile + ".new"} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the state file: %w", err)
		}
	}
	dir := filepath.Dir(o.stateFile)
	left, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(left) > 0 {
		return nil
	}
	if err == nil {
		err = os.Remove(dir)
	}
	if err != nil && !errors.Is(err, syscall.EBUSY) { // mounted: it is up to who did that
		return fmt.Errorf("remove the folder of the state file: %w", err)
	}
	return nil
}

// cleanAndStay cleans until it has succeeded, and answers whether it has until ctx ends.
func (o *cleanOptions) cleanAndStay(ctx context.Context) error {
	var done atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", answer(func(*http.Request) error { return nil }))
	mux.HandleFunc("GET /readyz", answer(func(*http.Request) error {
		if !done.Load() {
			return errors.New("the node is not clean yet")
		}
		return nil
	}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	served := make(chan error, 1)
	go func() { served <- o.serve(ctx, server) }()
	again := time.NewTicker(cleanAgain)
	defer again.Stop()
	for !done.Load() {
		err := o.clean(ctx)
		done.Store(err == nil)
		if err == nil {
			o.log.Info("nothing of Spillway is left on this node")
			break
		}
		o.log.Warn("the node is not clean yet", zap.Error(err))
		select {
		case <-ctx.Done():
			return <-served
		case err := <-served:
			return err
		case <-again.C:
		}
	}
	return <-served
}

// serve answers until ctx ends; it waits for the port, which the agent that this replaces may still have.
func (o *cleanOptions) serve(ctx context.Context, server *http.Server) error {
	again := time.NewTicker(cleanAgain)
	defer again.Stop()
	for {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(int(o.httpPort))))
		if err == nil {
			defer context.AfterFunc(ctx, func() { _ = server.Close() })()
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve on port %d: %w", o.httpPort, err)
			}
			return nil
		}
		o.log.Warn("nobody can ask whether the node is clean", zap.Error(err))
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}
