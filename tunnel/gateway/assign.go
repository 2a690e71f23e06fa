package gateway

import "slices"

// candidate is a gateway that can hold slots.
type candidate struct {
	name    string
	settled bool // there for a while: may take what another holds
}

// assign says who shall take which slot: free ones, and one each for candidates without any from those that hold
// several. holders has the name per slot, empty where it is free. What stays where it is, is not mentioned. Everybody
// who sees the same decides the same.
func assign(candidates []candidate, holders []string) map[int]string {
	takes := map[int]string{}
	if len(candidates) == 0 {
		return takes
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	held := make(map[string][]int, len(candidates))
	for slot, name := range holders {
		held[name] = append(held[name], slot)
	}
	for slot, name := range holders {
		if name != "" {
			continue
		}
		least := candidates[0].name
		for _, c := range candidates {
			if len(held[c.name]) < len(held[least]) {
				least = c.name
			}
		}
		takes[slot] = least
		held[least] = append(held[least], slot)
	}
	for _, c := range candidates {
		if !c.settled || len(held[c.name]) > 0 {
			continue
		}
		most := c.name
		for _, other := range candidates {
			if len(held[other.name]) > len(held[most]) {
				most = other.name
			}
		}
		if len(held[most]) < 2 {
			break
		}
		slot := slices.Max(held[most])
		takes[slot] = c.name
		held[most] = slices.DeleteFunc(held[most], func(s int) bool { return s == slot })
		held[c.name] = []int{slot}
	}
	return takes
}

// majority reports whether those present may decide for all known gateways without the fence: most of them, or the
// survivor of two.
func majority(present, known int) bool {
	return present > 0 && (2*present > known || known == 2)
}
