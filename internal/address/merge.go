package address

import (
	"net/netip"
	"slices"
)

// Merge returns the same addresses as the fewest ranges, sorted: ranges within others are dropped and halves joined. What
// is no valid range is passed over.
func Merge(ranges []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	sorted := make([]netip.Prefix, 0, len(ranges))
	for _, r := range ranges {
		if r.IsValid() {
			sorted = append(sorted, r.Masked())
		}
	}
	slices.SortFunc(sorted, netip.Prefix.Compare)
	for _, r := range sorted {
		if len(out) > 0 && out[len(out)-1].Overlaps(r) {
			continue // sorted: the one before is the larger
		}
		out = append(out, r)
		for len(out) > 1 {
			joined, ok := join(out[len(out)-2], out[len(out)-1])
			if !ok {
				break
			}
			out = append(out[:len(out)-2], joined)
		}
	}
	return out
}

// join returns the range of which a and b are the halves.
func join(a, b netip.Prefix) (netip.Prefix, bool) {
	if a.Bits() != b.Bits() || a.Bits() == 0 || a == b {
		return netip.Prefix{}, false
	}
	whole := Widen(a, a.Bits()-1)
	return whole, whole == Widen(b, b.Bits()-1)
}

// Widen returns the range of the given size that r lies in; r itself when it is as large.
func Widen(r netip.Prefix, bits int) netip.Prefix {
	if bits >= r.Bits() {
		return r.Masked()
	}
	return netip.PrefixFrom(r.Addr(), bits).Masked()
}

// Cover returns the smallest range that holds all given ones, which must be of one family.
func Cover(ranges []netip.Prefix) netip.Prefix {
	whole := ranges[0].Masked()
	for _, r := range ranges[1:] {
		for !(whole.Bits() <= r.Bits() && whole.Contains(r.Addr())) {
			whole = Widen(whole, whole.Bits()-1)
		}
	}
	return whole
}

// Overlapping says whether any two of the ranges, one of each list, have an address in common.
func Overlapping(a, b []netip.Prefix) bool {
	return slices.ContainsFunc(a, func(one netip.Prefix) bool { return slices.ContainsFunc(b, one.Overlaps) })
}
