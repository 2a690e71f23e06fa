package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// drainWish is a peer that all pods are to leave.
type drainWish struct {
	local         access
	peer          string
	maxConcurrent int
	timeout       time.Duration
	force         bool
	dryRun        bool
	format        string
}

// drainOutcome is what drain prints with -o json or yaml.
type drainOutcome struct {
	Pods     int           `json:"pods"` // that had to go
	Gone     int           `json:"gone"`
	Ignored  int           `json:"ignored"`
	Bare     []string      `json:"bare,omitempty"`     // nothing makes them anew
	Jobs     []string      `json:"jobs,omitempty"`     // started anew by their Jobs
	Stranded []strandedPod `json:"stranded,omitempty"` // the next one stays Pending
	Waiting  []string      `json:"waiting,omitempty"`  // still there at the end
}

// drainRun is one run of drain.
type drainRun struct {
	wish  drainWish
	steps *steps
	home  *cluster
	nodes []corev1.Node
	facts drainFacts
	plan  drainPlan
	gone  int
	left  []string
}

func drainCommand(term terminal) *cobra.Command {
	var wish drainWish
	cmd := &cobra.Command{
		Use:   "drain PEER",
		Short: "Take all pods away from a peer, under their budgets",
		Long: `Drain closes the virtual nodes of a peer for new pods, and evicts those that run there through the Eviction API, some at a time:
PodDisruptionBudgets hold, and controllers make others, at home or in another peer, as OffloadPolicies say. It is what kubectl
drain does to one virtual node, with a look ahead: pods that nothing makes anew, and pods whose successors could go nowhere but
to this peer, are named before anything happens, and refuse it without --force.

Pods of Jobs are evicted as kubectl drain does it: their Jobs start them anew. Pods of DaemonSets stay.
The peer stays closed afterwards: spillway uncordon opens it.`,
		Example: `  # what would happen?
  spillway drain cloud --dry-run

  # before the peer is maintained
  spillway drain cloud --timeout 30m
  spillway uncordon cloud`,
		Args: onePeer,
		RunE: func(cmd *cobra.Command, args []string) error {
			wish.peer = args[0]
			if err := wish.check(); err != nil {
				return err
			}
			return runDrain(cmd.Context(), term, wish)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.IntVar(&wish.maxConcurrent, "max-concurrent", 5, "how many pods may be on their way at once")
	flags.DurationVar(&wish.timeout, "timeout", 10*time.Minute, "how long to wait for the end in all")
	flags.BoolVar(&wish.force, "force", false, "evict pods too that nothing makes anew, and those whose successors would stay Pending")
	flags.BoolVar(&wish.dryRun, "dry-run", false, "only say what would happen to which pods")
	flags.StringVarP(&wish.format, "output", "o", "", "print one object at the end, as json or yaml (the steps then go to stderr)")
	addAccessFlags(flags, &wish.local, nil)
	return cmd
}

func (w drainWish) check() error {
	if w.maxConcurrent < 1 {
		return usagef("Give 1 or more.", "--max-concurrent %d lets nothing go", w.maxConcurrent)
	}
	if w.timeout <= 0 {
		return usagef("Give a time like 60s or 10m.", "--timeout %s is not a time to wait", w.timeout)
	}
	return checkFormat(w.format, formatJSON, formatYAML)
}

func runDrain(ctx context.Context, term terminal, wish drainWish) error {
	ctx, cancel := context.WithTimeout(ctx, wish.timeout)
	defer cancel()
	d := &drainRun{wish: wish, steps: newSteps(term, wish.format)}
	err := d.run(ctx)
	result := moveOutcome{Command: "drain", DryRun: wish.dryRun, Nodes: nodeNames(d.nodes), Drain: &drainOutcome{Pods: len(d.plan.evict), Gone: d.gone,
		Ignored: d.plan.ignored, Bare: d.plan.bare, Jobs: d.plan.jobs, Stranded: d.plan.stuck, Waiting: d.left}}
	return concludeMove(term, d.steps, wish.format, result, err)
}

func (d *drainRun) run(ctx context.Context) (err error) {
	if d.home, err = open(d.wish.local, "cluster"); err != nil {
		return err
	}
	c := d.home
	if err := d.steps.run("the API server answers", func() (string, error) { return c.server, reach(ctx, c) }); err != nil {
		return err
	}
	if d.nodes, err = nodesOfPeer(ctx, c, d.wish.peer); err != nil {
		return err
	}
	if err := d.gather(ctx); err != nil {
		return err
	}
	d.plan = planDrain(d.facts)
	for _, line := range d.plan.lines() {
		d.steps.note("%s", line)
	}
	if err := d.plan.refusal(d.wish.peer); err != nil && !d.wish.force {
		return err
	}
	if d.wish.dryRun {
		d.steps.headline("This was a dry run: nothing was changed.")
		return nil
	}
	if err := cordonNodes(ctx, c, d.steps, d.nodes, true); err != nil {
		return err
	}
	if len(d.plan.evict) > 0 {
		if err := d.steps.run("the pods are gone", func() (string, error) { return d.evictAll(ctx) }); err != nil {
			return err
		}
	}
	d.steps.headline("%s is empty and takes no new pods. Open it again: spillway uncordon %[1]s", d.wish.peer)
	return nil
}

// gather reads what the drain is judged by.
func (d *drainRun) gather(ctx context.Context) error {
	c, every := d.home, metav1.ListOptions{}
	f := drainFacts{peer: d.wish.peer, namespaces: map[string]governedNamespace{}}
	for i := range d.nodes {
		list, err := c.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, onNode(d.nodes[i].Name))
		if err != nil {
			return explain(c, "list the pods on node "+d.nodes[i].Name, err)
		}
		f.pods = append(f.pods, list.Items...)
	}
	nodes, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelPeer})
	if err != nil {
		return explain(c, "list the virtual nodes", err)
	}
	for _, node := range nodes.Items {
		if node.Labels[v1alpha1.LabelPeer] != d.wish.peer {
			f.others = append(f.others, node)
		}
	}
	if budgets, err := mayRead(c.kube.PolicyV1().PodDisruptionBudgets(metav1.NamespaceAll).List(ctx, every)); err != nil {
		return explain(c, "list PodDisruptionBudgets", err)
	} else if budgets != nil {
		f.budgets = budgets.Items
	}
	migrations, err := mayRead(c.migrations(metav1.NamespaceAll).List(ctx, every))
	if err != nil && !apierrors.IsNotFound(err) {
		return explain(c, "list Migrations", err)
	}
	if migrations != nil {
		f.migrations = migrations.Items
	}
	d.facts = f
	return d.gatherPolicies(ctx)
}

