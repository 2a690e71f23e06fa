package peering

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// fieldManagerNetwork writes spec.tunnel.remote.
const fieldManagerNetwork = "spillway-network"

// agreeAgain is when something that could not be agreed on is tried again: a range may have become free.
const agreeAgain = 15 * time.Second

// agreement is what a pass found out about the tunnel of one Peering. Plain values.
type agreement struct {
	starting  bool // this cluster's own network is not known yet
	around    surroundings
	own       ownRanges
	announced *v1alpha1.ClusterNetwork // what the peer says now; nil: nothing
	refused   error                    // why what it says is not taken over
	seen      []address.Alias          // as what the peer's ranges are seen here
	unseen    error                    // why one of them is not
	taken     []string                 // what the peer is to see this cluster as no longer
	keysErr   error                    // why there are no keys
}

// agree brings spec.tunnel of a Peering up to date with what the peer announces, and with the aliases of its ranges. It
// returns the Peering as it is then; it writes nothing when that is what it was. The error is one of somebody who wrote at
// the same time: the change comes as an event.
func (c *Controller) agree(ctx context.Context, p *v1alpha1.Peering) (*v1alpha1.Peering, agreement, error) {
	if !joined(&p.Spec) || p.DeletionTimestamp != nil {
		delete(c.network.seen, p.Name)
		return p, agreement{}, nil
	}
	c.network.start.Do(func() { c.wg.Go(func() { c.network.run(c.ctx) }) })
	if !c.network.synced() || p.Spec.Share != nil && !c.caches.synced() {
		return p, agreement{starting: true}, nil
	}
	a := agreement{around: c.network.look()}
	a.own = a.around.ranges()
	a.announced, a.refused = c.announced(p)
	if a.announced != nil && a.refused == nil && !apiequality.Semantic.DeepEqual(p.Spec.Tunnel.Remote, a.announced) {
		changed, err := c.writeRemote(ctx, p, a.announced)
		if conflicted(err) {
			return p, a, err
		}
		if err != nil {
			a.refused = err
		} else {
			p = changed
		}
	}
	if !joined(&p.Spec) || p.Spec.Tunnel.Remote == nil {
		return p, a, nil
	}
	if err := checkRanges(p.Spec.Tunnel.Remote); err != nil {
		a.refused = errors.Join(a.refused, fmt.Errorf("%w: %w", errNetwork, err)) // written by hand
		return p, a, nil
	}
	taken := c.occupied(p, a.own.all())
	found := allocate(p, taken, c.cfg.Network.AliasPools)
	a.unseen, a.taken = errors.Join(found.err, taken.clash()), taken.named()
	if found.write {
		changed, err := c.writeAliases(ctx, p, found.apply)
		if conflicted(err) {
			return p, a, err
		}
		if err != nil {
			a.unseen = err
		} else {
			p = changed
		}
	}
	c.network.seen[p.Name] = found.all
	inForce := parseAliases(p.Spec.Tunnel.Aliases)
	a.seen = slices.DeleteFunc(slices.Clone(found.all), func(s address.Alias) bool { return !slices.Contains(inForce, s) })
	return p, a, nil
}

// announced is what the peer says of its network now: its own Peering says it to who borrows, a ConfigMap of the tenant to
// who shares. The error is an errNetwork.
func (c *Controller) announced(p *v1alpha1.Peering) (*v1alpha1.ClusterNetwork, error) {
	if l := c.links[p.Name]; l != nil && p.Spec.Borrow != nil {
		if s := l.state(); s.remote != nil && s.remote.Spec.ClusterID == c.cfg.ClusterID && s.remote.Status.Tunnel != nil &&
			s.remote.Status.Tunnel.Local != nil {
			n := s.remote.Status.Tunnel.Local.DeepCopy()
			return n, checkNetwork(n)
		}
	}
	if p.Spec.Share == nil {
		return nil, nil
	}
	said, ok := c.caches.requests.Get(tenant{peering: p.Name}.namespace(), networkConfigMap)
	if !ok || said.Labels[v1alpha1.LabelTenant] != p.Spec.ClusterID {
		return nil, nil
	}
	return parseNetwork(said.Data[networkKey])
}

// occupied is what the aliases of a Peering's peer keep away from.
func (c *Controller) occupied(p *v1alpha1.Peering, own []netip.Prefix) occupied {
	o := occupied{
		own: own, seenAs: seenAsAliases(p), giveWay: c.cfg.ClusterID > p.Spec.ClusterID, taken: prefixes(p.Spec.Tunnel.Remote.TakenRanges),
	}
	for _, other := range c.peerings.List() {
		if other.Name == p.Name || !joined(&other.Spec) {
			continue
		}
		seen, ok := c.network.seen[other.Name]
		if !ok {
			seen = parseAliases(other.Spec.Tunnel.Aliases)
		}
		for _, a := range seen {
			o.used = append(o.used, a.As)
		}
		o.besides = append(o.besides, seenAsAliases(other)...)
	}
	return o
}

