package names

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// upstream is the cluster's DNS: a zone of records by lower-case name.
type upstream struct {
	at    netip.AddrPort
	zone  map[string][]string
	asked atomic.Uint64
	drop  atomic.Int64                  // this many questions over UDP are not answered
	hold  atomic.Pointer[chan struct{}] // nil, or answers wait until it is closed
}

func (u *upstream) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	u.asked.Add(1)
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	if udp && u.drop.Add(-1) >= 0 {
		return
	}
	if hold := u.hold.Load(); hold != nil {
		<-*hold
	}
	answer := (&dns.Msg{}).SetReply(m)
	size := dns.MinMsgSize
	if opt := m.IsEdns0(); opt != nil {
		size = int(opt.UDPSize())
		answer.SetEdns0(1232, opt.Do())
	}
	name := m.Question[0].Name
	lines, ok := u.zone[strings.ToLower(name)]
	if !ok {
		answer.Rcode = dns.RcodeNameError
	}
	for _, line := range lines {
		rr, _ := dns.NewRR(line)
		if strings.EqualFold(rr.Header().Name, name) {
			rr.Header().Name = name
			if rr.Header().Rrtype != m.Question[0].Qtype && rr.Header().Rrtype != dns.TypeCNAME {
				continue
			}
		}
		answer.Answer = append(answer.Answer, rr)
	}
	if udp {
		answer.Truncate(size)
	}
	_ = w.WriteMsg(answer)
}

// sockets are a UDP and a TCP one on the same port of loopback.
func sockets(t testing.TB) (net.PacketConn, net.Listener, netip.AddrPort) {
	t.Helper()
	var failed error
	for range 20 { // the port may be taken for the other protocol
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return p, l, l.Addr().(*net.TCPAddr).AddrPort()
		}
		failed = err
		_ = l.Close()
	}
	t.Fatal(failed)
	return nil, nil, netip.AddrPort{}
}

