package translate

import (
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
)

// block is an IPBlock: the addresses of cidr without those of except.
type block struct {
	cidr   netip.Prefix
	except []netip.Prefix
}

// parseBlock returns false for a block that cannot be read, which is nobody.
func parseBlock(b *networkingv1.IPBlock) (block, bool) {
	cidr, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return block{}, false
	}
	out := block{cidr: cidr.Masked()}
	for _, text := range b.Except {
		except, err := netip.ParsePrefix(text)
		if err != nil {
			return block{}, false
		}
		out.except = append(out.except, except.Masked())
	}
	return out, true
}

func (b block) api() *networkingv1.IPBlock {
	out := &networkingv1.IPBlock{CIDR: b.cidr.String()}
	for _, e := range b.except {
		out.Except = append(out.Except, e.String())
	}
	return out
}

// within says whether all of p lies in q.
func within(p, q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }

// overlaps says whether the block names an address of p, or may: that excepts together cover all of p is not noticed.
func (b block) overlaps(p netip.Prefix) bool {
	return b.cidr.Overlaps(p) && !slices.ContainsFunc(b.except, func(e netip.Prefix) bool { return within(p, e) || within(b.cidr, e) })
}

// holds says whether the block names every address of p.
func (b block) holds(p netip.Prefix) bool {
	return within(p, b.cidr) && !slices.ContainsFunc(b.except, p.Overlaps)
}

// image returns what of the block lies in the range of a view, as the peer sees it; false when nothing does.
func (b block) image(v View) (block, bool) {
	if !b.overlaps(v.Home) {
		return block{}, false
	}
	out := block{cidr: v.Peer}
	if within(b.cidr, v.Home) {
		out.cidr = moved(b.cidr, v)
	}
	for _, e := range b.except {
		if !within(e, v.Home) {
			continue // outside the range
		}
		e = moved(e, v)
		if within(out.cidr, e) {
			return block{}, false
		}
		out.except = append(out.except, e)
	}
	return out, true
}

// moved returns where the peer sees a part of v.Home.
func moved(p netip.Prefix, v View) netip.Prefix {
	out, host, base := v.Peer.Addr().AsSlice(), p.Addr().AsSlice(), v.Home.Addr().AsSlice()
	for i := range out {
		out[i] |= host[i] &^ base[i]
	}
	a, _ := netip.AddrFromSlice(out) // of the length that it had
	return netip.PrefixFrom(a, p.Bits())
}

// blocksAtPeer returns the blocks that name at the peer who is named at home. A block means what home sees: of the ranges that
// look different from both sides, the part that it names is named as the peer sees it, and what happens to have such an address
// at the peer is not. Everything else is the same from everywhere.
func blocksAtPeer(b block, views []View) []block {
	var images []block
	rest, alien := b, false // alien: nothing of the block is the same from both sides
	for _, v := range views {
		if v.Home == v.Peer {
			continue
		}
		alien = alien || within(b.cidr, v.Home) || within(b.cidr, v.Peer)
		all := b.holds(v.Home)
		if all && b.holds(v.Peer) {
			continue // the rest names it
		}
		if image, named := b.image(v); named {
			images = append(images, image)
		}
		if !all && within(v.Peer, b.cidr) && b.overlaps(v.Peer) {
			rest.except = append(slices.Clone(rest.except), v.Peer)
		}
	}
	if alien {
		return images
	}
	return append([]block{rest}, images...)
}
