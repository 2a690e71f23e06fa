package probe

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway-dev/spillway/tunnel"
)

// pipe is one end of a network in memory.
type pipe struct {
	deliver func(packet) // to the other end
	pass    func(packet) bool
	port    uint16
}

func (p *pipe) write(packets []packet) []packet {
	for _, out := range packets {
		if !p.pass(out) {
			continue
		}
		time.AfterFunc(10*time.Millisecond, func() {
			p.deliver(packet{local: out.remote.Addr(), remote: netip.AddrPortFrom(out.local, p.port), message: out.message})
		})
	}
	return nil
}

func (p *pipe) close() {}

// joined returns two running probers whose packets pass while pass says so.
func joined(t *testing.T, a, b Options, pass func(packet) bool) (*Prober, *Prober) {
	t.Helper()
	var ends [2]func(packet)
	connect := func(o *Options, self int) {
		o.links = func(tick func(packet)) []packetLink {
			ends[self] = tick
			link := &pipe{deliver: func(p packet) { ends[1-self](p) }, pass: pass, port: tunnel.ProbePort}
			return []packetLink{link, link}
		}
	}
	connect(&a, 0)
	connect(&b, 1)
	pa, pb := New(a), New(b)
	run(t, pb)
	run(t, pa)
	return pa, pb
}

func run(t *testing.T, p *Prober) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestProber_TellsBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Bool
		open.Store(true)
		var told [2]atomic.Int32
		a, b := addresses()
		pa, pb := joined(t, Options{Changed: func(Key) { told[0].Add(1) }}, Options{Changed: func(Key) { told[1].Add(1) }},
			func(packet) bool { return open.Load() })
		synctest.Wait()
		ka, kb := Key{Peer: "b"}, Key{Peer: "a"}
		pa.Set([]Target{{Key: ka, Local: a, Remote: b, Initiate: true, MaxMTU: 1420}})
		pb.Set([]Target{{Key: kb, Local: b, Remote: a, MaxMTU: 1400}})
		expect := func(up bool, mtu int) {
			t.Helper()
			for k, p := range map[Key]*Prober{ka: pa, kb: pb} {
				s, ok := p.State(k)
				if !ok || s.Up != up || s.MTU != mtu || p.States()[k] != s || s.Since.IsZero() {
					t.Errorf("%s: state %+v, want up=%v with %d", k.Peer, s, up, mtu)
				}
			}
		}
		<-time.After(2 * time.Second)
		expect(true, 1400)
		open.Store(false)
		<-time.After(1900 * time.Millisecond)
		expect(false, 1400)
		open.Store(true)
		<-time.After(600 * time.Millisecond)
		expect(true, 1400)
		if told[0].Load() < 3 || told[1].Load() < 3 {
			t.Errorf("told %d and %d times", told[0].Load(), told[1].Load())
		}
		pa.Set([]Target{{Key: ka, Local: a, Remote: b, Initiate: true, MaxMTU: 1300}}) // the same with another size stays up
		if s, _ := pa.State(ka); !s.Up || s.MTU != 1300 {
			t.Errorf("state %+v after a change of the size", s)
		}
		pa.Set(nil)
		if s, ok := pa.State(ka); ok {
			t.Errorf("state %+v of a target that is gone", s)
		}
		<-time.After(1900 * time.Millisecond)
		if s, _ := pb.State(kb); s.Up {
			t.Error("up though nobody asks")
		}
	})
}

func TestProber_AnswersWhomItIsTold(t *testing.T) {
	for name, row := range map[string]struct {
		sources []netip.Prefix
		want    bool
	}{
		"a node of a peer": {[]netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}, true},
		"a stranger":       {[]netip.Prefix{netip.MustParsePrefix("10.8.0.0/16")}, false},
		"by default":       {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pa, pb := joined(t, Options{}, Options{}, func(packet) bool { return true })
				synctest.Wait()
				pb.Answer(row.sources)
				key := Key{Peer: "b", Slot: -1}
				pa.Set([]Target{{Key: key, Local: netip.MustParseAddr("10.9.0.1"), Remote: netip.MustParseAddr("10.7.0.1"), Initiate: true, MaxMTU: 1350}})
				<-time.After(3 * time.Second)
				if s, _ := pa.State(key); s.Up != row.want || s.Undecided || s.MTU != 1350 {
					t.Errorf("state %+v, want up=%v", s, row.want)
				}
			})
		})
	}
}

