package address

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
)

// Range is a range of a peer.
type Range struct {
	netip.Prefix
	// Always says that it is never seen as it is.
	Always bool
}

// Request is what Allocate goes by. Plain values, only read.
type Request struct {
	// Peer is the id of the cluster that has Ranges. It decides where in a pool the search begins, so that every cluster
	// that peers with it finds the same alias if it can.
	Peer   string
	Ranges []Range
	// Fixed are aliases set by hand, Previous those of an earlier call. What speaks of a range that is not among Ranges
	// is passed over.
	Fixed, Previous []Alias
	// Own are the ranges of this cluster, Used those that no alias may overlap: under which it sees other peers, and those under
	// which peers see it where it is for this cluster to give way. Avoid are ranges that no new alias is taken from.
	Own, Used, Avoid []netip.Prefix
	// Pools to take IPv4 aliases from, first to last. Nil: Pools().
	Pools []netip.Prefix
}

// ErrTaken: an alias set by hand overlaps a range that is in use; ErrNoRoom: no pool has room.
var (
	ErrTaken  = errors.New("overlaps a range that is in use")
	ErrNoRoom = errors.New("no room for an alias")
)

// Pools are the default pools of IPv4 aliases: the addresses of carriers (RFC 6598) and the former class E (RFC 1112).
// IPv6 aliases come from a /48 of the unique local addresses (RFC 4193), made of the peer's id.
func Pools() []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10), netip.PrefixFrom(netip.AddrFrom4([4]byte{240}), 4),
	}
}

