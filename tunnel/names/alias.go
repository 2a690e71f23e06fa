package names

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// mostAliases is how many names one question may lead through.
const mostAliases = 5

// errAliases: aliases of home lead to each other.
var errAliases = errors.New("too many aliases")

// resolve asks upstream what r says and gives the answer back in the words of home. An alias of home (a Service of type
// ExternalName) names what it stands for as it is called at home, and upstream follows it as if it were called so here: such
// an alias is followed anew.
func (s *Server) resolve(ctx context.Context, upstream []netip.AddrPort, r renaming, question *dns.Msg, tcp bool) (*dns.Msg, error) {
	var aliases []dns.RR
	for range mostAliases {
		sent := question.Copy()
		sent.Id, sent.Question[0].Name = dns.Id(), r.sent
		answer, err := ask(ctx, upstream, sent, tcp)
		if err != nil {
			return nil, err
		}
		alias := r.alias(answer, question.Question[0].Qtype)
		if alias == nil {
			r.answer(answer)
			answer.Answer = append(aliases, answer.Answer...)
			return answer, nil
		}
		alias.Hdr.Name = r.asked
		aliases = append(aliases, alias)
		r = rename(r.zones, r.names, alias.Target)
	}
	return nil, errAliases
}

// alias finds the record by which a renamed question leads to a name of home, nil if none does.
func (r renaming) alias(m *dns.Msg, kind uint16) *dns.CNAME {
	if r.sent == r.asked || kind == dns.TypeCNAME || kind == dns.TypeANY {
		return nil
	}
	for _, rr := range m.Answer {
		c, ok := rr.(*dns.CNAME)
		if !ok || !strings.EqualFold(c.Hdr.Name, r.sent) {
			continue
		}
		if _, ours := r.zones.swap(c.Target, r.names.here); ours {
			return c
		}
		return nil
	}
	return nil
}
