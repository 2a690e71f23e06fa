package tunnel

import (
	"fmt"
	"strings"
)

// Change is one step from what is there to what is wanted.
type Change struct {
	// Add: Item is put there, in place of what has its key. Else it is taken away.
	Add bool
	// Item is a Link, Address, Neighbor, Route or Rule.
	Item fmt.Stringer
}

// String is what an operator would type.
func (c Change) String() string {
	text := c.Item.String()
	if c.Add {
		return text
	}
	switch c.Item.(type) {
	case Neighbor:
		return strings.NewReplacer("neigh replace", "neigh del", "fdb replace", "fdb del").Replace(text)
	case Link:
		return "ip link del " + c.Item.(Link).Name
	default:
		return strings.Replace(text, " add ", " del ", 1)
	}
}

// Diff lists the steps from have to want: everything new before anything goes, links first and last. Pure. Devices and
// Packets are not compared here: WireGuard and nftables have their own ways.
func Diff(have, want Config) []Change {
	addLinks, delLinks := compare(have.Links, want.Links, func(l Link) any { return [3]any{l.Name, l.VXLAN, l.Dummy} })
	addAddrs, delAddrs := compare(have.Addresses, want.Addresses, func(a Address) any { return a })
	addNeighbors, delNeighbors := compare(have.Neighbors, want.Neighbors, func(n Neighbor) any { return n.Addr })
	addRoutes, delRoutes := compare(have.Routes, want.Routes, func(r Route) any { return [3]any{r.Table, r.Dst, r.Metric} })
	addRules, delRules := compare(have.Rules, want.Rules, func(r Rule) any { return r })
	out := append(addLinks, addAddrs...)
	out = append(append(append(out, addNeighbors...), addRoutes...), addRules...)
	out = append(append(append(out, delRules...), delRoutes...), delNeighbors...)
	return append(append(out, delAddrs...), delLinks...)
}

// compare tells what is new or differs under its key, and which keys go.
func compare[T interface {
	comparable
	fmt.Stringer
}](have, want []T, key func(T) any) (add, del []Change) {
	there, wanted := make(map[any]T, len(have)), make(map[any]bool, len(want))
	for _, item := range have {
		there[key(item)] = item
	}
	for _, item := range want {
		k := key(item)
		wanted[k] = true
		if old, ok := there[k]; !ok || old != item {
			add = append(add, Change{Add: true, Item: item})
		}
	}
	for _, item := range have {
		if !wanted[key(item)] {
			del = append(del, Change{Item: item})
		}
	}
	return add, del
}
