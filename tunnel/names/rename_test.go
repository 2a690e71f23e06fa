package names

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func TestRename(t *testing.T) {
	swaps := Of(map[string]string{"a": "b", "b": "c", "app": "app-8f3c1d2e", "same": "same"})
	for name, row := range map[string]struct{ asked, sent string }{
		"a Service":                      {"svc.app.svc.cluster.local.", "svc.app-8f3c1d2e.svc.cluster.local."},
		"a pod of a headless Service":    {"db-0.db.app.svc.cluster.local.", "db-0.db.app-8f3c1d2e.svc.cluster.local."},
		"a port":                         {"_http._tcp.svc.app.svc.cluster.local.", "_http._tcp.svc.app-8f3c1d2e.svc.cluster.local."},
		"a pod by address":               {"10-1-2-3.app.pod.cluster.local.", "10-1-2-3.app-8f3c1d2e.pod.cluster.local."},
		"a namespace":                    {"app.svc.cluster.local.", "app-8f3c1d2e.svc.cluster.local."},
		"upper case":                     {"SVC.App.Svc.Cluster.LOCAL.", "SVC.app-8f3c1d2e.Svc.Cluster.LOCAL."},
		"one step only":                  {"svc.a.svc.cluster.local.", "svc.b.svc.cluster.local."},
		"a name here that is one there":  {"svc.b.svc.cluster.local.", "svc.c.svc.cluster.local."},
		"a namespace with the same name": {"svc.same.svc.cluster.local.", ""},
		"a namespace of others":          {"svc.other.svc.cluster.local.", ""},
		"a namespace as it is here":      {"svc.app-8f3c1d2e.svc.cluster.local.", ""},
		"the search list at work":        {"example.com.app.svc.cluster.local.", "example.com.app-8f3c1d2e.svc.cluster.local."},
		"the namespace in another place": {"app.other.svc.cluster.local.", ""},
		"another domain":                 {"svc.app.svc.example.com.", ""},
		"no namespace":                   {"svc.cluster.local.", ""},
		"the domain":                     {"cluster.local.", ""},
		"the root":                       {".", ""},
		"the outside":                    {"www.example.com.", ""},
		"a dot inside a label":           {`svc\.app.svc.cluster.local.`, ""},
		"a dot at the end of a label":    {`app\.svc.cluster.local.`, ""},
		"a slash before a dot":           {`x\\.app.svc.cluster.local.`, `x\\.app-8f3c1d2e.svc.cluster.local.`},
		"a suffix that begins in a word": {"app.xsvc.cluster.local.", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if row.sent == "" {
				row.sent = row.asked
			}
			r := rename(zonesOf("cluster.local"), swaps, row.asked)
			if r.sent != row.sent {
				t.Errorf("%s is asked as %s, want %s", row.asked, r.sent, row.sent)
			}
			if got := r.back(strings.ToLower(r.sent)); got != row.asked {
				t.Errorf("the answer to %s names %s", row.asked, got)
			}
			if r := rename(zonesOf("cluster.local"), nil, row.asked); r.sent != row.asked {
				t.Errorf("one without names asks for %s", r.sent)
			}
		})
	}
}

func TestAnswer(t *testing.T) {
	names := Of(map[string]string{"app": "app-8f3c1d2e", "data": "data-8f3c1d2e"})
	for name, row := range map[string]struct {
		asked    string
		have     []string
		want     []string
		section2 bool
	}{
		"addresses": {"Svc.app.svc.cluster.local.",
			[]string{"svc.app-8f3c1d2e.svc.cluster.local. 5 IN A 10.2.0.7", "svc.app-8f3c1d2e.svc.cluster.local. 5 IN AAAA fd00::7"},
			[]string{"Svc.app.svc.cluster.local. 5 IN A 10.2.0.7", "Svc.app.svc.cluster.local. 5 IN AAAA fd00::7"}, false},
		"ports": {"_http._tcp.db.app.svc.cluster.local.",
			[]string{"_http._tcp.db.app-8f3c1d2e.svc.cluster.local. 5 IN SRV 0 50 80 db-0.db.app-8f3c1d2e.svc.cluster.local.",
				"db-0.db.app-8f3c1d2e.svc.cluster.local. 5 IN A 10.1.0.7"},
			[]string{"_http._tcp.db.app.svc.cluster.local. 5 IN SRV 0 50 80 db-0.db.app.svc.cluster.local.",
				"db-0.db.app.svc.cluster.local. 5 IN A 10.1.0.7"}, false},
		"whose address it is": {"7.0.2.10.in-addr.arpa.",
			[]string{"7.0.2.10.in-addr.arpa. 5 IN PTR svc.data-8f3c1d2e.svc.cluster.local."},
			[]string{"7.0.2.10.in-addr.arpa. 5 IN PTR svc.data.svc.cluster.local."}, false},
		"an alias of another namespace": {"out.app.svc.cluster.local.",
			[]string{"out.app-8f3c1d2e.svc.cluster.local. 5 IN CNAME in.data-8f3c1d2e.svc.cluster.local.",
				"in.data-8f3c1d2e.svc.cluster.local. 5 IN A 10.2.0.9"},
			[]string{"out.app.svc.cluster.local. 5 IN CNAME in.data.svc.cluster.local.", "in.data.svc.cluster.local. 5 IN A 10.2.0.9"}, false},
		"asked for as it is here": {"svc.app-8f3c1d2e.svc.cluster.local.",
			[]string{"svc.app-8f3c1d2e.svc.cluster.local. 5 IN A 10.2.0.7"},
			[]string{"svc.app-8f3c1d2e.svc.cluster.local. 5 IN A 10.2.0.7"}, false},
		"a namespace of others": {"svc.other.svc.cluster.local.",
			[]string{"svc.other.svc.cluster.local. 5 IN A 10.2.0.8"}, []string{"svc.other.svc.cluster.local. 5 IN A 10.2.0.8"}, false},
		"nothing there": {"gone.app.svc.cluster.local.",
			[]string{"cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"},
			[]string{"cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := &dns.Msg{Answer: records(t, row.have)}
			if row.section2 {
				m.Answer, m.Ns = nil, m.Answer
			}
			rename(zonesOf("cluster.local"), names, row.asked).answer(m)
			if diff := cmp.Diff(text(records(t, row.want)), text(append(m.Answer, m.Ns...))); diff != "" {
				t.Errorf("answer to %s (-want +got):\n%s", row.asked, diff)
			}
		})
	}
}

func records(t testing.TB, lines []string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

func text(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, rr.String())
	}
	return out
}