// Allocate says as what each range of a peer is seen, sorted by range: as fixed, else as before if that still fits, else
// as it is if that overlaps nothing, else under an alias. No two results overlap, nor do they overlap Own or Used. The
// order of the inputs does not matter.
//
// Pure. Ranges that Check refuses give an ErrRefused and nothing else; ErrTaken and ErrNoRoom speak of single ranges
// that are left out of the result.
func Allocate(r Request) ([]Alias, error) {
	ranges := slices.Clone(r.Ranges)
	slices.SortFunc(ranges, func(a, b Range) int { // large ones first: they find room hardest
		if a.Bits() != b.Bits() {
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	plain := make([]netip.Prefix, len(ranges))
	for i, one := range ranges {
		plain[i] = one.Prefix
	}
	if err := Check(plain); err != nil {
		return nil, err
	}
	a := allocation{Request: r, real: plain, taken: slices.Concat(r.Own, r.Used), done: map[netip.Prefix]bool{}}
	for _, step := range []func(Range) error{a.fixed, a.previous, a.asItIs, a.fromPool} {
		for _, one := range ranges {
			if a.done[one.Prefix] {
				continue
			}
			if err := step(one); err != nil {
				a.done[one.Prefix] = true
				a.errs = append(a.errs, err)
			}
		}
	}
	slices.SortFunc(a.out, func(a, b Alias) int { return a.Range.Compare(b.Range) })
	return a.out, errors.Join(a.errs...)
}

// allocation is an Allocate under way.
type allocation struct {
	Request
	real  []netip.Prefix // the peer's ranges
	taken []netip.Prefix // what no alias may overlap
	done  map[netip.Prefix]bool
	out   []Alias
	errs  []error
}

func (a *allocation) accept(one Range, as netip.Prefix) {
	a.out = append(a.out, Alias{one.Prefix, as})
	a.taken = append(a.taken, as)
	a.done[one.Prefix] = true
}

func (a *allocation) free(as netip.Prefix) bool {
	return refusal(as) == "" && overlapped(a.taken, as) == nil
}

func overlapped(list []netip.Prefix, p netip.Prefix) *netip.Prefix {
	i := slices.IndexFunc(list, p.Overlaps)
	if i < 0 {
		return nil
	}
	return &list[i]
}

func lookUp(list []Alias, one Range) (netip.Prefix, bool) {
	for _, e := range list {
		if e.Range == one.Prefix && fits(e) {
			return e.As.Masked(), true
		}
	}
	return netip.Prefix{}, false
}

func (a *allocation) fixed(one Range) error {
	as, ok := lookUp(a.Fixed, one)
	if !ok {
		return nil
	}
	if why := refusal(as); why != "" {
		return fmt.Errorf("%s as %s: %s: %w", one.Prefix, as, why, ErrTaken)
	}
	if other := overlapped(a.taken, as); other != nil {
		return fmt.Errorf("%s as %s: %w: %s", one.Prefix, as, ErrTaken, other)
	}
	a.accept(one, as)
	return nil
}

func (a *allocation) previous(one Range) error {
	if as, ok := lookUp(a.Previous, one); ok && a.free(as) && !(one.Always && as == one.Prefix) {
		a.accept(one, as)
	}
	return nil
}

func (a *allocation) asItIs(one Range) error {
	if !one.Always && a.free(one.Prefix) {
		a.accept(one, one.Prefix)
	}
	return nil
}

func (a *allocation) fromPool(one Range) error {
	taken := slices.Concat(a.taken, a.real, a.Avoid)
	var as netip.Prefix
	var ok bool
	if one.Addr().Is6() {
		as, ok = search(pool6(a.Peer, one.Bits()), one.Prefix, a.Peer, taken)
	} else {
		pools := a.Pools
		if pools == nil {
			pools = Pools()
		}
		for i := 0; i < len(pools) && !ok; i++ {
			as, ok = search(pools[i], one.Prefix, a.Peer, taken)
		}
	}
	if !ok {
		return fmt.Errorf("%s: %w: every pool is full", one.Prefix, ErrNoRoom)
	}
	a.accept(one, as)
	return nil
}

// pool6 is the /48 of a peer, or all unique local addresses for a range that does not fit in there.
func pool6(peer string, bits int) netip.Prefix {
	sum := sha256.Sum256([]byte("spillway alias pool\n" + peer))
	a := [16]byte{0: 0xfd}
	if bits <= 48 {
		return netip.PrefixFrom(netip.AddrFrom16(a), 8)
	}
	copy(a[1:6], sum[:5])
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}

// smallFrom is the size from which an IPv4 range is small: small ones lie in the last quarter of a pool as long as there is
// room, lest they leave no room for large ones.
const smallFrom = 20

// search finds a free range of the size of real in a pool. It begins where a hash of peer and range says, and passes over
// what is taken.
func search(pool, real netip.Prefix, peer string, taken []netip.Prefix) (netip.Prefix, bool) {
	var inPool []netip.Prefix
	for _, t := range taken {
		if t.Overlaps(pool) {
			inPool = append(inPool, t)
		}
	}
	for _, r := range reserved() {
		if r.prefix.Overlaps(pool) {
			inPool = append(inPool, r.prefix)
		}
	}
	if real.Bits() < pool.Bits() {
		return netip.Prefix{}, false
	}
	grain := min(real.Bits(), pool.Bits()+62) // in a vast pool not every place is tried
	n := uint64(1) << (grain - pool.Bits())   // places
	parts := [][2]uint64{{0, n}}
	if part := n / 4 * 3; real.Addr().Is4() && part > 0 {
		parts = [][2]uint64{{0, part}, {part, n}}
		if real.Bits() >= smallFrom {
			slices.Reverse(parts)
		}
	}
	sum := sha256.Sum256([]byte("spillway alias\n" + peer + "\n" + real.String()))
	start := binary.BigEndian.Uint64(sum[:])
	for _, part := range parts {
		first := part[0] + start%(part[1]-part[0])
		for _, stretch := range [][2]uint64{{first, part[1]}, {part[0], first}} {
			for i := stretch[0]; i < stretch[1]; {
				p := netip.PrefixFrom(place(pool, grain, i), real.Bits())
				blocking := overlapped(inPool, p)
				if blocking == nil {
					return p, true
				}
				i = after(pool, grain, i, *blocking)
			}
		}
	}
	return netip.Prefix{}, false
}

// place is where the i-th range of a size begins in a pool.
func place(pool netip.Prefix, size int, i uint64) netip.Addr {
	a := pool.Masked().Addr().AsSlice()
	add(a, size, i)
	addr, _ := netip.AddrFromSlice(a)
	return addr
}

// add adds i to the number that the first size bits of a are. It does not run over: i is below the places of a pool.
func add(a []byte, size int, i uint64) {
	shift := len(a)*8 - size
	at := len(a) - 1 - shift/8
	hi, lo := bits.Mul64(i, 1<<(shift%8))
	carry := uint64(0)
	for ; at >= 0; at-- {
		sum := uint64(a[at]) + lo&0xff + carry
		a[at], carry = byte(sum), sum>>8
		lo = lo>>8 | hi<<56
		hi >>= 8
	}
}

// after is the place that follows both i and what blocks it.
func after(pool netip.Prefix, size int, i uint64, blocking netip.Prefix) uint64 {
	if blocking.Bits() >= size {
		return i + 1
	}
	within := size - max(blocking.Bits(), pool.Bits()) // it takes 2^within places
	if within >= 62 {
		return 1 << 62
	}
	return (i>>within + 1) << within
}
