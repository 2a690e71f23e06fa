package names

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// giveUp is when an asker hears that there is no answer: before the 5 s after which resolvers ask again.
	giveUp = 4500 * time.Millisecond
	// attempt is how long upstream may take before a question over UDP goes out again, half as long again each time.
	attempt = time.Second
	// patience is how long an unknown asker of the pods' ranges is waited for: a kubelet tells the address of a new pod
	// within a second or two of its start.
	patience = 3 * time.Second
	// strangerFor is how long an asker that was waited for in vain is not waited for again.
	strangerFor   = time.Minute
	mostStrangers = 1024

	querySize = 4096 // of a question over UDP, bytes
)

// Options of a Server.
type Options struct {
	Log *zap.Logger
	// Domain is the cluster's, for example cluster.local.
	Domain string
}

// Stats counts since the start.
type Stats struct {
	// Asked are all questions, Renamed those that upstream was asked under another name, Failed those without an answer
	// of upstream, Refused those that were dropped because too many waited for answers.
	Asked, Renamed, Failed, Refused uint64
}

// Server answers questions. Make it with New. Its methods are safe for concurrent use.
type Server struct {
	log   *zap.Logger
	zones zones
	gate  *gate
	lines *gate // TCP connections

	asked, renamed, failed, refused atomic.Uint64

	mu        sync.Mutex
	table     *Table                   // guarded by mu; nil before Set
	replaced  chan struct{}            // guarded by mu; closed when table is replaced
	strangers map[netip.Addr]time.Time // guarded by mu; until when not to wait for them
}

// New returns a Server that answers nobody before Set and Run.
func New(o Options) *Server {
	return &Server{
		log: o.Log, zones: zonesOf(o.Domain), gate: newGate(mostQueries, mostQueriesPerSource),
		lines: newGate(mostConnections, mostConnectionsPerSource), replaced: make(chan struct{}), strangers: map[netip.Addr]time.Time{},
	}
}

// Set hands over the whole table; questions that come from now on are answered by it. It does not block.
func (s *Server) Set(t Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table = &t
	close(s.replaced)
	s.replaced = make(chan struct{})
}

// Stats says what was done.
func (s *Server) Stats() Stats {
	return Stats{Asked: s.asked.Load(), Renamed: s.renamed.Load(), Failed: s.failed.Load(), Refused: s.refused.Load()}
}

// Run answers on these addresses over UDP and TCP until ctx ends. The addresses need not be there yet. While another
// process is replaced by this one, both may listen.
func (s *Server) Run(ctx context.Context, addrs []netip.Addr) error {
	var packets []net.PacketConn
	var listeners []net.Listener
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, Port).String()
		config := net.ListenConfig{Control: early}
		p, err := config.ListenPacket(ctx, "udp", at)
		if err == nil {
			packets = append(packets, p)
			var l net.Listener
			if l, err = config.Listen(ctx, "tcp", at); err == nil {
				listeners = append(listeners, l)
				continue
			}
		}
		for _, p := range packets {
			_ = p.Close() // nothing was served on it
		}
		for _, l := range listeners {
			_ = l.Close() // likewise
		}
		return fmt.Errorf("listen for DNS on %s: %w (another DNS server of this node on all addresses?)", at, err)
	}
	return s.serve(ctx, packets, listeners)
}

// early lets a socket have an address that is not there yet, and beside that of a process that ends.
func early(network, _ string, raw syscall.RawConn) error {
	var err error
	wrong := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		level, option := unix.SOL_IP, unix.IP_FREEBIND
		if network == "udp6" || network == "tcp6" {
			level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
		}
		err = errors.Join(err, unix.SetsockoptInt(int(fd), level, option, 1))
	})
	return errors.Join(wrong, err)
}