// proxy hands UDP packets between two ports of ::1 on, those that pass.
type proxy struct {
	conn *net.UDPConn
	ends [2]netip.AddrPort
	most atomic.Int64 // payload
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	x := &proxy{conn: conn}
	x.most.Store(1 << 16)
	return x
}

func (x *proxy) port() uint16 { return uint16(x.conn.LocalAddr().(*net.UDPAddr).Port) }

func (x *proxy) serve() {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := x.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		to := x.ends[0]
		if from.Port() == to.Port() {
			to = x.ends[1]
		}
		if int64(n) <= x.most.Load() {
			_, _ = x.conn.WriteToUDPAddrPort(buffer[:n], to)
		}
	}
}

// freePort returns a UDP port of ::1 that nobody uses.
func freePort(t *testing.T) uint16 {
	t.Helper()
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{})
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	defer func() { _ = conn.Close() }()
	return uint16(conn.LocalAddr().(*net.UDPAddr).Port)
}

func TestProber_OverSockets(t *testing.T) {
	x := newProxy(t)
	ports := [2]uint16{freePort(t), freePort(t)}
	for n, port := range ports {
		x.ends[n] = netip.AddrPortFrom(netip.IPv6Loopback(), port)
	}
	go x.serve()
	changed := make(chan struct{}, 1)
	tell := func(Key) { signal(changed) }
	pa, pb := New(Options{Port: ports[0], remotePort: x.port(), Changed: tell}), New(Options{Port: ports[1], remotePort: x.port(), Changed: tell})
	key := Key{Peer: "other"}
	target := Target{Key: key, Local: netip.IPv6Loopback(), Remote: netip.IPv6Loopback(), MaxMTU: 8920}
	pb.Set([]Target{target})
	target.Initiate = true
	pa.Set([]Target{target})
	run(t, pa)
	run(t, pb)
	await := func(what string, ok func(State) bool) time.Duration {
		t.Helper()
		begin := time.Now()
		for {
			a, _ := pa.State(key)
			b, _ := pb.State(key)
			if ok(a) && ok(b) {
				return time.Since(begin)
			}
			select {
			case <-changed:
			case <-time.After(10 * time.Second):
				t.Fatalf("not %s: %+v and %+v", what, a, b)
			}
		}
	}
	t.Log("up after", await("up", func(s State) bool { return s.Up && s.MTU == 8920 }))
	x.most.Store(1400 - overheadIP6)
	t.Log("less after", await("less", func(s State) bool { return s.Up && s.MTU < 1400 }))
	x.most.Store(100)
	t.Log("large lost after", await("large lost", func(s State) bool { return !s.Up && s.LargeLost }))
	x.most.Store(0)
	t.Log("down after", await("down", func(s State) bool { return !s.Up && !s.LargeLost }))
	x.most.Store(1 << 16)
	t.Log("healed after", await("healed", func(s State) bool { return s.Up }))
}

// BenchmarkIdle_100Peers says what 100 peers that are up cost, in percent of a core, for both sides together.
func BenchmarkIdle_100Peers(b *testing.B) {
	const asking, answering = 40911, 40912
	pa, pb := New(Options{Port: asking, remotePort: answering}), New(Options{Port: answering, remotePort: asking})
	var ta, tb []Target
	for n := range 100 {
		x, y := netip.AddrFrom4([4]byte{127, 1, 0, byte(n + 1)}), netip.AddrFrom4([4]byte{127, 2, 0, byte(n + 1)})
		ta = append(ta, Target{Key: Key{Slot: n}, Local: x, Remote: y, Initiate: true, MaxMTU: 1420})
		tb = append(tb, Target{Key: Key{Slot: n}, Local: y, Remote: x, MaxMTU: 1420})
	}
	pa.Set(ta)
	pb.Set(tb)
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	go func() { _ = pa.Run(ctx) }()
	go func() { _ = pb.Run(ctx) }()
	<-time.After(3 * time.Second)
	for key, s := range pa.States() {
		if !s.Up || s.MTU != 1420 {
			b.Fatalf("%v: %+v", key, s)
		}
	}
	b.ResetTimer()
	begin, cpu := time.Now(), cpuTime(b)
	for range b.N {
		<-time.After(10 * time.Second)
	}
	b.ReportMetric(100*(cpuTime(b)-cpu).Seconds()/time.Since(begin).Seconds(), "%core")
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
