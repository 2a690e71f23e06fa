package tunnel

import "net/netip"

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
