package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// reachTimeout bounds the first request to an API server: a living one answers in well under a second.
	reachTimeout = 5 * time.Second

	// leaseSlack is how much older than its duration the controller's Lease may be: a busy API server delays
	// renewals, and the server's clock is known to a second only.
	leaseSlack = 5 * time.Second

	// A controller whose last sign of life is younger than returnWindow is given returnTimeout to come back: two
	// periods of its leader election.
	returnWindow  = 3 * time.Minute
	returnTimeout = 20 * time.Second

	clusterProperty = "cluster.clusterset.k8s.io" // KEP-2149
)

// reach asks c's API server for Spillway's kinds: that shows at once whether it answers, takes the credential and has
// the CRDs.
func reach(ctx context.Context, c *cluster) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	data, err := c.get(ctx, "/apis/"+v1alpha1.GroupVersion.String())
	if apierrors.IsNotFound(err) {
		return problemf(fmt.Sprintf("Install Spillway there: spillway install --context %s", c.context),
			"Spillway's CRDs are not installed in %s", c.title())
	}
	if apierrors.IsForbidden(err) {
		p := problemf("Log in, or use a context whose user the API server knows.",
			"the API server of %s at %s does not even tell you what it serves (403): it takes you for anonymous", c.title(), c.server)
		p.cause = err
		return p
	}
	if err != nil {
		return explain(c, "read the list of kinds", err)
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(data, &list); err != nil {
		return problemf("Check the server address in the kubeconfig.", "%s at %s does not answer like an API server: %s", c.title(), c.server, err)
	}
	for _, resource := range list.APIResources {
		if resource.Name == v1alpha1.PeeringResource.Resource {
			return nil
		}
	}
	return problemf(fmt.Sprintf("Install Spillway there: spillway install --context %s", c.context),
		"the CRD for Peerings is not installed in %s", c.title())
}

// get reads a path of c's API server that has no typed client.
func (c *cluster) get(ctx context.Context, path string) ([]byte, error) {
	return c.kube.Discovery().RESTClient().Get().AbsPath(path).Do(ctx).Raw()
}

// both calls do for two clusters at once and returns the first's error, or else the second's.
func both(a, b *cluster, do func(*cluster) error) error {
	var errA, errB error
	var group sync.WaitGroup
	group.Go(func() { errA = do(a) })
	group.Go(func() { errB = do(b) })
	group.Wait()
	if errA != nil {
		return errA
	}
	return errB
}

// identify reads the id of c and keeps it: its ClusterProperty of KEP-2149 where that is set, else the UID of
// kube-system.
func identify(ctx context.Context, c *cluster) error {
	if c.id != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	id, err := readClusterProperty(ctx, c)
	if err != nil {
		return explain(c, "read the ClusterProperty "+clusterProperty, err)
	}
	if id == "" {
		namespace, err := c.kube.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		if err != nil {
			return explain(c, "read the namespace "+metav1.NamespaceSystem, err)
		}
		id = string(namespace.UID)
	}
	c.id = id
	return nil
}

