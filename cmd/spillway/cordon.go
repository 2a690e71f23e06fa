package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// cordonWish is a peer that is to take new pods, or none.
type cordonWish struct {
	local  access
	peer   string
	shut   bool
	dryRun bool
	format string
}

func cordonCommand(term terminal) *cobra.Command {
	return cordoning(term, cordonWish{shut: true}, &cobra.Command{
		Use:   "cordon PEER",
		Short: "Let no new pods go to a peer",
		Long: `Cordon marks the virtual nodes of a peer unschedulable, as kubectl cordon does: no new pods go there. Those that run there stay;
spillway drain takes them away.`,
		Example: `  spillway cordon cloud`,
	})
}

func uncordonCommand(term terminal) *cobra.Command {
	return cordoning(term, cordonWish{}, &cobra.Command{
		Use:     "uncordon PEER",
		Short:   "Let new pods go to a peer again",
		Example: `  spillway uncordon cloud`,
	})
}

func cordoning(term terminal, wish cordonWish, cmd *cobra.Command) *cobra.Command {
	cmd.Args = onePeer
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		wish.peer = args[0]
		if err := checkFormat(wish.format, formatJSON, formatYAML); err != nil {
			return err
		}
		s := newSteps(term, wish.format)
		nodes, err := runCordon(cmd.Context(), s, wish)
		return concludeMove(term, s, wish.format, moveOutcome{Command: cmd.Name(), DryRun: wish.dryRun, Nodes: nodes}, err)
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&wish.dryRun, "dry-run", false, "only say which nodes are meant")
	flags.StringVarP(&wish.format, "output", "o", "", "print one object at the end, as json or yaml (the steps then go to stderr)")
	addAccessFlags(flags, &wish.local, nil)
	return cmd
}

// onePeer refuses anything but the name of one peer with a sentence.
func onePeer(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("See which there are: spillway status", "%s takes the name of one peer, but got %d", cmd.Name(), len(args))
	}
	return checkName("PEER", args[0])
}

// runCordon closes or opens the virtual nodes of a peer and returns their names.
func runCordon(ctx context.Context, s *steps, wish cordonWish) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*reachTimeout)
	defer cancel()
	c, err := open(wish.local, "cluster")
	if err != nil {
		return nil, err
	}
	if err := s.run("the API server answers", func() (string, error) { return c.server, reach(ctx, c) }); err != nil {
		return nil, err
	}
	nodes, err := nodesOfPeer(ctx, c, wish.peer)
	if err != nil {
		return nil, err
	}
	names := nodeNames(nodes)
	if wish.dryRun {
		s.headline("This was a dry run: nothing was changed. Meant are: %s", strings.Join(names, ", "))
		return names, nil
	}
	return names, cordonNodes(ctx, c, s, nodes, wish.shut)
}

// nodesOfPeer are the virtual nodes of a peer of c; a problem when there is no such peer, or it has none.
func nodesOfPeer(ctx context.Context, c *cluster, peer string) ([]corev1.Node, error) {
	nodes, err := virtualNodes(ctx, c, peer)
	if err != nil || len(nodes) > 0 {
		return nodes, err
	}
	list, err := c.peerings.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, explain(c, "list Peerings", err)
	}
	p := find(list.Items, peer)
	switch {
	case p == nil && len(list.Items) == 0:
		return nil, problemf(howToPeer(c.context), "%s has no peer %q, nor any other", c.title(), peer)
	case p == nil:
		return nil, problemf("There are: "+peeringNames(list.Items)+".", "%s has no peer %q", c.title(), peer)
	case p.Spec.Borrow == nil:
		return nil, problemf("Do it there: spillway cordon, in the cluster whose pods run here.", "the Peering %q only shares: no pods of %s run there", peer, c.title())
	}
	what, do := whyNot(p, []string{v1alpha1.ConditionAuthenticated, v1alpha1.ConditionNodeReady})
	return nil, problemf(do, "the peer %s has no virtual node yet: %s", peer, what)
}

func nodeNames(nodes []corev1.Node) []string {
	names := make([]string, len(nodes))
	for i := range nodes {
		names[i] = nodes[i].Name
	}
	return names
}

// cordonNodes writes spec.unschedulable of nodes, where it is not so already.
func cordonNodes(ctx context.Context, c *cluster, s *steps, nodes []corev1.Node, shut bool) error {
	word := map[bool]string{true: "cordoned", false: "open"}[shut]
	for i := range nodes {
		err := s.run(fmt.Sprintf("node %s is %s", nodes[i].Name, word), func() (string, error) {
			if nodes[i].Spec.Unschedulable == shut {
				return unchanged, nil
			}
			patch := fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, shut)
			if !shut {
				patch = `{"spec":{"unschedulable":null}}`
			}
			_, err := c.kube.CoreV1().Nodes().Patch(ctx, nodes[i].Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: managerMoves})
			if err != nil {
				return "", explain(c, "change node "+nodes[i].Name, err)
			}
			s.changed = true
			return updated, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
