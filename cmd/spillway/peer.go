package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// peerRun is one run of peer.
type peerRun struct {
	wish               peerWish
	steps              *steps
	consumer, provider *cluster
	name, consumerName string            // of the Peerings in the consumer and in the provider
	atConsumer         *v1alpha1.Peering // as last seen; nil when there is none
	atProvider         *v1alpha1.Peering // as last seen; nil when there is none
	secret             *corev1.Secret    // the consumer's, as found; nil when there is none
	token              []byte            // the credential that the provider gives out
	joining            joining           // how the pod networks are joined
}

// runPeer peers two clusters as wish says.
func runPeer(ctx context.Context, term terminal, wish peerWish) error {
	ctx, cancel := context.WithTimeout(ctx, wish.timeout)
	defer cancel()
	p := &peerRun{wish: wish, steps: newSteps(term, wish.format)}
	err := p.run(ctx)
	result := outcome{Command: "peer", Consumer: sideOf(p.consumer, p.name), Provider: sideOf(p.provider, p.consumerName), Tunnel: p.outcomeOfTunnel()}
	if p.atConsumer != nil {
		for _, node := range p.atConsumer.Status.Nodes {
			result.Nodes = append(result.Nodes, node.Name)
		}
	}
	return conclude(term, p.steps, wish.format, result, err)
}

func (p *peerRun) run(ctx context.Context) error {
	if err := p.open(); err != nil {
		return err
	}
	p.steps.headline("Peering: %s borrows from %s", p.consumer.context, p.provider.context)
	for _, step := range []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"both API servers answer", p.reach},
		{"your rights suffice", p.checkRights},
		{"these are two clusters", p.identify},
		{"spillwayd runs in both", p.checkControllers},
		{"nothing stands in the way", p.lookAround},
		{"way to join the pod networks", p.decideTunnel},
		{"provider: Peering " + p.consumerName, p.writeShare},
		{"provider: tenant is ready", p.awaitTenant},
		{"consumer: Peering " + p.name, p.writeBorrow},
		{"consumer: credential", p.writeCredential},
	} {
		if err := p.steps.run(step.name, func() (string, error) { return step.do(ctx) }); err != nil {
			return err
		}
	}
	for _, await := range p.waits() {
		if err := await(ctx); err != nil {
			return err
		}
	}
	p.farewell()
	return nil
}

// waits are what peer waits for after the last write, in order. A connection through the tunnel comes after the tunnel.
func (p *peerRun) waits() []func(context.Context) error {
	node := p.conditionsOf(v1alpha1.ConditionAuthenticated, v1alpha1.ConditionNodeReady)
	ready := p.conditionsOf(v1alpha1.ConditionReady)
	switch {
	case !p.joining.joins():
		return []func(context.Context) error{node, ready}
	case p.atConsumer.Spec.API.Via == v1alpha1.APIViaTunnel:
		return []func(context.Context) error{p.awaitNetworks, p.awaitTunnelUp, node, ready}
	}
	return []func(context.Context) error{p.awaitNetworks, node, p.awaitTunnelUp, ready}
}

// open makes the clients and the names. It talks to no cluster.
func (p *peerRun) open() (err error) {
	if p.consumer, err = open(p.wish.local, "consumer"); err != nil {
		return err
	}
	if p.provider, err = open(p.wish.remote, "provider"); err != nil {
		return err
	}
	p.name, p.consumerName = p.wish.name, p.wish.consumerName
	if p.name == "" {
		p.name = sanitise(p.provider.context)
	}
	if p.consumerName == "" {
		p.consumerName = sanitise(p.consumer.context)
	}
	if err := checkName("--name", p.name); err != nil {
		return err
	}
	if err := checkName("--consumer-name", p.consumerName); err != nil {
		return err
	}
	if p.provider.insecure && len(p.provider.caBundle) == 0 {
		return problemf("Put the certificate authority of that cluster into the kubeconfig (certificate-authority-data).",
			"the context %q skips the check of the server's certificate, which Spillway does not", p.provider.context)
	}
	return checkServer("the server of context "+p.provider.context, p.provider.server)
}

