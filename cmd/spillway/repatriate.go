package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// repatriateWish are the policies whose pods are to come home.
type repatriateWish struct {
	local         access
	namespace     string
	allNamespaces bool
	names         []string // of policies; none: all that burst
	wait          waiting
	timeout       time.Duration
	format        string
}

// returnOutcome is what repatriate prints with -o json or yaml.
type returnOutcome struct {
	Policies []string  `json:"policies"` // namespace/name
	At       time.Time `json:"at"`       // pods made before come home
	Pods     int       `json:"pods"`     // that were in peers
	Home     int       `json:"home"`     // of them, that are gone from there
	Stay     []stays   `json:"stay,omitempty"`
}

// stays says why pods of a policy stay in peers.
type stays struct {
	Policy string `json:"policy"`
	Pods   int    `json:"pods"`
	Why    string `json:"why"`
}

// repatriateRun is one run of repatriate.
type repatriateRun struct {
	wish     repatriateWish
	steps    *steps
	home     *cluster
	at       time.Time
	policies []v1alpha1.OffloadPolicy // all of the namespaces: they say which governs a pod
	meant    map[string]bool          // namespace/name of those whose pods come home
	virtual  map[string]bool          // names of the virtual nodes
	result   returnOutcome
}

func repatriateCommand(term terminal) *cobra.Command {
	var wish repatriateWish
	cmd := &cobra.Command{
		Use:   "repatriate [POLICY…]",
		Short: "Let pods that overflowed come home now",
		Long: `Repatriate asks for the pods of bursting policies (OffloadPolicies with when: Burst) to come home at once, without waiting until
there has been room for a while. They come as far as there is room, some at a time, under their budgets, and show how far they
are. Pods of Jobs end where they are. What has no room stays, and it is said why.`,
		Example: `  spillway repatriate -n shop
  spillway repatriate web -n shop --timeout 5m
  spillway repatriate --all-namespaces --no-wait`,
		Args: func(_ *cobra.Command, args []string) error {
			for _, name := range args {
				if len(validation.IsDNS1123Subdomain(name)) > 0 {
					return usagef("See which there are: kubectl get offloadpolicies", "%q cannot be the name of an OffloadPolicy", name)
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			wish.names = args
			if err := wish.check(); err != nil {
				return err
			}
			return runRepatriate(cmd.Context(), term, wish)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&wish.namespace, "namespace", "n", "", "namespace of the policies (default: that of the context)")
	flags.BoolVarP(&wish.allNamespaces, "all-namespaces", "A", false, "the policies of all namespaces")
	wish.wait.addFlags(flags, "all are home")
	flags.DurationVar(&wish.timeout, "timeout", 10*time.Minute, "how long to wait for the end in all")
	flags.StringVarP(&wish.format, "output", "o", "", "print one object at the end, as json or yaml (the steps then go to stderr)")
	addAccessFlags(flags, &wish.local, nil)
	return cmd
}

func (w repatriateWish) check() error {
	if err := checkNamespace(w.namespace); err != nil {
		return err
	}
	if w.allNamespaces && (w.namespace != "" || len(w.names) > 0) {
		return usagef("Leave it out, or name one namespace with -n.", "--all-namespaces means all policies of all namespaces")
	}
	if w.timeout <= 0 {
		return usagef("Give a time like 60s or 10m.", "--timeout %s is not a time to wait", w.timeout)
	}
	return checkFormat(w.format, formatJSON, formatYAML)
}

func runRepatriate(ctx context.Context, term terminal, wish repatriateWish) error {
	ctx, cancel := context.WithTimeout(ctx, wish.timeout)
	defer cancel()
	r := &repatriateRun{wish: wish, steps: newSteps(term, wish.format), meant: map[string]bool{}, virtual: map[string]bool{}}
	err := r.run(ctx)
	return concludeMove(term, r.steps, wish.format, moveOutcome{Command: "repatriate", Return: &r.result}, err)
}

func (r *repatriateRun) run(ctx context.Context) error {
	home, namespace, err := openIn(r.wish.local, r.wish.namespace)
	if err != nil {
		return err
	}
	r.home = home
	if r.wish.allNamespaces {
		namespace = metav1.NamespaceAll
	}
	if err := r.steps.run("the API server answers", func() (string, error) { return home.server, reach(ctx, home) }); err != nil {
		return err
	}
	if err := r.steps.run("a controller works", func() (string, error) { return "", someController(ctx, home) }); err != nil {
		return err
	}
	list, err := home.policies(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return explain(home, "list OffloadPolicies", err)
	}
	r.policies = list.Items
	meant, err := bursting(r.policies, r.wish.names, namespace)
	if err != nil {
		return err
	}
	if err := r.ask(ctx, meant); err != nil {
		return err
	}
	if !r.wish.wait.stays() {
		r.steps.headline("They come home by themselves, as far as there is room. Look at it: kubectl describe offloadpolicies, spillway explain pod/NAME")
		return nil
	}
	return r.steps.run("the pods are home", func() (string, error) { return r.await(ctx, namespace) })
}

// bursting are the policies that are meant: those of these names, or all that burst.
func bursting(policies []v1alpha1.OffloadPolicy, names []string, namespace string) ([]*v1alpha1.OffloadPolicy, error) {
	var meant []*v1alpha1.OffloadPolicy
	var all []string
	for i := range policies {
		p := &policies[i]
		all = append(all, p.Name)
		if p.Spec.When == v1alpha1.OffloadBurst && (len(names) == 0 || slices.Contains(names, p.Name)) {
			meant = append(meant, p)
		} else if slices.Contains(names, p.Name) {
			return nil, problemf("Only pods that overflowed come home on request; kubectl edit offloadpolicy "+p.Name+" changes where the others may be.",
				"the OffloadPolicy %q does not burst (when: %s)", p.Name, p.Spec.When)
		}
	}
	for _, name := range names {
		if !slices.Contains(all, name) {
			do := "There is none."
			if len(all) > 0 {
				do = "There are: " + shortened(all, 10) + "."
			}
			return nil, problemf(do, "there is no OffloadPolicy %q in namespace %q", name, namespace)
		}
	}
	if len(meant) == 0 {
		where := "this cluster"
		if namespace != "" {
			where = fmt.Sprintf("namespace %q", namespace)
		}
		return nil, problemf("Choose a namespace with -n, or --all-namespaces.", "no OffloadPolicy of %s bursts (when: Burst)", where)
	}
	return meant, nil
}

// ask writes the wish on each policy.
func (r *repatriateRun) ask(ctx context.Context, meant []*v1alpha1.OffloadPolicy) error {
	r.at = r.home.clock.now().UTC().Truncate(time.Second)
	r.result.At = r.at
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{v1alpha1.AnnotationRepatriate: r.at.Format(time.RFC3339)}}})
	if err != nil {
		return fmt.Errorf("encode the wish: %w", err)
	}
	for _, p := range meant {
		name := p.Namespace + "/" + p.Name
		err := r.steps.run("OffloadPolicy "+name+" is asked", func() (string, error) {
			_, err := r.home.policies(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: managerMoves})
			return "", explain(r.home, "write OffloadPolicy "+name, err)
		})
		if err != nil {
			return err
		}
		r.steps.changed, r.meant[name] = true, true
		r.result.Policies = append(r.result.Policies, name)
	}
	return nil
}

