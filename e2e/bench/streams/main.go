// Command streams measures what the way through home costs: the log of an offloaded pod, and an exec into it, against the provider's
// own API server for the same pod, in turn, in the same run. In the lab, two clusters with a real node each. As root, on a quiet
// machine:
//
//	make bench-streams
//	go run ./e2e/bench/streams -rounds 3 -execs 10   # for a first impression
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spillway-dev/spillway/e2e/bench/figures"
	"github.com/spillway-dev/spillway/e2e/duo"
)

// errUsage marks a command line that cannot be used; what is wrong has been printed.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "bench streams: %v\n", err)
		os.Exit(1)
	}
}

// options are what was asked for.
type options struct {
	rounds int // of the log
	lines  int // of the log, 100 bytes each
	execs  int
	json   string
}

func parse(args []string, w io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("streams", flag.ContinueOnError)
	f.SetOutput(w)
	f.IntVar(&o.rounds, "rounds", 9, "how often the log is read each way")
	f.IntVar(&o.lines, "lines", 600000, "of the log, 100 bytes each")
	f.IntVar(&o.execs, "execs", 50, "how often a program is run each way")
	f.StringVar(&o.json, "json", "bin/bench-streams.json", "file for all figures")
	if err := f.Parse(args); err != nil {
		return o, errUsage
	}
	if len(f.Args()) > 0 || o.rounds < 1 || o.lines < 1 || o.execs < 1 {
		fmt.Fprintln(w, "That cannot be measured. See -help.")
		return o, errUsage
	}
	return o, nil
}

// run does everything. The table goes to out, progress to progress.
func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	if missing := duo.Missing(); len(missing) > 0 {
		fmt.Fprintln(out, "Streams are not measured: "+strings.Join(missing, "; "))
		return nil
	}
	dir, err := os.MkdirTemp("", "spillway-streams-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d, err := duo.Start(ctx, duo.Options{Dir: dir, Root: ".", Progress: progress})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Down(context.WithoutCancel(ctx))) }()
	b, err := newBed(ctx, d, o.lines)
	if err != nil {
		return err
	}
	r := newResult(time.Now())
	if err := b.measure(ctx, o, r); err != nil {
		return err
	}
	fmt.Fprint(out, render(r))
	if err := figures.Write(o.json, r); err != nil {
		return err
	}
	fmt.Fprintf(progress, "All figures are in %s.\n", o.json)
	return r.short()
}
