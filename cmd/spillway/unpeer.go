package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// unpeerWish is what a user wants to be un-peered.
type unpeerWish struct {
	local, remote access
	remoteGiven   bool   // the user named the other cluster
	name          string // of the Peering; empty: the one with the remote, or the only one
	borrowOnly    bool
	force         bool
	dryRun        bool
	timeout       time.Duration
	format        string
}

// unpeerRun is one run of unpeer. Home is the cluster of --context, be it consumer or provider.
type unpeerRun struct {
	wish      unpeerWish
	steps     *steps
	home      *cluster
	remote    *cluster // the other one as the user named it; nil: not named, or it does not answer
	remoteWhy string   // why remote is nil although it was named
	peering   *v1alpha1.Peering
	other     located
	nodes     []corev1.Node // virtual nodes of peering at home
	pods      []corev1.Pod  // bound to them
	remains   []string
	within    bool // another command un-peers and has the last word
}

func unpeerCommand(term terminal) *cobra.Command {
	var wish unpeerWish
	cmd := &cobra.Command{
		Use:   "unpeer [NAME]",
		Short: "Bring the pods home and forget a peer",
		Long: `Unpeer removes a peering at both ends. The pods on the virtual node are deleted, so that their controllers make new ones
elsewhere; the node goes, then what the provider made for this cluster. It shows how far it is and ends when all is gone.

A provider that does not answer is no obstacle: this cluster is cleaned, and the last lines say what is left over there
and how to remove it later. NAME may be left out when there is one Peering, or when --remote-context tells which.`,
		Example: `  # what would happen to which pods?
  spillway unpeer cloud --dry-run

  # un-peer; the provider is looked for in the kubeconfig
  spillway unpeer --context home cloud

  # pods go both ways, and only those of this cluster shall come back
  spillway unpeer cloud --borrow-only

  # at a provider whose consumer is lost
  spillway unpeer --context cloud home`,
		Args: atMostOneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				wish.name = args[0]
			}
			if err := wish.complete(); err != nil {
				return err
			}
			return runUnpeer(cmd.Context(), term, wish)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	addAccessFlags(flags, &wish.local, &wish.remote)
	flags.BoolVar(&wish.dryRun, "dry-run", false, "only say what would happen to which pods")
	flags.BoolVar(&wish.borrowOnly, "borrow-only", false, "only stop borrowing; keep sharing with that peer")
	flags.BoolVar(&wish.force, "force", false, "if no spillwayd runs to do it, remove node, pods and finalizers from here; pods are not ended gently")
	flags.DurationVar(&wish.timeout, "timeout", 2*time.Minute, "how long to wait for the end in all")
	flags.StringVarP(&wish.format, "output", "o", "", "print one object at the end, as json or yaml (the steps then go to stderr)")
	return cmd
}