// serve owns the sockets.
func (s *Server) serve(ctx context.Context, packets []net.PacketConn, listeners []net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all, ctx := errgroup.WithContext(ctx)
	start := func(server *dns.Server, tcp bool) {
		server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) { s.handle(ctx, w, m, tcp) })
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		done := make(chan struct{})
		all.Go(func() error {
			defer close(done)
			return server.ActivateAndServe()
		})
		all.Go(func() error {
			select {
			case <-done: // it could not start, or has failed
				return nil
			case <-started:
			}
			select {
			case <-done:
			case <-ctx.Done():
				_ = server.Shutdown() // it has ended by itself meanwhile
			}
			return nil
		})
	}
	for _, p := range packets {
		start(&dns.Server{PacketConn: p, UDPSize: querySize}, false)
	}
	for _, l := range listeners {
		start(&dns.Server{Listener: limited{l, s.lines}}, true)
	}
	if err := all.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve DNS: %w", err)
	}
	return nil
}

// handle answers one question. Over UDP one too many is dropped, since the asker comes again; over TCP the connection ends.
func (s *Server) handle(ctx context.Context, w dns.ResponseWriter, question *dns.Msg, tcp bool) {
	from := sourceOf(w.RemoteAddr())
	s.asked.Add(1)
	if !s.gate.enter(from) {
		s.refused.Add(1)
		if tcp {
			_ = w.Close() // the asker sees it
		}
		return
	}
	defer s.gate.leave(from)
	ctx, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	answer := s.answer(ctx, from, question, tcp)
	fit(question, answer, tcp)
	if err := w.WriteMsg(answer); err != nil {
		s.log.Debug("dns answer not sent", zap.String("question", question.Question[0].Name), zap.Error(err))
	}
}

// answer asks upstream in the words of this cluster and gives back what the asker calls it.
func (s *Server) answer(ctx context.Context, from netip.Addr, question *dns.Msg, tcp bool) *dns.Msg {
	q := question.Question[0]
	if question.Opcode != dns.OpcodeQuery || q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		return (&dns.Msg{}).SetRcode(question, dns.RcodeRefused)
	}
	table, names := s.who(ctx, from)
	r := rename(s.zones, names, q.Name)
	if r.sent != r.asked {
		s.renamed.Add(1)
	}
	if _, ok := dns.IsDomainName(r.sent); !ok { // too long here: there is none
		return (&dns.Msg{}).SetRcode(question, dns.RcodeNameError)
	}
	answer, err := s.resolve(ctx, table.Upstream, r, question, tcp)
	if err != nil {
		s.failed.Add(1)
		s.log.Debug("dns of the cluster does not answer", zap.String("question", r.sent), zap.Error(err))
		return (&dns.Msg{}).SetRcode(question, dns.RcodeServerFailure)
	}
	answer.Id, answer.Question = question.Id, slices.Clone(question.Question)
	return answer
}

// fit cuts an answer to what the asker takes. Names of home may be longer than those here.
func fit(question, answer *dns.Msg, tcp bool) {
	size := dns.MinMsgSize
	if opt := question.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
	}
	if tcp {
		size = dns.MaxMsgSize
	}
	answer.Truncate(size)
}

// who finds what the asker calls things, nil: as they are called here. A pod that is not known yet is waited for.
func (s *Server) who(ctx context.Context, from netip.Addr) (Table, *Names) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		s.mu.Lock()
		table, replaced, until := s.table, s.replaced, s.strangers[from]
		s.mu.Unlock()
		if table != nil {
			names, known := table.Askers[from]
			ours := slices.ContainsFunc(table.Pods, func(p netip.Prefix) bool { return p.Contains(from) })
			if known || !ours || time.Now().Before(until) {
				return *table, names
			}
		}
		select {
		case <-replaced:
		case <-ctx.Done():
			if table == nil {
				return Table{}, nil
			}
			s.noteStranger(from)
			return *table, nil
		}
	}
}

func (s *Server) noteStranger(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.strangers) >= mostStrangers {
		clear(s.strangers)
	}
	s.strangers[a] = time.Now().Add(strangerFor)
}

func sourceOf(a net.Addr) netip.Addr {
	var from netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		from = a.AddrPort()
	case *net.TCPAddr:
		from = a.AddrPort()
	}
	return from.Addr().Unmap().WithZone("")
}
