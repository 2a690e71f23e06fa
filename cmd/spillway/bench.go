package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// benchWish is what a user wants measured.
type benchWish struct {
	local    access
	name     string // of the Peering; empty: the only one that borrows
	image    string
	duration time.Duration
	count    int
	timeout  time.Duration
	format   string
}

const formatTable = "table"

// benchResult is what bench network prints.
type benchResult struct {
	Command string  `json:"command"`
	OK      bool    `json:"ok"`
	Peering string  `json:"peering,omitempty"`
	Image   string  `json:"image,omitempty"`
	Tunnel  *way    `json:"tunnel,omitempty"` // from a pod here to a pod in the peer
	Beside  *way    `json:"beside,omitempty"` // between two pods here
	Steps   []step  `json:"steps"`
	Error   *mishap `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
}

// way is what was measured between two pods.
type way struct {
	Client string `json:"client"` // node
	Server string `json:"server"` // node
	trip   `json:",inline"`
}

func benchCommand(term terminal) *cobra.Command {
	bench := &cobra.Command{
		Use:   "bench",
		Short: "Measure what a peering carries",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var wish benchWish
	network := &cobra.Command{
		Use:   "network [NAME]",
		Short: "Measure throughput and round trips between pods, through the tunnel and beside it",
		Long: `Network measures between a pod of this cluster and one of the peer, and, to compare, between two pods of this cluster: TCP
throughput each way, and round trips of TCP and UDP. The pods are in a temporary namespace, which is removed at the end,
also when the command is interrupted. Whatever else uses the network meanwhile counts too.

The pods run spillwayd's own image, as found in the cluster, or the one of --image.`,
		Example: `  spillway bench network
  spillway bench network cloud --duration 10s
  spillway bench network cloud --image registry.example.org/spillwayd:v1 -o json`,
		Args: atMostOneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				wish.name = args[0]
			}
			if err := wish.check(); err != nil {
				return err
			}
			return runBench(cmd.Context(), term, wish)
		},
	}
	flags := network.Flags()
	flags.SortFlags = false
	addAccessFlags(flags, &wish.local, nil)
	flags.StringVar(&wish.image, "image", "", "image of the pods, which takes the arguments of spillwayd (default: the one that spillwayd runs in this cluster)")
	flags.DurationVar(&wish.duration, "duration", 5*time.Second, "length of each throughput run")
	flags.IntVar(&wish.count, "count", 1000, "round trips, of TCP and of UDP each")
	flags.DurationVar(&wish.timeout, "timeout", 3*time.Minute, "how long all of it may take")
	flags.StringVarP(&wish.format, "output", "o", formatTable, "table, json or yaml (with the latter two the steps go to stderr)")
	bench.AddCommand(network)
	return bench
}

func (w *benchWish) check() error {
	if w.name != "" {
		if err := checkName("NAME", w.name); err != nil {
			return err
		}
	}
	switch {
	case w.duration < 100*time.Millisecond || w.duration > time.Minute:
		return usagef("Give a time from 100ms to 1m.", "--duration %s cannot be measured", w.duration)
	case w.count < 10 || w.count > 100000:
		return usagef("Give a number from 10 to 100000.", "--count %d cannot be measured", w.count)
	case w.timeout <= 0:
		return usagef("Give a time like 60s or 2m.", "--timeout %s is not a time to wait", w.timeout)
	}
	return checkFormat(w.format, formatTable, formatJSON, formatYAML)
}

// benchRun is one run of bench network.
type benchRun struct {
	wish   benchWish
	steps  *steps
	c      *cluster
	bed    *bed
	result benchResult
}

func runBench(ctx context.Context, term terminal, wish benchWish) error {
	ctx, cancel := context.WithTimeout(ctx, wish.timeout)
	defer cancel()
	r := &benchRun{wish: wish, steps: newSteps(term, wish.format), result: benchResult{Command: "bench network"}}
	err := r.run(ctx)
	r.result.Steps, r.result.Seconds, r.result.OK = r.steps.done, seconds(r.steps.took()), err == nil
	if err != nil {
		r.result.Error = mishapOf(err)
	}
	if wish.format == formatJSON || wish.format == formatYAML {
		if printErr := printObject(term.out, wish.format, r.result); err == nil {
			err = printErr
		}
	} else if err == nil {
		err = r.result.print(term.out)
	}
	return asFailure(err)
}

func (r *benchRun) run(ctx context.Context) (err error) {
	if r.c, err = open(r.wish.local, "consumer"); err != nil {
		return err
	}
	var peering *v1alpha1.Peering
	err = r.steps.run("there is such a Peering", func() (result string, err error) {
		peering, err = r.find(ctx)
		if err != nil {
			return "", err
		}
		r.result.Peering = peering.Name
		return peering.Name, nil
	})
	if err != nil {
		return err
	}
	defer func() {
		if r.bed == nil || r.bed.namespace == "" {
			return
		}
		clearErr := r.steps.run("temporary namespace is gone", func() (string, error) { return "", r.bed.clear(ctx) })
		if err == nil {
			err = clearErr
		}
	}()
	err = r.steps.run("temporary namespace", func() (result string, err error) {
		r.bed, err = newBed(ctx, r.c, peering, r.wish.image, r.steps)
		r.result.Image = r.bed.image
		return r.bed.namespace, err
	})
	if err != nil {
		return err
	}
	return r.measure(ctx)
}

