package main

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// advise says what to do about a condition of p that is not True.
func advise(p *v1alpha1.Peering, c metav1.Condition) string {
	server := "the peer's API server"
	if p.Spec.API != nil {
		server = p.Spec.API.Server
	}
	switch c.Reason {
	case v1alpha1.ReasonTenantFailed:
		return "Mend what the message names; spillwayd tries again by itself. See also: kubectl -n " + v1alpha1.SystemNamespace + " logs deploy/spillway-controller"
	case v1alpha1.ReasonCredentialMissing, v1alpha1.ReasonCredentialRejected:
		return "Fetch a new credential by running `spillway peer` again with the same contexts."
	case v1alpha1.ReasonForbidden:
		return "Check that spillwayd runs in the peer and that its Peering there is TenantReady; then run `spillway peer` again."
	case v1alpha1.ReasonWrongCluster:
		return fmt.Sprintf("Check that %s is the peer; if it was rebuilt, run `spillway unpeer %s` and peer again.", server, p.Name)
	case v1alpha1.ReasonUnreachable:
		return adviseUnreachable(server)
	case v1alpha1.ReasonNoOffer:
		return "Check in the peer that spillwayd runs and that the nodes chosen by spec.share.nodeSelector exist and are schedulable (spillway status there)."
	case v1alpha1.ReasonNodeFailed:
		return "Mend what the message names; spillwayd tries again by itself."
	case v1alpha1.ReasonStarting:
		if c.Type == v1alpha1.ConditionTunnelUp {
			return "Wait some seconds; if it stays, look at the agents of the gateways: kubectl -n " + nodeNamespace + " get pods -o wide"
		}
		return "Wait some seconds."
	}
	if c.Type == v1alpha1.ConditionTunnelUp {
		return adviseTunnel(p, c)
	}
	return fmt.Sprintf("Look closer: kubectl describe peering %s; kubectl -n %s logs deploy/spillway-controller", p.Name, v1alpha1.SystemNamespace)
}

func adviseUnreachable(server string) string {
	advice := fmt.Sprintf("Check that the peer runs and that spillwayd of this cluster can reach %s; ", server)
	if onlyHere(server) {
		return advice + "in a pod that loopback address means the pod itself, so give one that pods can use: spillway peer --remote-server https://ADDRESS:PORT"
	}
	return advice + "if its pods need another address, run `spillway peer` again with --remote-server."
}

// adviseTunnel says what to do about a tunnel that is not up.
func adviseTunnel(p *v1alpha1.Peering, c metav1.Condition) string {
	doctor := fmt.Sprintf("`spillway doctor %s --remote-context PEER` walks the path and names the hop that fails.", p.Name)
	switch c.Reason {
	case v1alpha1.ReasonNoGateway:
		return fmt.Sprintf("Make a node a gateway: kubectl label node NODE %s=", v1alpha1.LabelGateway)
	case v1alpha1.ReasonNoNetwork:
		return "Check that the peer's Peering has a tunnel too (spillway status there), and run `spillway peer` again with the same contexts, which tells each cluster of the other."
	case v1alpha1.ReasonRangesRefused:
		return "The peer announces addresses that no cluster can have: correct its ranges, then run `spillway peer` again."
	case v1alpha1.ReasonAliasPending:
		return "Wait some seconds; if it stays, run `spillway peer` again with the same contexts, which tells each cluster of the other."
	case v1alpha1.ReasonNoHandshake:
		return fmt.Sprintf("Open UDP %d (or TCP %[1]d) to the gateways of one of the clusters. %s", v1alpha1.TunnelPort, doctor)
	case v1alpha1.ReasonLargePacketsLost:
		return "Something on the way drops large packets: let it pass packets of the path's MTU, or ICMP. " + doctor
	}
	return doctor
}

// whyNot tells of the first condition among types that p does not hold: a sentence and what to do. p may be nil: the
// Peering was never seen.
func whyNot(p *v1alpha1.Peering, types []string) (what, do string) {
	if p == nil {
		return "its Peering cannot be seen", "Run the same command again."
	}
	for _, conditionType := range types {
		if holds(p, conditionType) {
			continue
		}
		c := condition(p, conditionType)
		if c == nil {
			return fmt.Sprintf("%s has not been judged yet: spillwayd has not answered to the change", conditionType),
				"Check that spillwayd works: kubectl -n " + v1alpha1.SystemNamespace + " logs deploy/spillway-controller"
		}
		what = fmt.Sprintf("%s is %s (%s)", c.Type, c.Status, c.Reason)
		if c.Message != "" {
			what += ": " + c.Message
		}
		return what, advise(p, *c)
	}
	return "everything is as it should be", "Run the same command again."
}
