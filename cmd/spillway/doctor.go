package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// doctorWish is what a user wants examined.
type doctorWish struct {
	local, remote access
	remoteGiven   bool
	name          string // of the Peering; empty: the one with the remote, or the only one
	pods          bool
	image         string
	timeout       time.Duration
	format        string
}

// diagnosis is what doctor prints.
type diagnosis struct {
	Command string  `json:"command"`
	OK      bool    `json:"ok"`
	Local   *side   `json:"local,omitempty"`
	Remote  *side   `json:"remote,omitempty"`
	Hops    []hop   `json:"hops"`
	Failed  *hop    `json:"failed,omitempty"` // the first that failed
	Error   *mishap `json:"error,omitempty"`  // why the path could not be walked
	Seconds float64 `json:"seconds"`
}

func doctorCommand(term terminal) *cobra.Command {
	var wish doctorWish
	cmd := &cobra.Command{
		Use:   "doctor [NAME]",
		Short: "Walk the path between two pod networks and name the hop that fails",
		Long: `Doctor looks at every hop between a pod of this cluster and one of the peer, in order: Peerings, controllers, the agents on
the nodes, their kernels, gateways, names, keys, firewall, handshake, addresses, packet size, routes, translation, probes
between gateways and between nodes, and, with --pods, two small pods. The first hop that fails is the cause of those after
it; doctor says how to mend it and ends with exit status 1.

Name the other cluster too (--remote-context): only from both ends can be told in which direction packets are lost.
NAME may be left out when there is one Peering, or when --remote-context tells which.`,
		Example: `  spillway doctor
  spillway doctor cloud --context home --remote-context cloud

  # also from pod to pod, both ways (in a temporary namespace)
  spillway doctor cloud --remote-context cloud --pods`,
		Args: atMostOneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				wish.name = args[0]
			}
			if err := wish.complete(); err != nil {
				return err
			}
			return runDoctor(cmd.Context(), term, wish)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	addAccessFlags(flags, &wish.local, &wish.remote)
	flags.BoolVar(&wish.pods, "pods", false, "also make a small pod here and one in the peer, and let them reach each other")
	flags.StringVar(&wish.image, "image", "", "image of those pods, which takes the arguments of spillwayd (default: the one that spillwayd runs in this cluster)")
	flags.DurationVar(&wish.timeout, "timeout", 2*time.Minute, "how long all of it may take")
	flags.StringVarP(&wish.format, "output", "o", "", "print json or yaml")
	return cmd
}

// complete checks the flags and fills in what follows from others.
func (w *doctorWish) complete() error {
	if w.name != "" {
		if err := checkName("NAME", w.name); err != nil {
			return err
		}
	}
	if w.timeout <= 0 {
		return usagef("Give a time like 60s or 2m.", "--timeout %s is not a time to wait", w.timeout)
	}
	w.remoteGiven = w.remote != access{}
	w.remote = remoteAccess(w.local, w.remote)
	return checkFormat(w.format, formatJSON, formatYAML)
}

// doctorRun is one run of doctor.
type doctorRun struct {
	wish         doctorWish
	steps        *steps
	home, remote *cluster // remote nil: not named
	atHome       *v1alpha1.Peering
	atRemote     *v1alpha1.Peering
}

func runDoctor(ctx context.Context, term terminal, wish doctorWish) error {
	ctx, cancel := context.WithTimeout(ctx, wish.timeout)
	defer cancel()
	d := &doctorRun{wish: wish, steps: newSteps(term, wish.format)}
	d.steps.w = term.err // what is shown on the way there; the findings go to out
	d.steps.style = styleFor(term.err)
	in, err := d.examine(ctx)
	result := diagnosis{Command: "doctor", Hops: []hop{}, Seconds: seconds(d.steps.took())}
	if d.atHome != nil {
		result.Local = sideOf(d.home, d.atHome.Name)
	}
	if d.atRemote != nil {
		result.Remote = sideOf(d.remote, d.atRemote.Name)
	}
	if err == nil {
		result.Hops, result.Failed = walk(in)
		err = result.verdict()
	} else {
		result.Error = mishapOf(err)
	}
	result.OK = err == nil
	d.steps.clear()
	printErr := result.print(term.out, wish.format)
	if err == nil {
		err = printErr
	}
	return asFailure(err)
}

// verdict is the error that the first failing hop makes.
func (d diagnosis) verdict() error {
	if d.Failed == nil {
		return nil
	}
	return problemf(d.Failed.Fix, "the path fails at %q: %s", d.Failed.Name, d.Failed.What)
}

func (d diagnosis) print(w io.Writer, format string) error {
	if format != "" {
		return printObject(w, format, d)
	}
	style := styleFor(w)
	marks := map[string]string{hopOK: style.good("✓"), hopFailed: style.bad("✗"), hopSkipped: style.dim("–")}
	for _, h := range d.Hops {
		if _, err := fmt.Fprintf(w, "%s %-22s %s\n", marks[h.Outcome], h.Name, h.What); err != nil {
			return err
		}
	}
	if len(d.Hops) > 0 && d.Failed == nil {
		_, err := fmt.Fprintln(w, "Every hop that was looked at is well.")
		return err
	}
	return nil
}

// examine gathers what the checks look at.
func (d *doctorRun) examine(ctx context.Context) (in inspection, err error) {
	if d.home, err = open(d.wish.local, "cluster"); err != nil {
		return in, err
	}
	if d.wish.remoteGiven {
		if d.remote, err = open(d.wish.remote, "other cluster"); err != nil {
			return in, err
		}
	}
	if err := d.find(ctx); err != nil {
		return in, err
	}
	in.sides = []sideView{{context: d.home.context, peering: d.atHome}}
	clusters := []*cluster{d.home}
	if d.remote != nil {
		in.sides = append(in.sides, sideView{context: d.remote.context, peering: d.atRemote})
		clusters = append(clusters, d.remote)
	}
	for i, c := range clusters {
		d.steps.current("looking at " + c.title())
		if in.sides[i].peering == nil {
			continue
		}
		if err := in.sides[i].gather(ctx, c); err != nil {
			return in, err
		}
	}
	if in.anyDown() {
		d.steps.current(fmt.Sprintf("counting packets for %s", countFor))
		if err := in.count(ctx, clusters); err != nil {
			return in, err
		}
	}
	if d.wish.pods && in.mode() != v1alpha1.TunnelModeOff {
		d.steps.current("making pods")
		in.pods = d.tryPods(ctx)
	}
	in.now = d.home.clock.now()
	return in, nil
}

// find reads the Peerings of both clusters.
func (d *doctorRun) find(ctx context.Context) error {
	for _, c := range []*cluster{d.home, d.remote} {
		if c == nil {
			continue
		}
		if err := reach(ctx, c); err != nil {
			return err
		}
		if err := identify(ctx, c); err != nil {
			return err
		}
	}
	list, err := d.home.peerings.List(ctx, metav1.ListOptions{})
	if err != nil {
		return explain(d.home, "list Peerings", err)
	}
	if len(list.Items) == 0 {
		return problemf(howToPeer(d.home.context), "%s is not peered with any cluster", d.home.title())
	}
	if d.atHome, err = pick(d.home, list.Items, d.wish.name, d.remote); err != nil || d.remote == nil {
		return err
	}
	there, err := d.remote.peerings.List(ctx, metav1.ListOptions{})
	if err != nil {
		return explain(d.remote, "list Peerings", err)
	}
	for i := range there.Items {
		if there.Items[i].Spec.ClusterID == d.home.id {
			d.atRemote = &there.Items[i]
		}
	}
	return nil
}