// await follows the pods home.
func (r *repatriateRun) await(ctx context.Context, namespace string) (string, error) {
	nodes, err := r.home.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelPeer})
	if err != nil {
		return "", explain(r.home, "list the virtual nodes", err)
	}
	for i := range nodes.Items {
		r.virtual[nodes.Items[i].Name] = true
	}
	sets := policySets(r.policies)
	var away map[string]int
	err = follow(ctx, podsWithin(r.home, namespace), metav1.ListOptions{}, func(pods map[string]*corev1.Pod) bool {
		away = r.away(pods, sets)
		left := 0
		for _, n := range away {
			left += n
		}
		r.result.Pods = max(r.result.Pods, left)
		r.result.Home = r.result.Pods - left
		if left == 0 {
			return true
		}
		r.steps.progress("%d of %d came home", r.result.Home, r.result.Pods)
		return false
	})
	switch {
	case err == nil && r.result.Pods == 0:
		return "none was away", nil
	case err == nil:
		return plural(r.result.Pods, "pod") + " came home", nil
	case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled):
		return "", explain(r.home, "watch pods", err)
	}
	return "", r.stay(context.WithoutCancel(ctx), away)
}

// away counts the pods that are to come home, by the policy that governs them.
func (r *repatriateRun) away(pods map[string]*corev1.Pod, sets map[string]policy.Set) map[string]int {
	counts := map[string]int{}
	for _, pod := range pods {
		owner := metav1.GetControllerOf(pod)
		moves := owner != nil && (owner.Kind == "ReplicaSet" || owner.Kind == "StatefulSet") || pod.Labels[v1alpha1.LabelMoving] != ""
		over := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if !moves || over || !r.virtual[pod.Spec.NodeName] || pod.CreationTimestamp.After(r.at) {
			continue
		}
		if p := sets[pod.Namespace].For(pod.Labels); p != nil && r.meant[p.Namespace+"/"+p.Name] {
			counts[p.Namespace+"/"+p.Name]++
		}
	}
	return counts
}

// policySets reads policies, by namespace.
func policySets(policies []v1alpha1.OffloadPolicy) map[string]policy.Set {
	byNamespace := map[string][]*v1alpha1.OffloadPolicy{}
	for i := range policies {
		byNamespace[policies[i].Namespace] = append(byNamespace[policies[i].Namespace], &policies[i])
	}
	sets := map[string]policy.Set{}
	for namespace, list := range byNamespace {
		sets[namespace] = policy.NewSet(list, nil)
	}
	return sets
}

// stay says why pods are still in peers when nobody waits for them any longer.
func (r *repatriateRun) stay(ctx context.Context, away map[string]int) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(away)) {
		namespace, policy, _ := strings.Cut(name, "/")
		s := stays{Policy: name, Pods: away[name], Why: "its policy does not say why"}
		p, err := r.home.policies(namespace).Get(ctx, policy, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			s.Why = "its policy is gone"
		case err != nil:
			s.Why = serverWords(err)
		default:
			if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionComingHome); c != nil && c.Message != "" {
				s.Why = c.Message
			}
		}
		r.result.Stay = append(r.result.Stay, s)
		lines = append(lines, fmt.Sprintf("%s of %s: %s", plural(s.Pods, "pod"), name, s.Why))
	}
	return problemf("The wish stays: they come home by themselves when there is room. See where one is: spillway explain pod/NAME -n NAMESPACE",
		"%d of %s came home; there stay %s", r.result.Home, plural(r.result.Pods, "pod"), strings.Join(lines, "; "))
}
