package tunnel

import (
	"errors"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
)

// answerLink has the addresses at which this node answers its pods.
const answerLink = "spillway-dns"

// answer plans the link with the addresses at which this node answers its pods.
func (p *planner) answer() {
	if len(p.t.Answer) == 0 {
		return
	}
	p.c.Links = append(p.c.Links, Link{Name: answerLink, Dummy: true, MTU: defaultMTU})
	for _, a := range p.t.Answer {
		p.c.Addresses = append(p.c.Addresses, Address{answerLink, netip.PrefixFrom(a, a.BitLen())})
	}
}

// addDummy makes the link, of another kind that leads nowhere where the kernel has no such one: a bridge that nothing is
// attached to answers at its addresses too, and nodes that run pods have bridges.
func addDummy(l Link) error {
	attrs := netlink.LinkAttrs{Name: l.Name, MTU: l.MTU}
	err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs})
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	}
	return err
}

func leadsNowhere(l netlink.Link) bool {
	switch l.(type) {
	case *netlink.Dummy, *netlink.Bridge:
		return true
	}
	return false
}
