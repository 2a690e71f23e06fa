package peering

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// trimPeering keeps, of the record of who wrote what, the part about the spec: it tells aliases that somebody set by hand
// from ours.
func trimPeering(p *v1alpha1.Peering) {
	p.ManagedFields = slices.DeleteFunc(p.ManagedFields, func(e metav1.ManagedFieldsEntry) bool { return e.Subresource != "" })
}

// aliasKeys are the ranges of spec.tunnel.aliases that an entry of the record speaks for, and whether also for their as
// (KEP-555).
func aliasKeys(e metav1.ManagedFieldsEntry) map[string]bool {
	if e.FieldsV1 == nil || !bytes.Contains(e.FieldsV1.GetRawBytes(), []byte(`"f:aliases"`)) {
		return nil
	}
	var fields struct {
		Spec struct {
			Tunnel struct {
				Aliases map[string]map[string]json.RawMessage `json:"f:aliases"`
			} `json:"f:tunnel"`
		} `json:"f:spec"`
	}
	if json.Unmarshal(e.FieldsV1.GetRawBytes(), &fields) != nil {
		return nil
	}
	out := map[string]bool{}
	for key, owned := range fields.Spec.Tunnel.Aliases {
		var k struct{ Range string }
		if text, ok := strings.CutPrefix(key, "k:"); ok && json.Unmarshal([]byte(text), &k) == nil {
			_, out[k.Range] = owned["f:as"]
		}
	}
	return out
}

// aliasOwners are the aliases of a Peering by who wrote them.
type aliasOwners struct {
	ours   []v1alpha1.Alias // allocated by this controller
	fixed  []v1alpha1.Alias // whose as somebody set by hand
	shared []v1alpha1.Alias // those of fixed whose entry was ours before: to leave them out would take them away
}

// ownersOf tells the aliases that this controller allocated from those that somebody set by hand.
func ownersOf(p *v1alpha1.Peering) aliasOwners {
	mine, byHand := map[string]bool{}, map[string]bool{}
	for _, e := range p.ManagedFields {
		for r, as := range aliasKeys(e) {
			if e.Manager == v1alpha1.FieldManagerAddress && e.Operation == metav1.ManagedFieldsOperationApply {
				mine[r] = as
			} else if as {
				byHand[r] = true
			}
		}
	}
	var out aliasOwners
	for _, a := range p.Spec.Tunnel.Aliases {
		as, known := mine[a.Range]
		if as && !byHand[a.Range] {
			out.ours = append(out.ours, a)
			continue
		}
		out.fixed = append(out.fixed, a)
		if known {
			out.shared = append(out.shared, a)
		}
	}
	return out
}

// allocated is the outcome of looking for aliases. Plain values.
type allocated struct {
	all   []address.Alias  // of every range that is seen, by range
	apply []v1alpha1.Alias // what to apply: those that nobody set by hand, and entries that are shared with who did
	write bool             // the Peering has something else
	err   error            // why a range is not seen
}

// occupied is what aliases of a Peering's peer keep away from. Plain values.
type occupied struct {
	own     []netip.Prefix // this cluster's ranges
	used    []netip.Prefix // as which other peers are seen here
	seenAs  []netip.Prefix // as which this peer sees this cluster
	besides []netip.Prefix // as which other peers do
	taken   []netip.Prefix // as which this peer sees others: it is not to be seen as one of them
	giveWay bool           // rather than the peer, which knows of seenAs too
}

// allocate finds as what the ranges of a Peering's peer are seen. What peers are seen as here and what they see this cluster as
// must be apart: packets carry both, and only their addresses tell which way they go. Of two clusters that took the same alias
// for each other one gives way; one that took what stands for a third cluster at its peer moves. No alias in force moves because of
// what a third cluster says. Pure.
func allocate(p *v1alpha1.Peering, o occupied, pools []netip.Prefix) allocated {
	have := ownersOf(p)
	request := address.Request{
		Peer: p.Spec.ClusterID, Fixed: parseAliases(have.fixed), Previous: parseAliases(have.ours),
		Own: o.own, Used: slices.Concat(o.used, o.taken), Avoid: slices.Concat(o.seenAs, o.besides), Pools: pools,
	}
	if o.giveWay {
		request.Used = slices.Concat(request.Used, o.seenAs)
	}
	for _, r := range p.Spec.Tunnel.Remote.Ranges {
		for _, prefix := range prefixes([]string{r.CIDR}) {
			request.Ranges = append(request.Ranges, address.Range{Prefix: prefix, Always: r.Kind != v1alpha1.RangePods})
		}
	}
	var out allocated
	out.all, out.err = address.Allocate(request)
	for _, a := range out.all {
		entry := v1alpha1.Alias{Range: a.Range.String(), As: a.As.String()}
		if !slices.ContainsFunc(have.fixed, func(f v1alpha1.Alias) bool { return f.Range == entry.Range }) {
			out.apply = append(out.apply, entry)
		}
	}
	byRange := func(a, b v1alpha1.Alias) int { return strings.Compare(a.Range, b.Range) }
	slices.SortFunc(have.ours, byRange)
	slices.SortFunc(out.apply, byRange)
	out.write = !slices.Equal(have.ours, out.apply)
	out.apply = append(out.apply, have.shared...)
	return out
}

// aliasPatch is the whole of what this controller wants in spec.tunnel.aliases, for server-side apply. It holds the
// version it was made from: a tunnel that somebody took away meanwhile is not to come back.
func aliasPatch(p *v1alpha1.Peering, aliases []v1alpha1.Alias) ([]byte, error) {
	if aliases == nil {
		aliases = []v1alpha1.Alias{}
	}
	return json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": v1alpha1.PeeringKind,
		"metadata": map[string]any{"name": p.Name, "uid": p.UID, "resourceVersion": p.ResourceVersion},
		"spec":     map[string]any{"tunnel": map[string]any{"aliases": aliases}},
	})
}
