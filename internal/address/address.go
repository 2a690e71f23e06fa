// Package address maps ranges of addresses onto others of the same size, address by address, and finds aliases for ranges
// that two clusters both use. Pure arithmetic: it knows no clusters, no clients and no clock.
//
//	aliases, err := address.Allocate(address.Request{Peer: id, Ranges: theirs, Own: ours, Used: others})
//	table, err := address.NewTable(aliases)
//	here, ok := table.Map(there)
package address

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Alias says that the addresses of Range are seen elsewhere as those of As: same size and family, host bits stay. Range
// and As are equal where an address is seen as it is.
type Alias struct{ Range, As netip.Prefix }

// Map moves an address of one range into the other; its host bits stay. False when it is not in from, or when the ranges
// differ in size or family.
func Map(a netip.Addr, from, to netip.Prefix) (netip.Addr, bool) {
	if !from.Contains(a) || from.Bits() != to.Bits() || from.Addr().Is4() != to.Addr().Is4() {
		return netip.Addr{}, false
	}
	bits := to.Bits()
	out, base := a.AsSlice(), to.Addr().AsSlice()
	for i := range out {
		mask := byte(0xff << (8 - min(8, max(0, bits-8*i))))
		out[i] = base[i]&mask | out[i]&^mask
	}
	moved, ok := netip.AddrFromSlice(out)
	return moved, ok
}

// Table maps addresses by many aliases, in either direction. The zero Table maps nothing. It never changes: share it
// freely.
type Table struct {
	there []Alias // sorted by Range
	here  []Alias // sorted by As
}

// NewTable returns a Table of aliases, or an error when an alias does not fit together or two of them overlap on one
// side: then an address would have two meanings.
func NewTable(aliases []Alias) (*Table, error) {
	t := &Table{}
	for _, a := range aliases {
		if !fits(a) {
			return nil, fmt.Errorf("%s cannot be seen as %s: both must be ranges of one size and family", a.Range, a.As)
		}
		t.there = append(t.there, Alias{a.Range.Masked(), a.As.Masked()})
	}
	slices.SortFunc(t.there, func(a, b Alias) int { return a.Range.Compare(b.Range) })
	t.here = slices.Clone(t.there)
	slices.SortFunc(t.here, func(a, b Alias) int { return a.As.Compare(b.As) })
	for i := range aliases[min(1, len(aliases)):] {
		if a, b := t.there[i], t.there[i+1]; a.Range.Overlaps(b.Range) {
			return nil, fmt.Errorf("%s and %s overlap", a.Range, b.Range)
		}
		if a, b := t.here[i], t.here[i+1]; a.As.Overlaps(b.As) {
			return nil, fmt.Errorf("%s and %s, as which %s and %s are seen, overlap", a.As, b.As, a.Range, b.Range)
		}
	}
	return t, nil
}

func fits(a Alias) bool {
	return a.Range.IsValid() && a.As.IsValid() && a.Range.Bits() == a.As.Bits() && a.Range.Addr().Is4() == a.As.Addr().Is4()
}

// Map returns the address under which an address of a range is seen; false when it is in no range.
func (t *Table) Map(a netip.Addr) (netip.Addr, bool) {
	return find(t.there, a, func(e Alias) (from, to netip.Prefix) { return e.Range, e.As })
}

// Back undoes Map.
func (t *Table) Back(a netip.Addr) (netip.Addr, bool) {
	return find(t.here, a, func(e Alias) (from, to netip.Prefix) { return e.As, e.Range })
}

// Aliases are those of the Table, by Range. The result is a copy.
func (t *Table) Aliases() []Alias { return slices.Clone(t.there) }

// Equal says whether two tables map alike. Nil is equal to nil only.
func (t *Table) Equal(o *Table) bool {
	if t == nil || o == nil {
		return t == o
	}
	return slices.Equal(t.there, o.there)
}

// find looks for the range that holds a among sorted ones that do not overlap: it is the last that begins at or before a.
func find(sorted []Alias, a netip.Addr, side func(Alias) (from, to netip.Prefix)) (netip.Addr, bool) {
	a = a.Unmap().WithZone("")
	next, _ := slices.BinarySearchFunc(sorted, a, func(e Alias, a netip.Addr) int {
		from, _ := side(e)
		if from.Addr().Compare(a) <= 0 {
			return -1
		}
		return 1
	})
	if next == 0 {
		return netip.Addr{}, false
	}
	from, to := side(sorted[next-1])
	return Map(a, from, to)
}

// ErrRefused: no cluster can have such ranges.
var ErrRefused = errors.New("no cluster can have this range")

const (
	// MaxRanges is how many ranges one cluster may have.
	MaxRanges  = 64
	leastBits4 = 8  // a larger IPv4 range is refused
	leastBits6 = 16 // a larger IPv6 range is refused
)

// Check says why ranges that a peer announces are refused: the default route, multicast, loopback, link-local and
// unspecified addresses, ranges larger than /8 (IPv6: /16), more than MaxRanges, host bits that are set, and ranges that
// overlap each other. The error is an ErrRefused.
func Check(ranges []netip.Prefix) error {
	if len(ranges) > MaxRanges {
		return fmt.Errorf("%d ranges, more than %d: %w", len(ranges), MaxRanges, ErrRefused)
	}
	for i, r := range ranges {
		if why := refusal(r); why != "" {
			return fmt.Errorf("%s: %s: %w", r, why, ErrRefused)
		}
		for _, other := range ranges[:i] {
			if r.Overlaps(other) {
				return fmt.Errorf("%s and %s overlap: %w", other, r, ErrRefused)
			}
		}
	}
	return nil
}

func refusal(r netip.Prefix) string {
	switch a := r.Addr(); {
	case !r.IsValid():
		return "it is no range"
	case a.Is4In6() || r != r.Masked():
		return "it is not written as a range is"
	case r.Bits() == 0:
		return "it is the default route"
	case a.Is4() && r.Bits() < leastBits4:
		return fmt.Sprintf("it is larger than /%d", leastBits4)
	case a.Is6() && r.Bits() < leastBits6:
		return fmt.Sprintf("it is larger than /%d", leastBits6)
	}
	for _, no := range reserved() {
		if r.Overlaps(no.prefix) {
			return "it holds " + no.what
		}
	}
	return ""
}

type reservation struct {
	prefix netip.Prefix
	what   string
}

// reserved are addresses that mean something else on every machine (RFC 6890).
func reserved() []reservation {
	prefix := func(a string, bits int) netip.Prefix { return netip.PrefixFrom(netip.MustParseAddr(a), bits) }
	return []reservation{
		{prefix("0.0.0.0", 8), "addresses of \"this network\""}, {prefix("127.0.0.0", 8), "loopback addresses"},
		{prefix("169.254.0.0", 16), "link-local addresses"}, {prefix("224.0.0.0", 4), "multicast addresses"},
		{prefix("255.255.255.255", 32), "the broadcast address"},
		{prefix("::", 127), "the unspecified and loopback addresses"}, {prefix("::ffff:0:0", 96).Masked(), "IPv4 addresses in IPv6"},
		{prefix("fe80::", 10), "link-local addresses"}, {prefix("ff00::", 8), "multicast addresses"},
	}
}
