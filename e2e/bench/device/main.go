// Command device measures a WireGuard device of Spillway in userspace against wireguard-go as it comes, between the
// same kind of namespaces in the same run, and what a device with 100 idle peers costs. As root, on a quiet machine:
//
//	go run ./e2e/bench/device
//	go run ./e2e/bench/device -rounds 9 -duration 3s -idle 0
//
// It knows nothing of Kubernetes, translation or filters: it shows what the device alone costs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if os.Getenv(roleVariable) != "" {
		os.Exit(childMain())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	rounds    int
	duration  time.Duration
	peers     int
	idlePeers int
	idle      time.Duration
	json      bool
}

// report is all that was measured.
type report struct {
	Throughput []series `json:"throughput"`
	Idle       *idle    `json:"idle,omitempty"`
}

func run(ctx context.Context, args []string, w io.Writer) error {
	var o options
	f := flag.NewFlagSet("device", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 7, "how often each device is measured, in turn")
	f.DurationVar(&o.duration, "duration", 2*time.Second, "of a measurement, each way")
	f.IntVar(&o.peers, "peers", 250, "peers on the device with many")
	f.IntVar(&o.idlePeers, "idle-peers", 100, "peers of the idle device")
	f.DurationVar(&o.idle, "idle", 60*time.Second, "how long the idle device is watched; 0: not at all")
	f.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	if err := f.Parse(args); err != nil {
		return err
	}
	var r report
	var err error
	if o.rounds > 0 {
		if r.Throughput, err = throughput(ctx, o); err != nil {
			return err
		}
	}
	if o.idle > 0 {
		cost, err := watchIdle(ctx, o)
		if err != nil {
			return err
		}
		r.Idle = &cost
	}
	if o.json {
		return json.NewEncoder(w).Encode(r)
	}
	return r.print(w, o)
}

func (r report) print(w io.Writer, o options) error {
	for _, s := range r.Throughput {
		if _, err := fmt.Fprintf(w, "%-28s %6.2f Gb/s  (%.2f–%.2f)  %.3f of wireguard-go; %.2f CPU s per GB, %.3f\n",
			s.Name, s.Median/1e9, s.Least/1e9, s.Most/1e9, s.Ratio, s.CPUPerGB, s.CPURatio); err != nil {
			return err
		}
	}
	if r.Idle == nil {
		return nil
	}
	_, err := fmt.Fprintf(w, "idle, %d peers in session      %.2f %% of a core, %.1f MiB resident (%.1f MiB its own), over %v\n",
		o.idlePeers, r.Idle.CorePercent, r.Idle.ResidentMiB, r.Idle.OwnMiB, o.idle)
	return err
}