func newUpstream(t testing.TB, zone map[string][]string) *upstream {
	t.Helper()
	u := &upstream{zone: zone}
	p, l, at := sockets(t)
	u.at = at
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // runs last
	for _, s := range []*dns.Server{{PacketConn: p, Handler: u}, {Listener: l, Handler: u}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() { _ = s.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return u
}

func start(t testing.TB) (*Server, netip.AddrPort) {
	t.Helper()
	s := New(Options{Log: zap.NewNop(), Domain: "cluster.local"})
	p, l, at := sockets(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, []net.PacketConn{p}, []net.Listener{l}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, at
}

func question(name string, kind uint16) *dns.Msg { return (&dns.Msg{}).SetQuestion(name, kind) }

func exchange(t testing.TB, protocol string, at netip.AddrPort, m *dns.Msg) *dns.Msg {
	t.Helper()
	client := dns.Client{Net: protocol, Timeout: 10 * time.Second}
	answer, _, err := client.Exchange(m, at.String())
	if err != nil {
		t.Fatalf("%s over %s: %v", m.Question[0].Name, protocol, err)
	}
	return answer
}

var loopback = netip.MustParseAddr("127.0.0.1")

func tenantOf(u *upstream, here string) Table {
	return Table{
		Upstream: []netip.AddrPort{u.at}, Pods: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Askers: map[netip.Addr]*Names{loopback: Of(map[string]string{"app": here})},
	}
}

func zone() map[string][]string {
	many := []string{}
	for i := range 60 {
		many = append(many, fmt.Sprintf("many.app-1.svc.cluster.local. 5 IN A 10.1.1.%d", i))
	}
	return map[string][]string{
		"svc.app-1.svc.cluster.local.":  {"svc.app-1.svc.cluster.local. 5 IN A 10.2.0.1", "svc.app-1.svc.cluster.local. 5 IN AAAA fd00::1"},
		"svc.app-2.svc.cluster.local.":  {"svc.app-2.svc.cluster.local. 5 IN A 10.2.0.2"},
		"svc.app.svc.cluster.local.":    {"svc.app.svc.cluster.local. 5 IN A 10.2.0.99"}, // of the provider
		"many.app-1.svc.cluster.local.": many,
		"_http._tcp.svc.app-1.svc.cluster.local.": {
			"_http._tcp.svc.app-1.svc.cluster.local. 5 IN SRV 0 50 80 svc.app-1.svc.cluster.local."},
		"1.0.2.10.in-addr.arpa.": {"1.0.2.10.in-addr.arpa. 5 IN PTR svc.app-1.svc.cluster.local."},
		"out.app-1.svc.cluster.local.": {"out.app-1.svc.cluster.local. 5 IN CNAME svc.app.svc.cluster.local.",
			"svc.app.svc.cluster.local. 5 IN A 10.2.0.99"}, // upstream follows it to the provider's own
		"ring.app-1.svc.cluster.local.": {"ring.app-1.svc.cluster.local. 5 IN CNAME ring.app.svc.cluster.local."},
		"web.app-1.svc.cluster.local.":  {"web.app-1.svc.cluster.local. 5 IN CNAME example.com.", "example.com. 5 IN A 192.0.2.1"},
		"example.com.":                  {"example.com. 5 IN A 192.0.2.1"},
	}
}

func TestServer_Renames(t *testing.T) {
	u := newUpstream(t, zone())
	s, at := start(t)
	s.Set(tenantOf(u, "app-1"))
	for name, row := range map[string]struct {
		ask  string
		kind uint16
		want []string
		code int
	}{
		"A":        {"svc.app.svc.cluster.local.", dns.TypeA, []string{"svc.app.svc.cluster.local.\t5\tIN\tA\t10.2.0.1"}, dns.RcodeSuccess},
		"AAAA":     {"SVC.app.svc.cluster.local.", dns.TypeAAAA, []string{"SVC.app.svc.cluster.local.\t5\tIN\tAAAA\tfd00::1"}, dns.RcodeSuccess},
		"SRV":      {"_http._tcp.svc.app.svc.cluster.local.", dns.TypeSRV, []string{"_http._tcp.svc.app.svc.cluster.local.\t5\tIN\tSRV\t0 50 80 svc.app.svc.cluster.local."}, dns.RcodeSuccess},
		"PTR":      {"1.0.2.10.in-addr.arpa.", dns.TypePTR, []string{"1.0.2.10.in-addr.arpa.\t5\tIN\tPTR\tsvc.app.svc.cluster.local."}, dns.RcodeSuccess},
		"NXDOMAIN": {"none.app.svc.cluster.local.", dns.TypeA, nil, dns.RcodeNameError},
		"no data":  {"svc.app.svc.cluster.local.", dns.TypeMX, nil, dns.RcodeSuccess},
		"outside":  {"example.com.", dns.TypeA, []string{"example.com.\t5\tIN\tA\t192.0.2.1"}, dns.RcodeSuccess},
		"an alias of home": {"out.app.svc.cluster.local.", dns.TypeA, []string{
			"out.app.svc.cluster.local.\t5\tIN\tCNAME\tsvc.app.svc.cluster.local.", "svc.app.svc.cluster.local.\t5\tIN\tA\t10.2.0.1"}, dns.RcodeSuccess},
		"an alias of the outside": {"web.app.svc.cluster.local.", dns.TypeA, []string{
			"web.app.svc.cluster.local.\t5\tIN\tCNAME\texample.com.", "example.com.\t5\tIN\tA\t192.0.2.1"}, dns.RcodeSuccess},
		"an alias itself":    {"out.app.svc.cluster.local.", dns.TypeCNAME, []string{"out.app.svc.cluster.local.\t5\tIN\tCNAME\tsvc.app.svc.cluster.local.", "svc.app.svc.cluster.local.\t5\tIN\tA\t10.2.0.99"}, dns.RcodeSuccess},
		"an alias of itself": {"ring.app.svc.cluster.local.", dns.TypeA, nil, dns.RcodeServerFailure},
		"too long":           {strings.Repeat("a23456789.", 23) + "app.svc.cluster.local.", dns.TypeA, nil, dns.RcodeNameError},
		"transfers":          {"cluster.local.", dns.TypeAXFR, nil, dns.RcodeRefused},
	} {
		for _, protocol := range []string{"udp", "tcp"} {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				m := question(row.ask, row.kind)
				got := exchange(t, protocol, at, m)
				if diff := cmp.Diff(row.want, text(got.Answer)); diff != "" || got.Rcode != row.code {
					t.Errorf("%s: code %s (-want +got):\n%s", row.ask, dns.RcodeToString[got.Rcode], diff)
				}
				if got.Question[0] != m.Question[0] {
					t.Errorf("the answer is to %v", got.Question)
				}
			})
		}
	}
	if stats := s.Stats(); stats.Renamed == 0 || stats.Failed != 2 || stats.Refused != 0 {
		t.Errorf("stats %+v", stats)
	}
}

// TestServer_Truncates: what does not fit comes over TCP, or over UDP to who takes more.
func TestServer_Truncates(t *testing.T) {
	u := newUpstream(t, zone())
	s, at := start(t)
	s.Set(tenantOf(u, "app-1"))
	const name = "many.app.svc.cluster.local."
	short := exchange(t, "udp", at, question(name, dns.TypeA))
	if !short.Truncated || len(short.Answer) >= 60 || short.IsEdns0() != nil {
		t.Errorf("truncated %v with %d answers, options %v", short.Truncated, len(short.Answer), short.IsEdns0())
	}
	if whole := exchange(t, "tcp", at, question(name, dns.TypeA)); whole.Truncated || len(whole.Answer) != 60 {
		t.Errorf("over TCP: truncated %v with %d answers", whole.Truncated, len(whole.Answer))
	}
	large := question(name, dns.TypeA)
	large.SetEdns0(4096, true)
	got := exchange(t, "udp", at, large)
	if opt := got.IsEdns0(); got.Truncated || len(got.Answer) != 60 || opt == nil || opt.UDPSize() != 1232 || !opt.Do() {
		t.Errorf("with 4096 bytes: truncated %v with %d answers, options %v", got.Truncated, len(got.Answer), opt)
	}
	for _, rr := range got.Answer {
		if rr.Header().Name != name {
			t.Fatalf("a record of %s", rr.Header().Name)
		}
	}
}

// TestServer_OthersSeeTheirOwn: one that is no twin hears what upstream says.
func TestServer_OthersSeeTheirOwn(t *testing.T) {
	u := newUpstream(t, zone())
	s, at := start(t)
	s.Set(Table{Upstream: []netip.AddrPort{u.at}, Pods: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}})
	got := exchange(t, "udp", at, question("svc.app.svc.cluster.local.", dns.TypeA))
	if diff := cmp.Diff([]string{"svc.app.svc.cluster.local.\t5\tIN\tA\t10.2.0.99"}, text(got.Answer)); diff != "" {
		t.Error(diff)
	}
	got = exchange(t, "udp", at, question("1.0.2.10.in-addr.arpa.", dns.TypePTR))
	if diff := cmp.Diff([]string{"1.0.2.10.in-addr.arpa.\t5\tIN\tPTR\tsvc.app-1.svc.cluster.local."}, text(got.Answer)); diff != "" {
		t.Error(diff)
	}
}

