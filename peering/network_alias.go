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

// aliasKeys are the ranges of spec.tunnel.aliases whose as an entry of the record speaks for (KEP-555).
func aliasKeys(e metav1.ManagedFieldsEntry) []string {
	if e.FieldsV1 == nil || !bytes.Contains(e.FieldsV1.Raw, []byte(`"f:aliases"`)) {
		return nil
	}
	var fields struct {
		Spec struct {
			Tunnel struct {
				Aliases map[string]map[string]json.RawMessage `json:"f:aliases"`
			} `json:"f:tunnel"`
		} `json:"f:spec"`
	}
	if json.Unmarshal(e.FieldsV1.Raw, &fields) != nil {
		return nil
	}
	var out []string
	for key, owned := range fields.Spec.Tunnel.Aliases {
		var k struct{ Range string }
		text, ok := strings.CutPrefix(key, "k:")
		if _, as := owned["f:as"]; ok && as && json.Unmarshal([]byte(text), &k) == nil {
			out = append(out, k.Range)
		}
	}
	return out
}

// splitAliases tells the aliases of a Peering that this controller allocated from those that somebody set by hand.
func splitAliases(p *v1alpha1.Peering) (ours, fixed []v1alpha1.Alias) {
	mine, others := map[string]bool{}, map[string]bool{}
	for _, e := range p.ManagedFields {
		for _, r := range aliasKeys(e) {
			if e.Manager == v1alpha1.FieldManagerAddress && e.Operation == metav1.ManagedFieldsOperationApply {
				mine[r] = true
			} else {
				others[r] = true
			}
		}
	}
	for _, a := range p.Spec.Tunnel.Aliases {
		if mine[a.Range] && !others[a.Range] {
			ours = append(ours, a)
		} else {
			fixed = append(fixed, a)
		}
	}
	return ours, fixed
}

// allocated is the outcome of looking for aliases. Plain values.
type allocated struct {
	all   []address.Alias  // of every range that is seen, by range
	ours  []v1alpha1.Alias // those of all that nobody set by hand
	write bool             // ours differ from what the Peering has of ours
	err   error            // why a range is not seen
}

// allocate finds as what the ranges of a Peering's peer are seen: own are this cluster's ranges, used those as which
// other peers are seen. Pure.
func allocate(p *v1alpha1.Peering, own, used []netip.Prefix, pools []netip.Prefix) allocated {
	ours, fixed := splitAliases(p)
	request := address.Request{
		Peer: p.Spec.ClusterID, Fixed: parseAliases(fixed), Previous: parseAliases(ours), Own: own, Used: used, Pools: pools,
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
		if !slices.ContainsFunc(fixed, func(f v1alpha1.Alias) bool { return f.Range == entry.Range }) {
			out.ours = append(out.ours, entry)
		}
	}
	byRange := func(a, b v1alpha1.Alias) int { return strings.Compare(a.Range, b.Range) }
	slices.SortFunc(ours, byRange)
	slices.SortFunc(out.ours, byRange)
	out.write = !slices.Equal(ours, out.ours)
	return out
}

// aliasPatch is the whole of what this controller wants in spec.tunnel.aliases, for server-side apply. It holds the
// version it was made from: a tunnel that somebody took away meanwhile is not to come back.
func aliasPatch(p *v1alpha1.Peering, ours []v1alpha1.Alias) ([]byte, error) {
	if ours == nil {
		ours = []v1alpha1.Alias{}
	}
	return json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": v1alpha1.PeeringKind,
		"metadata": map[string]any{"name": p.Name, "uid": p.UID, "resourceVersion": p.ResourceVersion},
		"spec":     map[string]any{"tunnel": map[string]any{"aliases": ours}},
	})
}
