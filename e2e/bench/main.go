// Command bench measures Spillway against plain Kubernetes on the same machine, in the same run.
//
// It knows loads (N pods made in one way and deleted again), what they cost, and how to compare them. It does not know
// how Spillway works: it makes Deployments, and watches pods as any client can. Run it on a quiet machine:
//
//	go run ./e2e/bench                                # two clusters of its own
//	go run ./e2e/bench -quick                         # a minute, for a first impression
//	go run ./e2e/bench -kubeconfig ~/.kube/config -consumer-context home -provider-context cloud -node spillway-cloud
//
// Three loads take turns, so that what disturbs the machine disturbs all of them:
//
//	plain     a Deployment in the provider, on its own nodes
//	floor     two independent plain Deployments at once, one in each cluster: what any transparent offloader has to pay
//	          for when both clusters share the machine
//	spillway  a Deployment in the consumer, on the virtual node
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

	"k8s.io/klog/v2"

	"github.com/spillway-dev/spillway/e2e/bench/figures"
)

func main() {
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
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// run does everything and returns what went wrong. The table goes to out, progress to progress.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard) // client-go complains about the watches that end with the clusters
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	say := newTeller(progress)
	result := newResult(o, time.Now())
	if warning := result.Machine.busyWarning(); warning != "" {
		say.line("%s", warning)
	}
	if err := measure(ctx, o, result, say); err != nil {
		return err
	}
	if o.audit && !o.outside() {
		if err := auditPass(ctx, o, result, say); err != nil {
			return err
		}
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

// measure brings up the clusters, or finds them, and runs all loads.
func measure(ctx context.Context, o options, result *result, say *teller) error {
	b, err := openBed(ctx, o, say, false)
	if err != nil {
		return err
	}
	defer b.close(context.WithoutCancel(ctx))
	if result.Kubernetes, err = b.version(); err != nil {
		return err
	}
	s := &series{options: o, bed: b, result: result, say: say}
	if err := s.warmUp(ctx); err != nil {
		return err
	}
	if err := s.rounds(ctx); err != nil {
		return err
	}
	return s.onePod(ctx)
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

// Write takes the progress of the lab, line by line.
func (t *teller) Write(p []byte) (int, error) {
	t.line("%s", trimNewline(p))
	return len(p), nil
}

func trimNewline(p []byte) []byte {
	for len(p) > 0 && p[len(p)-1] == '\n' {
		p = p[:len(p)-1]
	}
	return p
}
