package relay

import (
	"net/netip"
)

// Limits of a server. A gateway has one session per peer cluster; the rest is for strangers, and for peers behind one
// address translator.
const (
	maxSessions          = 1024
	maxUnproven          = 128
	maxUnprovenPerSource = 8
)

// door counts sessions. Pure; not safe for concurrent use.
type door struct {
	sessions int
	unproven int
	bySource map[netip.Prefix]int // unproven sessions
}

// source is what counts as one sender: an IPv4 address, or the /64 that one IPv6 host may use freely.
func source(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return netip.PrefixFrom(a, 32)
	}
	p, _ := a.Prefix(64) // always fits
	return p
}

// enter lets a session in, unproven, or does not.
func (d *door) enter(from netip.Prefix) bool {
	if d.sessions >= maxSessions || d.unproven >= maxUnproven || d.bySource[from] >= maxUnprovenPerSource {
		return false
	}
	d.sessions++
	d.unproven++
	d.bySource[from]++
	return true
}

// prove notes that something valid has passed.
func (d *door) prove(from netip.Prefix) {
	d.unproven--
	if d.bySource[from]--; d.bySource[from] == 0 {
		delete(d.bySource, from)
	}
}

// leave ends a session.
func (d *door) leave(from netip.Prefix, proven bool) {
	if !proven {
		d.prove(from)
	}
	d.sessions--
}