// complete checks the flags and fills in what follows from others.
func (w *unpeerWish) complete() error {
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

// runUnpeer un-peers as wish says.
func runUnpeer(ctx context.Context, term terminal, wish unpeerWish) error {
	ctx, cancel := context.WithTimeout(ctx, wish.timeout)
	defer cancel()
	u := &unpeerRun{wish: wish, steps: newSteps(term, wish.format)}
	err := u.run(ctx)
	return conclude(term, u.steps, wish.format, u.outcome(), err)
}

func (u *unpeerRun) outcome() outcome {
	result := outcome{Command: "unpeer", DryRun: u.wish.dryRun, Remains: u.remains}
	if u.peering == nil {
		return result
	}
	home, other := sideOf(u.home, u.peering.Name), sideOf(u.other.cluster, "")
	if u.other.peering != nil {
		other.Peering = u.other.peering.Name
	}
	result.Consumer, result.Provider = home, other
	if u.peering.Spec.Borrow == nil {
		result.Consumer, result.Provider = other, home
		return result
	}
	for _, node := range u.nodes {
		result.Nodes = append(result.Nodes, node.Name)
	}
	fates := judgePods(u.pods)
	result.Pods = &fates
	return result
}

func (u *unpeerRun) run(ctx context.Context) error {
	if err := u.open(); err != nil {
		return err
	}
	if err := u.steps.run("the API server answers", func() (string, error) { return u.reach(ctx) }); err != nil {
		return err
	}
	if err := u.steps.run("there is such a Peering", func() (string, error) { return u.find(ctx) }); err != nil {
		return err
	}
	if u.wish.borrowOnly && u.peering.Spec.Borrow == nil {
		return problemf("Leave --borrow-only out to stop sharing.", "the Peering %q of %s borrows nothing", u.peering.Name, u.home.title())
	}
	finding := make(chan located, 1)
	go func() { finding <- u.locate(ctx) }() // may take seconds when the peer is dead; its pods need not wait for that
	if err := u.preview(ctx); err != nil {
		<-finding
		return err
	}
	if u.wish.dryRun {
		u.other = <-finding
		u.sayRemote()
		u.steps.headline("This was a dry run: nothing was changed.")
		return nil
	}
	return u.remove(ctx, finding)
}

// open makes the clients. It talks to no cluster.
func (u *unpeerRun) open() (err error) {
	if u.home, err = open(u.wish.local, "cluster"); err != nil {
		return err
	}
	if u.wish.remoteGiven {
		u.remote, err = open(u.wish.remote, "other cluster")
	}
	return err
}

// reach asks home and, if it was named, the remote. A remote that does not answer or that has no Spillway is no
// obstacle; one that refuses the user is, since the user can mend it.
func (u *unpeerRun) reach(ctx context.Context) (string, error) {
	if u.remote == nil {
		return u.home.server, reach(ctx, u.home)
	}
	var remoteErr error
	err := both(u.home, u.remote, func(c *cluster) error {
		if c == u.home {
			return reach(ctx, c)
		}
		if remoteErr = reach(ctx, c); remoteErr == nil {
			remoteErr = identify(ctx, c)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	var p *problem
	if errors.As(remoteErr, &p) {
		if p.cause != nil && !unreachable(p.cause) {
			return "", remoteErr
		}
		u.remoteWhy = p.what
	}
	return u.home.server, nil
}

// find picks the Peering that is meant.
func (u *unpeerRun) find(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	list, err := u.home.peerings.List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", explain(u.home, "list Peerings", err)
	}
	peering, err := pick(u.home, list.Items, u.wish.name, u.remote)
	if err != nil {
		return "", err
	}
	u.home.role = "provider"
	if peering.Spec.Borrow != nil {
		u.home.role = "consumer"
	}
	if u.remoteWhy != "" {
		u.remote = nil
	}
	u.peering = peering
	return fmt.Sprintf("%s (%s)", peering.Name, roleOf(peering)), nil
}

// preview looks at what runs on the virtual nodes and says what will become of it.
func (u *unpeerRun) preview(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*reachTimeout)
	defer cancel()
	if line := tunnelFate(u.peering, u.wish.borrowOnly); line != "" {
		u.steps.note("%s", line)
	}
	if u.peering.Spec.Borrow == nil {
		return u.previewTwins(ctx)
	}
	nodes, err := virtualNodes(ctx, u.home, u.peering.Name)
	if err != nil {
		return err
	}
	u.nodes = nodes
	for _, node := range nodes {
		pods, err := u.home.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, onNode(node.Name))
		if err != nil {
			return explain(u.home, "list the pods on node "+node.Name, err)
		}
		u.pods = append(u.pods, pods.Items...)
	}
	for _, line := range judgePods(u.pods).lines() {
		u.steps.note("%s", line)
	}
	return nil
}

func (u *unpeerRun) previewTwins(ctx context.Context) error {
	twins, err := u.home.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelOrigin + "=" + u.peering.Spec.ClusterID})
	if err != nil {
		return explain(u.home, "list the pods of the consumer", err)
	}
	if len(twins.Items) == 0 {
		u.steps.note("No pods of that consumer run here.")
		return nil
	}
	u.steps.note("%s of that consumer run here and will be stopped.", plural(len(twins.Items), "pod"))
	return nil
}

// virtualNodes lists the Nodes in c that stand for the Peering of this name.
func virtualNodes(ctx context.Context, c *cluster, peering string) ([]corev1.Node, error) {
	list, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelPeer + "=" + peering})
	if err != nil {
		return nil, explain(c, "list the virtual nodes", err)
	}
	return list.Items, nil
}
