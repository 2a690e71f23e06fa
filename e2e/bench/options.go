package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// errUsage marks a command line that cannot be used; what is wrong has been printed.
var errUsage = errors.New("wrong usage")

// options are what was asked for.
type options struct {
	pods   []int // numbers of pods, ascending
	rounds int
	rtts   []time.Duration // ascending; the first is 0
	single int             // pods one after another
	audit  bool
	calm   bool // wait for other programs, and repeat what they disturbed
	json   string

	writeDocs bool

	kubeconfig, consumer, provider string // of clusters that exist already
	node                           string // the virtual node
	image                          string
}

// outside says that the clusters are not ours.
func (o options) outside() bool { return o.consumer != "" }

func (o options) mostPods() int { return o.pods[len(o.pods)-1] }

func parse(args []string, w io.Writer) (options, error) {
	var o options
	var pods, rtts string
	var quick bool
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(w)
	f.StringVar(&pods, "n", "10,100,1000", "numbers of pods")
	f.IntVar(&o.rounds, "rounds", 3, "how often each load is measured")
	f.StringVar(&rtts, "rtt", "0,50ms,200ms", "round trips to the provider's API server, for the largest number of pods")
	f.IntVar(&o.single, "single", 20, "pods made one after another, of either kind")
	f.BoolVar(&o.audit, "audit", true, "count what spillwayd alone writes, in a separate pass that is not timed")
	f.BoolVar(&o.calm, "calm", false, "wait until other programs are at rest, and repeat (twice at most) what they disturbed")
	f.StringVar(&o.json, "json", "bin/bench.json", "file for all figures")
	f.BoolVar(&quick, "quick", false, "one round of 10 and 100 pods, without delays")
	f.BoolVar(&o.writeDocs, "write-docs", false, "put the table into "+docsPath)
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "measure clusters that exist already: their kubeconfig")
	f.StringVar(&o.consumer, "consumer-context", "", "context of the consumer in it")
	f.StringVar(&o.provider, "provider-context", "", "context of the provider in it")
	f.StringVar(&o.node, "node", "", "name of the consumer's virtual node")
	f.StringVar(&o.image, "image", "registry.k8s.io/pause:3.10", "image of the pods; simulated nodes do not pull it")
	if err := f.Parse(args); err != nil {
		return o, errUsage
	}
	if quick {
		setUnlessGiven(f, map[string]string{"n": "10,100", "rounds": "1", "rtt": "0", "single": "5", "audit": "false"})
	}
	err := o.complete(pods, rtts, f.Args())
	if err != nil {
		fmt.Fprintf(w, "%s. See -help.\n", err)
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

func (o *options) complete(pods, rtts string, rest []string) (err error) {
	if len(rest) > 0 {
		return fmt.Errorf("there is an argument too much: %q", rest[0])
	}
	if o.pods, err = parseList(pods, strconv.Atoi); err != nil || o.pods[0] < 1 {
		return fmt.Errorf("-n %s: give numbers of pods like 10,100,1000", pods)
	}
	if o.rtts, err = parseList(rtts, time.ParseDuration); err != nil || o.rtts[0] < 0 {
		return fmt.Errorf("-rtt %s: give times like 0,50ms,200ms", rtts)
	}
	if o.rtts[0] != 0 {
		o.rtts = slices.Insert(o.rtts, 0, 0) // what the others are compared with
	}
	if o.rounds < 1 || o.single < 0 {
		return errors.New("-rounds is at least 1, -single at least 0")
	}
	if !o.outside() && o.provider == "" && o.node == "" && o.kubeconfig == "" {
		return nil
	}
	if o.consumer == "" || o.provider == "" || o.node == "" {
		return errors.New("to measure clusters that exist already, give -consumer-context, -provider-context and -node (and -kubeconfig)")
	}
	o.rtts = o.rtts[:1] // there is no link of ours to slow down
	return nil
}

// parseList parses a,b,c, sorts and removes what is there twice.
func parseList[T int | time.Duration](s string, parse func(string) (T, error)) ([]T, error) {
	var list []T
	for word := range strings.SplitSeq(s, ",") {
		v, err := parse(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}
