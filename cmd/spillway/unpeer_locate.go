package main

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// located is the other cluster of a Peering.
type located struct {
	cluster *cluster          // nil: not found or not usable
	peering *v1alpha1.Peering // its Peering for home; nil: it has none
	guessed bool              // found in the kubeconfig rather than named by the user
	context string            // of the kubeconfig, that seems to lead there although cluster is nil; may be empty
	why     string            // why cluster is nil
}

// locate finds the other cluster: the one that the user named, or else the one in the kubeconfig that has the address
// or certificate authority of spec.api. It must have the id that the Peering names.
func (u *unpeerRun) locate(ctx context.Context) located {
	if u.wish.remoteGiven {
		if u.remote == nil {
			return located{why: u.remoteWhy}
		}
		return u.inspect(ctx, u.remote)
	}
	api := u.peering.Spec.API
	if api == nil {
		return located{why: "its address is not known here"}
	}
	raw, err := loadKubeconfig(u.wish.remote.kubeconfig)
	if err != nil {
		return located{why: err.Error()}
	}
	result := located{why: fmt.Sprintf("the kubeconfig has no context for %s", api.Server)}
	for _, name := range contextsOf(raw, api.Server, api.CABundle) {
		c, err := openContext(raw, name, "other cluster")
		if err == nil {
			err = reach(ctx, c)
		}
		if err == nil {
			err = identify(ctx, c)
		}
		if err != nil {
			result.why = err.Error()
			if unreachable(err) { // other contexts lead to the same address
				result.context = name
				return result
			}
			continue
		}
		if c.id != u.peering.Spec.ClusterID {
			result.why = fmt.Sprintf("the context %q leads to another cluster (id %s)", name, c.id)
			continue
		}
		result = u.inspect(ctx, c)
		result.guessed = true
		return result
	}
	return result
}

// inspect finds the Peering for home in c.
func (u *unpeerRun) inspect(ctx context.Context, c *cluster) located {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	c.role = "provider"
	if u.peering.Spec.Borrow == nil {
		c.role = "consumer"
	}
	if err := identify(ctx, u.home); err != nil {
		return located{why: err.Error()}
	}
	list, err := c.peerings.List(ctx, metav1.ListOptions{})
	if err != nil {
		return located{why: explain(c, "list Peerings", err).Error()}
	}
	for i := range list.Items {
		if list.Items[i].Spec.ClusterID == u.home.id {
			return located{cluster: c, peering: &list.Items[i]}
		}
	}
	return located{cluster: c}
}

// sayRemote tells people which cluster the other one is.
func (u *unpeerRun) sayRemote() {
	switch {
	case u.other.cluster == nil:
		u.steps.note("The other cluster cannot be cleaned from here: %s", strings.TrimSpace(u.other.why))
	case u.other.guessed:
		u.steps.note("The other cluster is that of context %q, by the address of its API server and its cluster id.", u.other.cluster.context)
	}
}

// leftover says what stays at the other cluster and how to remove it later.
func (u *unpeerRun) leftover() string {
	context, name := "CONTEXT", ""
	switch {
	case u.other.cluster != nil:
		context = u.other.cluster.context
	case u.other.context != "":
		context = u.other.context
	case u.wish.remoteGiven && u.wish.remote.context != "":
		context = u.wish.remote.context
	}
	switch {
	case u.other.peering != nil:
		name = " " + u.other.peering.Name
	case u.peering.Spec.API != nil:
		name = " " + u.peering.Spec.API.PeeringName
	}
	command := fmt.Sprintf("spillway unpeer --context %s%s", context, name)
	if u.peering.Spec.Borrow == nil {
		return fmt.Sprintf("The consumer still has its Peering and its virtual node, which turns NotReady. To remove them: %s", command)
	}
	return fmt.Sprintf("The provider still has its Peering%s and the namespaces it made for this cluster. To remove them later: %s (or peer again, which takes them over)", name, command)
}