// seenAsAliases are the aliases as which a Peering's peer sees ranges of this cluster; a range that is seen as it is has none.
func seenAsAliases(p *v1alpha1.Peering) []netip.Prefix {
	if p.Spec.Tunnel == nil || p.Spec.Tunnel.Remote == nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range parseAliases(p.Spec.Tunnel.Remote.Aliases) {
		if a.Range != a.As {
			out = append(out, a.As)
		}
	}
	return out
}

// named are the ranges that the peer is to keep away from; none as long as it does. They are all named then, lest it moves from one
// to the next and back.
func (o occupied) named() []string {
	if o.clash() == nil {
		return nil
	}
	var out []string
	for _, used := range o.used {
		out = append(out, used.String())
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), address.MaxRanges)]
}

// clash says why packets of the peer cannot be told from those to others; nil when they can.
func (o occupied) clash() error {
	for _, as := range o.seenAs {
		for _, used := range o.used {
			if as.Overlaps(used) {
				return fmt.Errorf("the peer sees this cluster as %s, and %s stands for another peer here. It was told to choose another; if it "+
					"does not, give one of the two another alias in spec.tunnel.aliases", as, used)
			}
		}
	}
	return nil
}

// writeRemote replaces spec.tunnel.remote, lists and all.
func (c *Controller) writeRemote(ctx context.Context, p *v1alpha1.Peering, remote *v1alpha1.ClusterNetwork) (*v1alpha1.Peering, error) {
	whole := map[string]any{"gateways": nil, "ranges": nil, "aliases": nil, "seenRanges": nil, "sampleNodes": nil, "takenRanges": nil}
	data, err := json.Marshal(remote)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &whole); err != nil {
		return nil, err
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": p.ResourceVersion},
		"spec":     map[string]any{"tunnel": map[string]any{"remote": whole}},
	})
	if err != nil {
		return nil, err
	}
	changed, err := c.client.Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManagerNetwork})
	if err != nil {
		return nil, fmt.Errorf("write the peer's network into Peering %s: %w", p.Name, err)
	}
	c.cfg.Log.Info("network of peer changed", zap.String("peer", p.Name), zap.Int("gateways", len(remote.Gateways)), zap.Int("ranges", len(remote.Ranges)))
	return changed, nil
}

func (c *Controller) writeAliases(ctx context.Context, p *v1alpha1.Peering, aliases []v1alpha1.Alias) (*v1alpha1.Peering, error) {
	patch, err := aliasPatch(p, aliases)
	if err != nil {
		return nil, err
	}
	changed, err := c.client.Patch(ctx, p.Name, types.ApplyPatchType, patch, metav1.PatchOptions{FieldManager: v1alpha1.FieldManagerAddress})
	if err != nil {
		return nil, fmt.Errorf("write aliases into Peering %s: %w", p.Name, err)
	}
	return changed, nil
}

// tunnelStatus fills in what a pass found out. The paths are the gateways' to write: they stay as they are.
func (c *Controller) tunnelStatus(ctx context.Context, p *v1alpha1.Peering, a *agreement, status *v1alpha1.PeeringStatus) {
	if !joined(&p.Spec) {
		status.Tunnel = nil
		return
	}
	if a.starting {
		return
	}
	var keys []string
	if keys, a.keysErr = c.network.ensureKeys(ctx); keys == nil {
		return
	}
	local := a.around.local(p.Spec.Tunnel, a.own, keys)
	for _, s := range a.seen {
		local.Aliases = append(local.Aliases, v1alpha1.Alias{Range: s.Range.String(), As: s.As.String()})
		local.SeenRanges = append(local.SeenRanges, s.Range.String())
	}
	local.TakenRanges = a.taken
	if status.Tunnel == nil {
		status.Tunnel = &v1alpha1.TunnelStatus{}
	}
	if !apiequality.Semantic.DeepEqual(status.Tunnel.Local, local) {
		status.Tunnel.Local = local
	}
	status.Tunnel.APIAddress = apiAddress(&p.Spec)
}

// conflicted says whether somebody wrote at the same time.
func conflicted(err error) bool { return apierrors.IsConflict(err) || apierrors.IsNotFound(err) }

// after is when to look again although no event may tell: 0: not by time.
func (a agreement) after() time.Duration {
	switch {
	case a.starting:
		return removeEvery
	case a.unseen != nil || a.refused != nil || a.keysErr != nil:
		return agreeAgain
	}
	return 0
}

// soonest is the least of the durations that are not 0; 0 when all are.
func soonest(list ...time.Duration) time.Duration {
	var out time.Duration
	for _, d := range list {
		if d > 0 && (out == 0 || d < out) {
			out = d
		}
	}
	return out
}

func paths(status *v1alpha1.PeeringStatus) []v1alpha1.TunnelPath {
	if status.Tunnel == nil {
		return nil
	}
	return status.Tunnel.Paths
}
