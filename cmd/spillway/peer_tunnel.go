package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// joined is what peer says of the tunnel with -o json or yaml.
type joined struct {
	Mode string `json:"mode"`
	Why  string `json:"why"` // why this mode
	Via  string `json:"apiVia,omitempty"`
	Up   bool   `json:"up"`
}

// end is one end of the tunnel.
type end struct {
	cluster *cluster
	peering **v1alpha1.Peering
	sent    *v1alpha1.ClusterNetwork // what this command wrote last of the other end
}

// decideTunnel settles how the networks are joined.
func (p *peerRun) decideTunnel(ctx context.Context) (string, error) {
	var consumer, provider sighting
	err := both(p.consumer, p.provider, func(c *cluster) (err error) {
		if c == p.consumer {
			consumer, err = sight(ctx, c)
		} else {
			provider, err = sight(ctx, c)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	p.joining = chooseMode(p.wish.tunnel, p.atConsumer, p.atProvider, consumer, provider)
	return p.joining.String(), checkTunnel(p.joining, p.wish)
}

// sight looks for gateways in c.
func sight(ctx context.Context, c *cluster) (sighting, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	list, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelGateway})
	if apierrors.IsForbidden(err) {
		return sighting{hidden: true}, nil
	}
	if err != nil {
		return sighting{}, explain(c, "list the gateway nodes", err)
	}
	return sighting{gateways: len(list.Items)}, nil
}

// noteTunnel says how to get a tunnel when there is none that nobody refused.
func (p *peerRun) noteTunnel() {
	if p.joining.mode != "" {
		return
	}
	p.steps.note("Pods do not reach pods of the other cluster. To join the networks, make a node of each cluster a gateway and peer again:")
	for _, c := range []*cluster{p.consumer, p.provider} {
		p.steps.note("  kubectl --context %s label node NODE %s=", c.context, v1alpha1.LabelGateway)
	}
}

// awaitNetworks waits until each cluster has said what the other must know of its network, and tells it there.
func (p *peerRun) awaitNetworks(ctx context.Context) error {
	err := p.awaitTunnel(ctx, func() bool {
		return knows(p.atConsumer, p.atProvider) && knows(p.atProvider, p.atConsumer)
	})
	return p.tunnelStep("tunnel: the clusters know each other's network", "", err)
}

// awaitTunnelUp waits until both clusters say that packets pass. Meanwhile it keeps telling each what the other says,
// since ranges and aliases are agreed in turns.
func (p *peerRun) awaitTunnelUp(ctx context.Context) error {
	err := p.awaitTunnel(ctx, func() bool {
		return holds(p.atConsumer, v1alpha1.ConditionTunnelUp) && holds(p.atProvider, v1alpha1.ConditionTunnelUp)
	})
	return p.tunnelStep("tunnel: "+v1alpha1.ConditionTunnelUp, pathsInShort(p.atConsumer), err)
}

func (p *peerRun) tunnelStep(name, result string, err error) error {
	if err != nil {
		p.steps.failed(name)
		return err
	}
	p.steps.ok(name, result)
	return nil
}

// awaitTunnel keeps both Peerings up to date and each told of the other until done says so.
func (p *peerRun) awaitTunnel(ctx context.Context, done func() bool) error {
	ends := []*end{{cluster: p.consumer, peering: &p.atConsumer}, {cluster: p.provider, peering: &p.atProvider}}
	err := p.followEnds(ctx, ends, func() (bool, error) {
		for i, here := range ends {
			if err := p.tell(ctx, here, ends[1-i]); err != nil {
				return false, err
			}
		}
		if done() {
			return true, nil
		}
		c, what, _ := p.tunnelTrouble()
		p.steps.progress("%s: %s", c.role, what)
		return false, nil
	})
	if err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	c, what, do := p.tunnelTrouble()
	return problemf(fmt.Sprintf("%s `spillway doctor %s --context %s --remote-context %s` walks the path and names the hop that fails.", sentence(do), p.name, p.consumer.context, p.provider.context),
		"the tunnel is not up after %s; in %s %s", p.wish.timeout.Round(time.Second), c.title(), what)
}

// tunnelTrouble says at which end the tunnel is not as it should be, and why.
func (p *peerRun) tunnelTrouble() (c *cluster, what, do string) {
	types := []string{v1alpha1.ConditionTunnelUp}
	if holds(p.atConsumer, v1alpha1.ConditionTunnelUp) {
		what, do = whyNot(p.atProvider, types)
		return p.provider, what, do
	}
	what, do = whyNot(p.atConsumer, types)
	return p.consumer, what, do
}

// followEnds calls see at first and after each change at one of ends, until it returns true or an error.
func (p *peerRun) followEnds(ctx context.Context, ends []*end, see func() (bool, error)) error {
	type news struct {
		end     *end
		peering *v1alpha1.Peering // nil: gone
		err     error
	}
	ctx, cancel := context.WithCancel(ctx)
	heard := make(chan news)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	tell := func(n news) (stop bool) {
		select {
		case heard <- n:
			return n.peering == nil
		case <-ctx.Done():
			return true
		}
	}
	for _, e := range ends {
		name := (*e.peering).Name
		group.Go(func() {
			err := follow(ctx, peeringsOf(e.cluster), named(name), func(found map[string]*v1alpha1.Peering) bool {
				return tell(news{end: e, peering: found["/"+name]})
			})
			if err != nil {
				tell(news{end: e, err: err})
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case n := <-heard:
			switch {
			case n.err != nil:
				return explainWatch(n.end.cluster, *n.end.peering, n.err)
			case n.peering == nil:
				return problemf("Run the same command again.", "somebody deleted the Peering %q of %s meanwhile", (*n.end.peering).Name, n.end.cluster.title())
			}
			*n.end.peering = n.peering
			if done, err := see(); done || err != nil {
				return err
			}
		}
	}
}

func explainWatch(c *cluster, p *v1alpha1.Peering, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return explain(c, "watch Peering "+p.Name, err)
}

// tell writes what there's cluster says of its network into here's Peering, whole, as the controllers do afterwards.
// Nothing is written over somebody else's newer word, and nothing twice, so that the two can never contend.
func (p *peerRun) tell(ctx context.Context, here, there *end) error {
	local := localOf(*there.peering)
	if local == nil || knows(*here.peering, *there.peering) || equality.Semantic.DeepEqual(here.sent, local) {
		return nil
	}
	name := (*here.peering).Name
	data, err := encodeRemote(*here.peering, local)
	if err != nil {
		return fmt.Errorf("encode the network of %s: %w", there.cluster.context, err)
	}
	got, err := here.cluster.peerings.Patch(ctx, name, types.MergePatchType, data, metav1.PatchOptions{FieldManager: v1alpha1.FieldManagerNetwork})
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return nil // the watch tells what happened
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return explain(here.cluster, "write the peer's network into Peering "+name, err)
	}
	p.steps.changed = true
	here.sent, *here.peering = local, got
	return nil
}

// encodeRemote is the merge patch that makes network all that p knows of its peer's, if p is still as it was seen.
func encodeRemote(p *v1alpha1.Peering, network *v1alpha1.ClusterNetwork) ([]byte, error) {
	data, err := json.Marshal(network)
	if err != nil {
		return nil, err
	}
	whole := map[string]any{"gateways": nil, "ranges": nil, "aliases": nil, "seenRanges": nil, "sampleNodes": nil}
	if err := json.Unmarshal(data, &whole); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": p.ResourceVersion},
		"spec":     map[string]any{"tunnel": map[string]any{"remote": whole}},
	})
}

// outcomeOfTunnel describes the tunnel for machines; nil: the command did not come so far.
func (p *peerRun) outcomeOfTunnel() *joined {
	if p.joining.why == "" {
		return nil
	}
	j := &joined{Mode: string(p.joining.mode), Why: p.joining.why}
	if j.Mode == "" {
		j.Mode = string(v1alpha1.TunnelModeOff)
	}
	if p.atConsumer != nil {
		j.Up = p.joining.joins() && holds(p.atConsumer, v1alpha1.ConditionTunnelUp)
		if p.atConsumer.Spec.API != nil {
			j.Via = string(p.atConsumer.Spec.API.Via)
		}
	}
	return j
}
