package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"
)

// errUsage marks a command line that cannot be used; what is wrong has been printed.
var errUsage = errors.New("wrong usage")

// options are what was asked for.
type options struct {
	rounds    int
	duration  time.Duration // of each throughput run, each way
	count     int           // of round trips
	peers     int           // of the gateways with many
	idlePeers int
	idle      time.Duration
	json      string
	profiles  string

	writeDocs bool
}

func parse(args []string, w io.Writer) (options, error) {
	var o options
	var quick bool
	f := flag.NewFlagSet("tunnel", flag.ContinueOnError)
	f.SetOutput(w)
	f.IntVar(&o.rounds, "rounds", 3, "how often each way is measured; 0: not at all")
	f.DurationVar(&o.duration, "duration", 5*time.Second, "of each measurement of throughput, each way")
	f.IntVar(&o.count, "count", 2000, "round trips of TCP and of UDP in each measurement")
	f.IntVar(&o.peers, "peers", 250, "peers of the gateways that have many, at most 250")
	f.IntVar(&o.idlePeers, "idle-peers", 100, "peers of the idle gateway, at most 250")
	f.DurationVar(&o.idle, "idle", 30*time.Second, "how long the idle gateway is watched; 0: not at all")
	f.StringVar(&o.json, "json", "bin/bench-tunnel.json", "file for all figures")
	f.StringVar(&o.profiles, "profiles", "", "folder for processor profiles of the gateways; they cost a little")
	f.BoolVar(&quick, "quick", false, "one round of short measurements")
	f.BoolVar(&o.writeDocs, "write-docs", false, "put the table into "+docsPath)
	if err := f.Parse(args); err != nil {
		return o, errUsage
	}
	if quick {
		setUnlessGiven(f, map[string]string{"rounds": "1", "duration": "2s", "idle": "10s"})
	}
	const most = 250
	if len(f.Args()) > 0 || o.rounds < 0 || o.peers < 1 || o.peers > most || o.idlePeers < 1 || o.idlePeers > most {
		fmt.Fprintf(w, "That cannot be measured. See -help.\n")
		return o, errUsage
	}
	return o, nil
}

func setUnlessGiven(f *flag.FlagSet, values map[string]string) {
	f.Visit(func(given *flag.Flag) { delete(values, given.Name) })
	for name, value := range values {
		if err := f.Set(name, value); err != nil {
			panic(err) // a value of ours
		}
	}
}
