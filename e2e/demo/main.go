// Command demo shows the whole way of Spillway on two Kubernetes clusters of this machine: peer, run, scale, heal, overflow
// and come home, migrate and come back, un-peer, nothing left. It checks each thing it claims, and ends with 1 when one does
// not come true.
//
// It knows the story and how to tell it. The clusters come from the lab; all that happens in them is done by the commands
// that people type, which are shown.
//
//	make demo            two clusters, gone at the end
//	make demo KEEP=1     the same, and the clusters stay for playing
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard) // client-go complains about connections that end with the clusters
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	simulated := f.Bool("simulated", false, "simulated nodes, even where real ones would work")
	if err := f.Parse(args); err != nil || f.NArg() > 0 {
		return exitUsage
	}
	show := newShow(os.Stdout)
	d := &demo{show: show, keep: os.Getenv("KEEP") != "" && os.Getenv("KEEP") != "0", simulated: *simulated}
	err := d.play(ctx)
	switch {
	case err == nil && d.keep:
		d.farewell()
	case err != nil && ctx.Err() == nil:
		show.failed(err)
		d.saveLogs()
	}
	if !d.keep || err != nil {
		err = errors.Join(err, d.takeAway(context.WithoutCancel(ctx)))
	}
	switch {
	case ctx.Err() != nil:
		show.plain("Interrupted; nothing is left.")
		return exitInterrupted
	case err != nil:
		return exitFailed
	}
	show.plain("\n%s", show.good(fmt.Sprintf("All of it came true, in %s.", seconds(show.took()))))
	return 0
}
