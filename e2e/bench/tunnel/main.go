// Command tunnel measures Spillway's tunnel against wireguard-go as it comes, on the same machine, in the same run.
//
// Every gateway, node and pod is a process in a network namespace of its own: pod – gateway – gateway – pod, over pairs
// of links. All ways are measured in turn, round by round, while the processes of the others stand still; ratios are
// made within a round. It knows nothing of Kubernetes. As root, on a quiet machine:
//
//	go run ./e2e/bench/tunnel            # four minutes
//	go run ./e2e/bench/tunnel -quick     # one, for a first impression
//	go run ./e2e/bench/tunnel -rounds 1 -profiles /tmp/profiles
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spillway-dev/spillway/e2e/bench/figures"
)

func main() {
	if os.Getenv(roleVariable) != "" {
		os.Exit(childMain())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		os.Exit(2)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "Stopped; nothing is left.")
		os.Exit(130)
	default:
		fmt.Fprintf(os.Stderr, "bench tunnel: %v\n", err)
		os.Exit(1)
	}
}

// run does everything and returns what went wrong. The table goes to out, progress to progress.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(out, "The tunnel is not measured: network namespaces need root.")
		return nil
	}
	say := newTeller(progress)
	result := newResult(o, time.Now())
	if warning := result.Machine.busyWarning(); warning != "" {
		say.line("%s", warning)
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o755); err != nil {
			return fmt.Errorf("make the folder for profiles: %w", err)
		}
	}
	if err := measure(ctx, o, result, say); err != nil {
		return err
	}
	result.TookSeconds = time.Since(say.start).Seconds()
	report := render(result)
	fmt.Fprint(out, report)
	if err := figures.Write(o.json, result); err != nil {
		return err
	}
	fmt.Fprintf(progress, "All figures are in %s.\n", o.json)
	if !o.writeDocs {
		return nil
	}
	return updateDocs(docsPath, report)
}

func measure(ctx context.Context, o options, r *result, say *teller) error {
	if o.rounds > 0 {
		s, err := openSeries(ctx, o, say)
		if err != nil {
			return err
		}
		defer s.close()
		if r.Samples, err = s.run(ctx); err != nil {
			return err
		}
	}
	if o.idle > 0 {
		var err error
		if r.Idle, err = watchIdle(ctx, o, say); err != nil {
			return err
		}
	}
	return nil
}

// teller prints lines with the time since the start before them.
type teller struct {
	w     io.Writer
	start time.Time
}

func newTeller(w io.Writer) *teller { return &teller{w, time.Now()} }

func (t *teller) line(format string, args ...any) {
	elapsed := int(time.Since(t.start).Seconds())
	fmt.Fprintf(t.w, "%2d:%02d  %s\n", elapsed/60, elapsed%60, fmt.Sprintf(format, args...))
}