func (p *peerRun) reach(ctx context.Context) (string, error) {
	err := both(p.consumer, p.provider, func(c *cluster) error { return reach(ctx, c) })
	return p.consumer.server + ", " + p.provider.server, err
}

func (p *peerRun) checkRights(ctx context.Context) (string, error) {
	common := append(peeringRights("get", "list", "watch", "create", "patch"),
		right{verb: "get", resource: "namespaces", namespace: metav1.NamespaceSystem}, right{"list", "coordination.k8s.io", "leases", v1alpha1.SystemNamespace}, right{"watch", "coordination.k8s.io", "leases", v1alpha1.SystemNamespace})
	// The tenant's namespace is not known before the provider has made it; then only a right to all of them is sure.
	atProvider := append(common[:len(common):len(common)], right{verb: "get", resource: "secrets"})
	atConsumer := append(common[:len(common):len(common)], right{verb: "get", resource: "nodes"})
	for _, verb := range []string{"get", "create", "patch"} {
		atConsumer = append(atConsumer, right{verb: verb, resource: "secrets", namespace: v1alpha1.SystemNamespace})
	}
	return "", both(p.consumer, p.provider, func(c *cluster) error {
		if c == p.consumer {
			return checkRights(ctx, c, atConsumer)
		}
		return checkRights(ctx, c, atProvider)
	})
}

func (p *peerRun) identify(ctx context.Context) (string, error) {
	if err := both(p.consumer, p.provider, func(c *cluster) error { return identify(ctx, c) }); err != nil {
		return "", err
	}
	if p.consumer.id == p.provider.id {
		return "", problemf("Name two different clusters with --context and --remote-context.",
			"a cluster cannot be peered with itself: the contexts %q and %q are the same cluster (id %s)", p.consumer.context, p.provider.context, p.consumer.id)
	}
	return p.consumer.id + ", " + p.provider.id, nil
}

func (p *peerRun) checkControllers(ctx context.Context) (string, error) {
	return "", both(p.consumer, p.provider, func(c *cluster) error { return requireController(ctx, c) })
}

// lookAround reads what is there already and refuses what cannot be combined with it.
func (p *peerRun) lookAround(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	err := both(p.consumer, p.provider, func(c *cluster) error {
		list, err := c.peerings.List(ctx, metav1.ListOptions{})
		if err != nil {
			return explain(c, "list Peerings", err)
		}
		if c == p.consumer {
			p.atConsumer = find(list.Items, p.name)
			return conflict(c, "--name", list.Items, p.name, p.provider.id)
		}
		p.atProvider = find(list.Items, p.consumerName)
		return conflict(c, "--consumer-name", list.Items, p.consumerName, p.consumer.id)
	})
	if err != nil {
		return "", err
	}
	if err := p.lookAtNode(ctx); err != nil {
		return "", err
	}
	if err := p.lookAtSecret(ctx); err != nil {
		return "", err
	}
	if p.atConsumer != nil && p.atConsumer.Spec.Borrow != nil {
		return "already peered as " + p.name, nil
	}
	return "", nil
}

func (p *peerRun) lookAtNode(ctx context.Context) error {
	want := wantBorrow(p.atConsumer, p.name, p.wish)
	node, err := p.consumer.kube.CoreV1().Nodes().Get(ctx, nodeNameOf(p.name, want), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		node, err = nil, nil
	}
	if err != nil {
		return explain(p.consumer, "read node "+nodeNameOf(p.name, want), err)
	}
	return checkNode(p.atConsumer, p.name, want, node)
}

func (p *peerRun) lookAtSecret(ctx context.Context) error {
	name := secretName(p.name)
	secret, err := p.consumer.kube.CoreV1().Secrets(v1alpha1.SystemNamespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return explain(p.consumer, "read Secret "+name, err)
	}
	if secret.Labels[labelManagedBy] != managedBy {
		return problemf("Delete or rename that Secret, or choose another --name.",
			"%s has a Secret %s/%s that is not Spillway's (it lacks the label %s=%s)", p.consumer.title(), v1alpha1.SystemNamespace, name, labelManagedBy, managedBy)
	}
	p.secret = secret
	return nil
}