// readClusterProperty reads c's id of KEP-2149. Empty: the API is not served or the property not set.
func readClusterProperty(ctx context.Context, c *cluster) (string, error) {
	data, err := c.get(ctx, "/apis/about.k8s.io")
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var group metav1.APIGroup
	if err := json.Unmarshal(data, &group); err != nil {
		return "", fmt.Errorf("decode API group about.k8s.io: %w", err)
	}
	data, err = c.get(ctx, "/apis/"+group.PreferredVersion.GroupVersion+"/clusterproperties/"+clusterProperty)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var property struct {
		Spec struct {
			Value string `json:"value"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(data, &property); err != nil {
		return "", fmt.Errorf("decode ClusterProperty %s: %w", clusterProperty, err)
	}
	return property.Spec.Value, nil
}

// right is something a command must be allowed to do.
type right struct {
	verb, group, resource, namespace string // namespace empty: cluster-wide
}

// String is for people: create peerings.spillway.dev, get secrets in namespace x.
func (r right) String() string {
	if r.resource == "namespaces" && r.namespace != "" {
		return r.verb + " namespace " + r.namespace
	}
	text := r.verb + " " + r.resource
	if r.group != "" {
		text += "." + r.group
	}
	if r.namespace != "" {
		text += " in namespace " + r.namespace
	}
	return text
}

// peeringRights are the rights to do verbs with Peerings.
func peeringRights(verbs ...string) []right {
	var rights []right
	for _, verb := range verbs {
		rights = append(rights, right{verb: verb, group: v1alpha1.GroupName, resource: v1alpha1.PeeringResource.Resource})
	}
	return rights
}

// checkRights asks c which of wanted the user does not have, and returns them as a problem.
func checkRights(ctx context.Context, c *cluster, wanted []right) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	missing := make([]bool, len(wanted))
	errs := make([]error, len(wanted))
	var group sync.WaitGroup
	for i, r := range wanted {
		group.Go(func() { missing[i], errs[i] = lacks(ctx, c, r) })
	}
	group.Wait()
	var names string
	for i, r := range wanted {
		if errs[i] != nil && !apierrors.IsForbidden(errs[i]) { // forbidden to ask: the deed itself will tell
			return explain(c, "ask for your rights", errs[i])
		}
		if missing[i] {
			names += "\n  - " + r.String()
		}
	}
	if names == "" {
		return nil
	}
	return problemf("Ask an administrator of that cluster for these rights, or use a context that has them.",
		"you have too few rights in %s; you may not%s", c.title(), names)
}

func lacks(ctx context.Context, c *cluster, r right) (bool, error) {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: r.verb, Group: r.group, Resource: r.resource, Namespace: r.namespace},
	}}
	answer, err := c.kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return !answer.Status.Allowed, nil
}

// controllerAlive says whether a spillwayd controller works in c, and if not, why one thinks so. With patience, one
// that worked a moment ago is waited for: its API server may have been away, or a replica takes over.
func controllerAlive(ctx context.Context, c *cluster, patience bool) (alive bool, why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, returnTimeout)
	defer cancel()
	err = follow(ctx, leasesOf(c), named(v1alpha1.ControllerLease), func(leases map[string]*coordinationv1.Lease) bool {
		lease := leases[leaseName().String()]
		alive, why = judgeLease(lease, c.clock.now())
		return alive || !patience || !mayReturn(lease, c.clock.now())
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) || why == "" && !alive {
		return false, "", explain(c, fmt.Sprintf("read the Lease %s", leaseName()), err)
	}
	return alive, why, nil
}

// mayReturn says whether the controller that renewed lease worked so lately that it may be back in a moment.
func mayReturn(lease *coordinationv1.Lease, now time.Time) bool {
	return lease != nil && lease.Spec.RenewTime != nil && now.Sub(lease.Spec.RenewTime.Time) < returnWindow
}

func leaseName() types.NamespacedName {
	return types.NamespacedName{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ControllerLease}
}

// judgeLease says whether whoever renews lease was alive at now, and if not, why. lease may be nil: there is none.
func judgeLease(lease *coordinationv1.Lease, now time.Time) (alive bool, why string) {
	switch {
	case lease == nil:
		return false, fmt.Sprintf("there is no Lease %s", leaseName())
	case lease.Spec.RenewTime == nil:
		return false, fmt.Sprintf("the Lease %s was never renewed", leaseName())
	case lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity == "":
		return false, fmt.Sprintf("the Lease %s has no holder", leaseName())
	}
	var valid time.Duration
	if lease.Spec.LeaseDurationSeconds != nil {
		valid = time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
	}
	age := now.Sub(lease.Spec.RenewTime.Time)
	if age > valid+leaseSlack {
		return false, fmt.Sprintf("the Lease %s was last renewed %s ago", leaseName(), age.Round(time.Second))
	}
	return true, ""
}

// noController is the problem that no controller works in c.
func noController(c *cluster, why string) *problem {
	return problemf(fmt.Sprintf("Install one: spillway install --context %s (or, beside the cluster: spillwayd controller --context %[1]s).", c.context),
		"no spillwayd controller is running in %s: %s", c.title(), why)
}

// requireController is nil when a controller works in c.
func requireController(ctx context.Context, c *cluster) error {
	alive, why, err := controllerAlive(ctx, c, true)
	if err != nil {
		return err
	}
	if !alive {
		return noController(c, why)
	}
	return nil
}