// gatherPolicies reads the namespaces of the pods, and their policies.
func (d *drainRun) gatherPolicies(ctx context.Context) error {
	c := d.home
	list, err := mayRead(c.policies(metav1.NamespaceAll).List(ctx, metav1.ListOptions{}))
	if err != nil && !apierrors.IsNotFound(err) {
		return explain(c, "list OffloadPolicies", err)
	}
	namespaces, err := mayRead(c.kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{}))
	if err != nil {
		return explain(c, "list namespaces", err)
	}
	policies := map[string][]*v1alpha1.OffloadPolicy{}
	if list != nil {
		for i := range list.Items {
			policies[list.Items[i].Namespace] = append(policies[list.Items[i].Namespace], &list.Items[i])
		}
	}
	migrations := map[string][]*v1alpha1.Migration{}
	for _, m := range pointers(d.facts.migrations) {
		migrations[m.Namespace] = append(migrations[m.Namespace], m)
	}
	for i := range d.facts.pods {
		ns := d.facts.pods[i].Namespace
		if _, known := d.facts.namespaces[ns]; known {
			continue
		}
		g := governedNamespace{policies: policy.NewSet(policies[ns], migrations[ns])}
		for j := 0; namespaces != nil && j < len(namespaces.Items); j++ {
			if namespaces.Items[j].Name == ns {
				g.object = &namespaces.Items[j]
			}
		}
		d.facts.namespaces[ns] = g
	}
	return nil
}