// TestServer_WaitsForANewPod: a pod that asks before its address is known gets the names of its home; one that is never
// known is waited for once.
func TestServer_WaitsForANewPod(t *testing.T) {
	u := newUpstream(t, zone())
	s, at := start(t)
	answers := make(chan *dns.Msg, 1)
	ask := func() {
		client := dns.Client{Timeout: 10 * time.Second}
		answer, _, _ := client.Exchange(question("svc.app.svc.cluster.local.", dns.TypeA), at.String())
		answers <- answer
	}
	waits := func() {
		t.Helper()
		for s.Stats().Asked == 0 {
			select {
			case <-t.Context().Done():
			case <-time.After(time.Millisecond):
			}
		}
		select {
		case m := <-answers:
			t.Fatalf("answered %v", m)
		default:
		}
	}
	go ask()
	waits() // there is no table
	unknown := tenantOf(u, "app-1")
	unknown.Askers = nil
	s.Set(unknown)
	waits() // there is no such pod
	s.Set(tenantOf(u, "app-1"))
	if m := <-answers; m == nil || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "10.2.0.1" {
		t.Fatalf("answered %v", m)
	}

	s.Set(unknown)
	go ask()
	if m := <-answers; m == nil || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "10.2.0.99" {
		t.Fatalf("a stranger is answered %v", m)
	}
	began := time.Now()
	go ask()
	if <-answers; time.Since(began) > patience/2 {
		t.Errorf("waited again for a stranger, %s", time.Since(began))
	}
}