// awaitTenant waits until the provider has made the tenant, and reads the credential it gives out.
func (p *peerRun) awaitTenant(ctx context.Context) (string, error) {
	types := []string{v1alpha1.ConditionTenantReady}
	err := p.await(ctx, p.provider, &p.atProvider, types, func() bool {
		_, ready := tenantOf(p.atProvider)
		return ready
	})
	if err != nil {
		return "", err
	}
	tenant, _ := tenantOf(p.atProvider)
	secret, err := p.provider.kube.CoreV1().Secrets(tenant.Namespace).Get(ctx, tenant.RenewalSecretName, metav1.GetOptions{})
	if err != nil {
		return "", explain(p.provider, fmt.Sprintf("read the Secret %s/%s with the credential", tenant.Namespace, tenant.RenewalSecretName), err)
	}
	if p.token = secret.Data[tokenKey]; len(p.token) == 0 {
		return "", problemf("Check that the provider's controller-manager runs (it fills such Secrets), then try again.",
			"the Secret %s/%s in %s has no token yet", tenant.Namespace, tenant.RenewalSecretName, p.provider.title())
	}
	return "namespace " + tenant.Namespace, nil
}

// conditionsOf waits for the consumer's conditions of these types and shows each as it comes true.
func (p *peerRun) conditionsOf(types ...string) func(context.Context) error {
	return func(ctx context.Context) error { return p.awaitConditions(ctx, types) }
}

func (p *peerRun) awaitConditions(ctx context.Context, types []string) error {
	shown := 0
	err := p.await(ctx, p.consumer, &p.atConsumer, types, func() bool {
		for shown < len(types) && holds(p.atConsumer, types[shown]) {
			p.steps.ok("consumer: "+types[shown], p.detail(types[shown]))
			shown++
		}
		return shown == len(types)
	})
	if err != nil {
		p.steps.failed("consumer: " + types[min(shown, len(types)-1)])
	}
	return err
}

// detail is what there is to say about a condition that holds.
func (p *peerRun) detail(conditionType string) string {
	if conditionType == v1alpha1.ConditionNodeReady {
		return "node " + nodeNameOf(p.name, p.atConsumer.Spec.Borrow)
	}
	return ""
}

// await keeps *peering up to date with c until done says so, or explains which of the conditions did not come true.
func (p *peerRun) await(ctx context.Context, c *cluster, peering **v1alpha1.Peering, types []string, done func() bool) error {
	name := (*peering).Name
	gone := false
	err := follow(ctx, peeringsOf(c), named(name), func(found map[string]*v1alpha1.Peering) bool {
		now, ok := found["/"+name]
		if !ok {
			gone = true
			return true
		}
		*peering = now
		if done() {
			return true
		}
		what, _ := whyNot(now, types)
		p.steps.progress("%s", what)
		return false
	})
	switch {
	case gone:
		return problemf("Run the same command again.", "somebody deleted the Peering %q of %s meanwhile", name, c.title())
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		what, do := whyNot(*peering, types)
		return problemf(do, "the peering is not ready after %s; in %s %s", p.wish.timeout.Round(time.Second), c.title(), what)
	}
	return explain(c, "watch Peering "+name, err)
}

func (p *peerRun) farewell() {
	verdict := "Peered in " + shortDuration(p.steps.took())
	if !p.steps.changed {
		verdict = "Peered already, nothing had to be changed"
	}
	p.steps.headline("%s. Pods of a namespace that you allow to leave may run on node %s:\n  kubectl --context %s label namespace NAME %s=%s",
		verdict, nodeNameOf(p.name, p.atConsumer.Spec.Borrow), p.consumer.context, v1alpha1.LabelOffload, v1alpha1.OffloadEnabled)
	p.noteTunnel()
}
