package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// statusWish is what a user wants to see.
type statusWish struct {
	local  access
	name   string // of one Peering; empty: all
	format string
}

func statusCommand(term terminal) *cobra.Command {
	var wish statusWish
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show the peerings of this cluster and what is wrong with them",
		Long: `Status shows each Peering of the cluster of --context: whether it is ready, its virtual nodes, the pods on them, what the
peer offers and how much of it is used. Where a tunnel joins the networks: each path with its round trip, loss, MTU and
bytes, and which addresses are seen as which. Below, the Migrations that go on, the policies that burst, and, for everything that
is not as it should be, why, and what to do.`,
		Example: `  spillway status
  spillway status cloud -o yaml
  spillway status --context home -o wide`,
		Args: atMostOneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(wish.format, formatJSON, formatYAML, formatWide); err != nil {
				return err
			}
			if len(args) == 1 {
				wish.name = args[0]
			}
			return asFailure(runStatus(cmd.Context(), term, wish))
		},
	}
	cmd.Flags().SortFlags = false
	addAccessFlags(cmd.Flags(), &wish.local, nil)
	cmd.Flags().StringVarP(&wish.format, "output", "o", "", "print json, yaml or a wide table")
	return cmd
}

func runStatus(ctx context.Context, term terminal, wish statusWish) error {
	ctx, cancel := context.WithTimeout(ctx, 4*reachTimeout)
	defer cancel()
	c, err := open(wish.local, "cluster")
	if err != nil {
		return err
	}
	if err := reach(ctx, c); err != nil {
		return err
	}
	peerings, err := listPeerings(ctx, c, wish.name)
	if err != nil {
		return err
	}
	show := overview{Context: c.context, Peerings: []row{}}
	alive, why, err := controllerAlive(ctx, c, false)
	if show.ControllerAlive = alive; !alive && err == nil {
		show.ControllerWhy = why
	}
	for i := range peerings {
		r, err := look(ctx, c, &peerings[i])
		if err != nil {
			return err
		}
		show.Peerings = append(show.Peerings, r)
	}
	if err := show.lookAtMoves(ctx, c, wish.name); err != nil {
		return err
	}
	if wish.format == formatJSON || wish.format == formatYAML {
		return printObject(term.out, wish.format, show)
	}
	return show.print(term.out, wish.format == formatWide)
}

// listPeerings lists all Peerings of c, or the one of this name.
func listPeerings(ctx context.Context, c *cluster, name string) ([]v1alpha1.Peering, error) {
	list, err := c.peerings.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, explain(c, "list Peerings", err)
	}
	if name == "" {
		return list.Items, nil
	}
	found := find(list.Items, name)
	if found == nil && len(list.Items) == 0 {
		return nil, problemf(howToPeer(c.context), "%s has no Peering %q, nor any other", c.title(), name)
	}
	if found == nil {
		return nil, problemf("There are: "+peeringNames(list.Items)+".", "%s has no Peering %q", c.title(), name)
	}
	return []v1alpha1.Peering{*found}, nil
}

func howToPeer(context string) string {
	return fmt.Sprintf("Make one with: spillway peer --context %s --remote-context OTHER", context)
}

// look gathers what there is to know of p. What the user may not read is left out.
func look(ctx context.Context, c *cluster, p *v1alpha1.Peering) (row, error) {
	var nodes []corev1.Node
	var pods, twins []corev1.Pod
	if p.Spec.Borrow != nil {
		list, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelPeer + "=" + p.Name})
		if err != nil && !apierrors.IsForbidden(err) {
			return row{}, explain(c, "list the virtual nodes", err)
		}
		if err == nil {
			nodes = list.Items
		}
		for i := range nodes {
			more, err := readPods(ctx, c, onNode(nodes[i].Name))
			if err != nil {
				return row{}, err
			}
			pods = append(pods, more...)
		}
	}
	if p.Spec.Share != nil {
		var err error
		twins, err = readPods(ctx, c, metav1.ListOptions{LabelSelector: v1alpha1.LabelOrigin + "=" + p.Spec.ClusterID})
		if err != nil {
			return row{}, err
		}
	}
	return describe(p, nodes, pods, twins), nil
}

func readPods(ctx context.Context, c *cluster, selector metav1.ListOptions) ([]corev1.Pod, error) {
	list, err := c.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, selector)
	if apierrors.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(c, "list pods", err)
	}
	return list.Items, nil
}