// find picks the Peering and checks that pods of this cluster reach pods of the peer.
func (r *benchRun) find(ctx context.Context) (*v1alpha1.Peering, error) {
	if err := reach(ctx, r.c); err != nil {
		return nil, err
	}
	rights := []right{{verb: "create", resource: "namespaces"}, {verb: "delete", resource: "namespaces"}, {verb: "create", resource: "pods"}, {verb: "watch", resource: "pods"}}
	if err := checkRights(ctx, r.c, rights); err != nil {
		return nil, err
	}
	peerings, err := listPeerings(ctx, r.c, r.wish.name)
	if err != nil {
		return nil, err
	}
	peering, err := pickBorrowing(r.c, peerings)
	if err != nil {
		return nil, err
	}
	return peering, checkBench(peering)
}

// pickBorrowing picks the only one of peerings that borrows.
func pickBorrowing(c *cluster, peerings []v1alpha1.Peering) (*v1alpha1.Peering, error) {
	var found []v1alpha1.Peering
	for _, p := range peerings {
		if p.Spec.Borrow != nil {
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 1:
		return &found[0], nil
	case len(found) > 1:
		return nil, problemf("Name one of: "+peeringNames(found)+".", "%s borrows from %d clusters", c.title(), len(found))
	}
	return nil, problemf(howToPeer(c.context), "%s borrows from nobody, so no pod of it can run in a peer", c.title())
}

// checkBench says why pods of the two clusters do not reach each other.
func checkBench(p *v1alpha1.Peering) error {
	switch {
	case modeOf(p) == v1alpha1.TunnelModeOff:
		return problemf("Ask for a tunnel: spillway peer --tunnel Tunnel with both contexts.", "the tunnel of Peering %q is Off, so its pods are not reached", p.Name)
	case modeOf(p) == v1alpha1.TunnelModeTunnel && !holds(p, v1alpha1.ConditionTunnelUp):
		what, do := whyNot(p, []string{v1alpha1.ConditionTunnelUp})
		return problemf(do, "the tunnel of Peering %q is not up: %s", p.Name, what)
	}
	return nil
}

// measure makes the servers, then measures beside the tunnel and through it, one after the other on one node.
func (r *benchRun) measure(ctx context.Context) error {
	servers := map[string]*way{nearServer: {}, farServer: {}}
	for _, name := range []string{nearServer, farServer} {
		err := r.steps.run("pod "+name+" is made", func() (string, error) {
			return "", r.bed.add(ctx, benchPod{name: name, args: []string{"serve"}, far: name == farServer})
		})
		if err != nil {
			return err
		}
	}
	node := ""
	for _, run := range []struct {
		server string
		title  string
		result **way
	}{{nearServer, "measured beside the tunnel", &r.result.Beside}, {farServer, "measured through the tunnel", &r.result.Tunnel}} {
		var server = servers[run.server]
		err := r.steps.run(run.title, func() (string, error) {
			pod, err := r.bed.running(ctx, run.server)
			if err != nil {
				return "", err
			}
			address, err := addressOf(pod)
			if err != nil {
				return "", err
			}
			server.Server = pod.Spec.NodeName
			args := []string{"--duration", r.wish.duration.String(), "--count", fmt.Sprint(r.wish.count)}
			got, client, err := r.bed.measure(ctx, benchPod{name: run.server + "-client", args: args, node: node}, address)
			if err != nil {
				return "", err
			}
			node = client.Spec.NodeName
			server.Client, server.trip = node, got
			*run.result = server
			return fmt.Sprintf("%s up, %s down", bitRate(got.UpBitsPerSecond), bitRate(got.DownBitsPerSecond)), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// print writes r as a table.
func (r benchResult) print(w io.Writer) error {
	fmt.Fprintf(w, "\nFrom a pod on %s to one on %s (through the tunnel) and to one on %s (beside it):\n\n", r.Tunnel.Client, r.Tunnel.Server, r.Beside.Server)
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\tTUNNEL\tBESIDE\tRATIO")
	for _, line := range []struct {
		name string
		get  func(*way) float64
		show func(float64) string
	}{
		{"TCP to the peer", func(w *way) float64 { return w.UpBitsPerSecond }, bitRate},
		{"TCP from the peer", func(w *way) float64 { return w.DownBitsPerSecond }, bitRate},
		{"TCP round trip, median", func(w *way) float64 { return w.TCP.MedianMicros }, micros},
		{"TCP round trip, p99", func(w *way) float64 { return w.TCP.P99Micros }, micros},
		{"UDP round trip, median", func(w *way) float64 { return w.UDP.MedianMicros }, micros},
		{"UDP round trip, p99", func(w *way) float64 { return w.UDP.P99Micros }, micros},
		{"UDP lost", func(w *way) float64 { return 100 * float64(w.UDP.Lost) / float64(max(w.UDP.Count, 1)) }, func(v float64) string { return fmt.Sprintf("%.1f %%", v) }},
	} {
		a, b := line.get(r.Tunnel), line.get(r.Beside)
		ratio := "-"
		if b > 0 {
			ratio = fmt.Sprintf("%.2f", a/b)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", line.name, line.show(a), line.show(b), ratio)
	}
	return table.Flush()
}

func micros(v float64) string { return milliseconds(time.Duration(v) * time.Microsecond) }

// bitRate shows bits per second: 940 Mbit/s, 3.1 Gbit/s.
func bitRate(v float64) string {
	for _, unit := range []string{"bit/s", "kbit/s", "Mbit/s"} {
		if v < 1000 {
			return fmt.Sprintf("%.0f %s", v, unit)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.1f Gbit/s", v)
}
