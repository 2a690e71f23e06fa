package peering

import (
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// observation is what was seen of a Peering in one pass. Plain values.
type observation struct {
	spec       v1alpha1.PeeringSpec
	generation int64
	self       string // our own cluster id

	tenantErr error // with share: why the tenant is not in place

	linkErr error     // with borrow: why there is no link at all
	link    linkState // with borrow
	node    NodeState // with borrow
	hasNode bool      // with borrow: the virtual node was started

	tunnel agreement             // with a tunnel
	paths  []v1alpha1.TunnelPath // with a tunnel: as gateways measured them
}

// settleWithin is how long after its start a link may take to find everything as it was.
const settleWithin = 5 * time.Second

// settling says that this process has only just begun to look: what an earlier one wrote is better than "starting".
func (o observation) settling(now time.Time) bool {
	if o.tunnel.starting {
		return true
	}
	if o.spec.Borrow == nil || o.linkErr != nil || o.link.err != nil || o.node.Err != nil ||
		now.Sub(o.link.started) > settleWithin {
		return false
	}
	return !o.link.answered || o.link.remote == nil || !o.node.Registered
}

// judged says whether an earlier pass has judged this generation.
func judged(before []metav1.Condition, generation int64) bool {
	ready := meta.FindStatusCondition(before, v1alpha1.ConditionReady)
	return ready != nil && ready.ObservedGeneration == generation
}

// verdict is the state of one condition.
type verdict struct {
	status  metav1.ConditionStatus
	reason  string
	message string
}

// conditions judges what was observed. The times of conditions that did not change are kept. The result is a new slice.
func conditions(before []metav1.Condition, o observation) []metav1.Condition {
	out := append([]metav1.Condition{}, before...)
	ready := verdict{metav1.ConditionTrue, v1alpha1.ReasonPeeringReady, "the peering works"}
	apply := func(kind string, applies bool, judge func(observation) verdict) {
		if !applies {
			meta.RemoveStatusCondition(&out, kind)
			return
		}
		v := judge(o)
		set(&out, kind, v, o.generation)
		if v.status != metav1.ConditionTrue && ready.status == metav1.ConditionTrue {
			ready = v
		}
	}
	apply(v1alpha1.ConditionTenantReady, o.spec.Share != nil, tenantVerdict)
	apply(v1alpha1.ConditionAuthenticated, o.spec.Borrow != nil, authenticatedVerdict)
	apply(v1alpha1.ConditionTunnelUp, joined(&o.spec), tunnelVerdict)
	apply(v1alpha1.ConditionNodeReady, o.spec.Borrow != nil, nodeVerdict)
	set(&out, v1alpha1.ConditionReady, ready, o.generation)
	return out
}

func set(list *[]metav1.Condition, kind string, v verdict, generation int64) {
	meta.SetStatusCondition(list, metav1.Condition{
		Type: kind, Status: v.status, Reason: v.reason, Message: v.message, ObservedGeneration: generation,
	})
}

func tenantVerdict(o observation) verdict {
	if o.tenantErr != nil {
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonTenantFailed, o.tenantErr.Error()}
	}
	return verdict{metav1.ConditionTrue, v1alpha1.ReasonTenantReady, "identity, rights and namespaces are in place"}
}

func authenticatedVerdict(o observation) verdict {
	api, at := o.spec.API, o.server()
	no := func(reason, format string, args ...any) verdict {
		return verdict{metav1.ConditionFalse, reason, fmt.Sprintf(format, args...)}
	}
	err := o.linkErr
	if err == nil {
		err = o.link.err
	}
	switch {
	case errors.Is(err, errCredentialMissing):
		return no(v1alpha1.ReasonCredentialMissing, "%v: run spillway peer again", err)
	case apierrors.IsUnauthorized(err):
		return no(v1alpha1.ReasonCredentialRejected, "%s does not accept the credential in Secret %s/%s: run spillway peer again",
			at, v1alpha1.SystemNamespace, api.SecretName)
	case apierrors.IsForbidden(err):
		return no(v1alpha1.ReasonForbidden, "%s: %v", at, err)
	case !o.link.answered && err != nil:
		return verdict{metav1.ConditionUnknown, v1alpha1.ReasonUnreachable,
			fmt.Sprintf("%s has not answered yet: %v%s", at, err, o.tunnelDown())}
	case !o.link.answered:
		return verdict{metav1.ConditionUnknown, v1alpha1.ReasonStarting, "waiting for " + at + o.tunnelDown()}
	case o.link.remote != nil && wrongCluster(o):
		return no(v1alpha1.ReasonWrongCluster, "%s is cluster %s, which knows us as %s; expected cluster %s, which knows us as %s",
			at, o.link.remote.Status.ClusterID, o.link.remote.Spec.ClusterID, o.spec.ClusterID, o.self)
	}
	return verdict{metav1.ConditionTrue, v1alpha1.ReasonAuthenticated, "authenticated at " + at}
}

// server names the peer's API server, and the way that is taken to it.
func (o observation) server() string { return serverName(o.spec.API, apiAddress(&o.spec)) }

// tunnelDown is what to add where the peer's API server does not answer: nothing when it is not reached by a tunnel, or
// that works.
func (o observation) tunnelDown() string {
	if o.spec.API.Via != v1alpha1.APIViaTunnel || !joined(&o.spec) {
		return ""
	}
	if v := tunnelVerdict(o); v.status != metav1.ConditionTrue {
		return "; the tunnel that leads there is down: " + v.message
	}
	return ""
}

// wrongCluster says whether the peer is another cluster than the Peering is with, or takes us for another.
func wrongCluster(o observation) bool {
	remote := o.link.remote
	return remote.Spec.ClusterID != o.self || remote.Status.ClusterID != "" && remote.Status.ClusterID != o.spec.ClusterID
}

func nodeVerdict(o observation) verdict {
	switch {
	case o.link.lost:
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonUnreachable, lostMessage(o.server(), o.link.err) + o.tunnelDown()}
	case o.node.Err != nil:
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonNodeFailed, o.node.Err.Error()}
	case !o.hasNode && o.link.answered && !hasOffer(o.link.remote):
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonNoOffer,
			"the provider has not said yet what it offers: look at Peering " + o.spec.API.PeeringName + " there"}
	case !o.node.Registered:
		return verdict{metav1.ConditionUnknown, v1alpha1.ReasonStarting, "the virtual node is being registered"}
	}
	return verdict{metav1.ConditionTrue, v1alpha1.ReasonNodeReady, "the virtual node takes pods"}
}

func lostMessage(server string, err error) string {
	message := fmt.Sprintf("%s has not answered for %s: pods there run on and are left as they are", server,
		lostAfter.Round(time.Second))
	if err != nil {
		message += ": " + err.Error()
	}
	return message
}

func hasOffer(remote *v1alpha1.Peering) bool {
	return remote != nil && remote.Spec.Share != nil && remote.Status.Offer != nil
}

// nodeName is the name of the virtual node of a peering.
func nodeName(borrow *v1alpha1.Borrow, peering string) string {
	if borrow != nil && borrow.NodeName != "" {
		return borrow.NodeName
	}
	return "spillway-" + peering
}