// TestServer_AsksAgain: a question that is lost on the way is asked again; one that nobody answers fails.
func TestServer_AsksAgain(t *testing.T) {
	u := newUpstream(t, zone())
	s, at := start(t)
	s.Set(tenantOf(u, "app-1"))
	u.drop.Store(1)
	if got := exchange(t, "udp", at, question("svc.app.svc.cluster.local.", dns.TypeA)); len(got.Answer) != 1 {
		t.Errorf("answered %v", got)
	}
	dead := tenantOf(u, "app-1")
	p, l, nobody := sockets(t)
	_, _ = p.Close(), l.Close()
	dead.Upstream = []netip.AddrPort{nobody}
	s.Set(dead)
	if got := exchange(t, "udp", at, question("svc.app.svc.cluster.local.", dns.TypeA)); got.Rcode != dns.RcodeServerFailure {
		t.Errorf("answered %v", got)
	}
	dead.Upstream = append(dead.Upstream, u.at)
	s.Set(dead)
	if got := exchange(t, "tcp", at, question("svc.app.svc.cluster.local.", dns.TypeA)); len(got.Answer) != 1 {
		t.Errorf("with a second upstream: answered %v", got)
	}
}

// TestServer_Bounded: one asker gets no more than its places; the rest of its questions are dropped.
func TestServer_Bounded(t *testing.T) {
	u := newUpstream(t, zone())
	hold := make(chan struct{})
	u.hold.Store(&hold)
	s, at := start(t)
	s.Set(tenantOf(u, "app-1"))
	conn, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packet, err := question("svc.app.svc.cluster.local.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for s.Stats().Refused == 0 {
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	s.gate.mu.Lock()
	got := s.gate.of[loopback]
	s.gate.mu.Unlock()
	close(hold)
	if got > mostQueriesPerSource {
		t.Errorf("%d at a time", got)
	}
}

// TestServer_TableReplacedWhileServing: each answer is from one table, and from the new one once it is set.
func TestServer_TableReplacedWhileServing(t *testing.T) {
	u := newUpstream(t, zone())
	s, at := start(t)
	s.Set(tenantOf(u, "app-1"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				s.Set(tenantOf(u, fmt.Sprintf("app-%d", 1+i%2)))
			}
		}
	})
	for range 8 {
		wg.Go(func() {
			for range 50 {
				client := dns.Client{Timeout: 10 * time.Second}
				got, _, err := client.Exchange(question("svc.app.svc.cluster.local.", dns.TypeA), at.String())
				if err != nil || len(got.Answer) != 1 || got.Answer[0].Header().Name != "svc.app.svc.cluster.local." {
					t.Errorf("answered %v, %v", got, err)
				}
			}
		})
	}
	for s.Stats().Asked < 400 {
		select {
		case <-t.Context().Done():
		case <-time.After(time.Millisecond):
		}
	}
	close(stop)
	wg.Wait()
	s.Set(tenantOf(u, "app-2"))
	if got := exchange(t, "udp", at, question("svc.app.svc.cluster.local.", dns.TypeA)); got.Answer[0].(*dns.A).A.String() != "10.2.0.2" {
		t.Errorf("answered %v", got)
	}
}

// BenchmarkLatency compares a question to upstream with one through the forwarder.
func BenchmarkLatency(b *testing.B) {
	u := newUpstream(b, zone())
	s, at := start(b)
	s.Set(tenantOf(u, "app-1"))
	for _, row := range []struct {
		name, ask string
		at        netip.AddrPort
	}{{"upstream", "svc.app-1.svc.cluster.local.", u.at}, {"forwarder", "svc.app.svc.cluster.local.", at}} {
		b.Run(row.name, func(b *testing.B) {
			client := dns.Client{}
			conn, err := client.Dial(row.at.String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			for b.Loop() {
				if _, _, err := client.ExchangeWithConn(question(row.ask, dns.TypeA), conn); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestServer_EachAskerItsOwn: pods of two tenants ask for the same name and find each its own.
func TestServer_EachAskerItsOwn(t *testing.T) {
	u := newUpstream(t, zone())
	s, at := start(t)
	table := tenantOf(u, "app-1")
	table.Askers[netip.MustParseAddr("127.0.0.2")] = Of(map[string]string{"app": "app-2"})
	s.Set(table)
	for from, want := range map[string]string{"127.0.0.1": "10.2.0.1", "127.0.0.2": "10.2.0.2"} {
		client := dns.Client{Timeout: 10 * time.Second, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}}
		got, _, err := client.Exchange(question("svc.app.svc.cluster.local.", dns.TypeA), at.String())
		if err != nil || len(got.Answer) != 1 || got.Answer[0].(*dns.A).A.String() != want {
			t.Errorf("%s is answered %v, %v, want %s", from, got, err, want)
		}
	}
}
