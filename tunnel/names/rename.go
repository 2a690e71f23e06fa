package names

import (
	"strings"

	"github.com/miekg/dns"
)

// zones are the names below which namespaces are: those of Services and of pods
// (https://github.com/kubernetes/dns/blob/master/docs/specification.md).
type zones [2]string

func zonesOf(domain string) zones {
	domain = dns.CanonicalName(domain)
	return zones{".svc." + domain, ".pod." + domain}
}

// swap replaces the namespace in a name, in presentation form with its last dot, as the map says.
func (z zones) swap(name string, with map[string]string) (string, bool) {
	for _, zone := range z {
		head := len(name) - len(zone)
		if head <= 0 || !strings.EqualFold(name[head:], zone) || escaped(name, head) {
			continue
		}
		start := strings.LastIndexByte(name[:head], '.')
		if start > 0 && escaped(name, start) {
			return name, false // a dot inside a label: no namespace has one
		}
		if other, ok := with[strings.ToLower(name[start+1:head])]; ok {
			return name[:start+1] + other + name[head:], true
		}
		return name, false
	}
	return name, false
}

// escaped says whether the byte at i of a name in presentation form stands for itself and not for the end of a label.
func escaped(name string, i int) bool {
	slashes := 0
	for i--; i >= 0 && name[i] == '\\'; i-- {
		slashes++
	}
	return slashes%2 == 1
}

// renaming is one question on its way to upstream and back.
type renaming struct {
	zones       zones
	names       *Names
	asked, sent string
}

// rename says what upstream is asked instead of a name.
func rename(z zones, names *Names, asked string) renaming {
	r := renaming{zones: z, names: names, asked: asked, sent: asked}
	if names != nil {
		r.sent, _ = z.swap(asked, names.here)
	}
	return r
}

// back gives what a name in an answer is called at home. What was asked for comes back as it was asked, since resolvers
// compare, some of them even upper and lower case.
func (r renaming) back(name string) string {
	if strings.EqualFold(name, r.sent) {
		return r.asked
	}
	out, _ := r.zones.swap(name, r.names.home)
	return out
}

// answer gives all names in an answer back. It is changed in place.
func (r renaming) answer(m *dns.Msg) {
	if r.names == nil {
		return
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			header := rr.Header()
			header.Name = r.back(header.Name)
			if target := targetOf(rr); target != nil {
				*target = r.back(*target)
			}
		}
	}
}

// targetOf is the name that a record leads to, nil if none.
func targetOf(rr dns.RR) *string {
	switch rr := rr.(type) {
	case *dns.CNAME:
		return &rr.Target
	case *dns.DNAME:
		return &rr.Target
	case *dns.SRV:
		return &rr.Target
	case *dns.PTR:
		return &rr.Ptr
	case *dns.MX:
		return &rr.Mx
	case *dns.NS:
		return &rr.Ns
	case *dns.SVCB:
		return &rr.Target
	case *dns.HTTPS:
		return &rr.Target
	}
	return nil
}
