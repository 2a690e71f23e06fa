package usage

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"
)

const (
	headerTimeout = 5 * time.Second
	answerTimeout = time.Minute // with all that a slow reader takes
	idleTimeout   = 2 * time.Minute
	shutdown      = 5 * time.Second
	mostHeader    = 16 << 10
	mostRequests  = 64 // at a time
)

// Headers of answers.
const (
	// scrapedHeader is when the oldest figure in an answer was read, in milliseconds since 1970.
	scrapedHeader = "Spillway-Scraped"
	// failedHeader is how many nodes with pods of the tenant are missing in an answer.
	failedHeader = "Spillway-Nodes-Failed"
)

// Config says for which cluster usage is told, and where.
type Config struct {
	// REST reaches this cluster's API server; kubelets are asked with the same credentials, and must have a certificate of the same
	// authority.
	REST *rest.Config
	// Client is made from REST.
	Client kubernetes.Interface
	Source Source
	// Address is where to listen. Port 0: a free one.
	Address netip.AddrPort
	// Pod is the name of the pod in SystemNamespace that has Address: the API server hands requests on to pods and to nothing else.
	Pod string
	// Interval is how old figures may be, and how often at most kubelets are asked.
	Interval time.Duration
	// InsecureKubelets does not look at the kubelets' certificates.
	InsecureKubelets bool
	Log              *zap.Logger
}

// Server tells tenants what their pods use. Make it with New, then Run it once.
type Server struct {
	cfg      Config
	listener net.Listener
	cert     tls.Certificate
	tokens   authenticator.Token
	scraper  *scraper
	slots    chan struct{}   // one for each request that is being answered
	life     context.Context // of Run
}

// New listens. Nothing is answered before Run. An address that is taken is an error.
func New(cfg Config) (*Server, error) {
	tokens, err := newAuthenticator(cfg.Client)
	if err != nil {
		return nil, fmt.Errorf("prepare the review of tokens: %w", err)
	}
	client, err := kubeletClient(cfg.REST, cfg.InsecureKubelets)
	if err != nil {
		return nil, err
	}
	cert, err := selfSigned(cfg.Address.Addr())
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", cfg.Address.String())
	if err != nil {
		return nil, fmt.Errorf("listen for questions about usage: %w", err)
	}
	return &Server{
		cfg: cfg, listener: listener, cert: cert, tokens: tokens, slots: make(chan struct{}, mostRequests),
		scraper: &scraper{source: cfg.Source, client: client, interval: cfg.Interval, log: cfg.Log},
	}, nil
}

// selfSigned makes a certificate that nobody can check: the API server takes any of a Service.
func selfSigned(at netip.Addr) (tls.Certificate, error) {
	cert, key, err := certutil.GenerateSelfSignedCertKey(at.String(), []net.IP{at.AsSlice()}, nil)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.X509KeyPair(cert, key)
}

// Run answers, and keeps the Service that leads here, until ctx ends; one process of a cluster at a time may. The Service stays.
func (s *Server) Run(ctx context.Context) {
	s.life = ctx
	server := &http.Server{
		Handler: s.handler(), ErrorLog: zap.NewStdLog(s.cfg.Log.Named("usage")), MaxHeaderBytes: mostHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: answerTimeout, IdleTimeout: idleTimeout,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{s.cert}},
	}
	var running sync.WaitGroup
	running.Go(func() { s.publish(ctx) })
	running.Go(func() {
		<-ctx.Done()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdown)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			_ = server.Close()
		}
	})
	if err := server.ServeTLS(s.listener, "", ""); ctx.Err() == nil {
		s.cfg.Log.Error("tenants are no longer told what their pods use", zap.Error(err))
	}
	running.Wait()
	utilnet.CloseIdleConnectionsFor(s.scraper.client.Transport)
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for path, k := range map[string]kind{"/v1/resource": resource, "/v1/cadvisor": cadvisor, "/v1/summary": summary} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, k) })
	}
	return mux
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, k kind) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		http.Error(w, "too many questions at a time: ask again", http.StatusServiceUnavailable)
		return
	}
	namespaces, no := s.tenantOf(r)
	if no != nil {
		http.Error(w, no.message, no.status)
		return
	}
	have, err := s.scraper.get(r.Context(), s.life, k)
	if err != nil {
		return // the reader has gone
	}
	own := have.of(namespaces)
	if own.failed > 0 && len(own.nodes) == 0 {
		http.Error(w, fmt.Sprintf("none of the %d kubelets with pods of yours answered", own.failed), http.StatusServiceUnavailable)
		return
	}
	s.answer(w, r, k, own, namespaces)
}

// part is what a tenant gets of a snapshot.
type part struct {
	nodes  []scraped
	oldest time.Time
	failed int
}

// of is the part of the nodes with pods in some namespaces.
func (s *snapshot) of(namespaces map[string]bool) part {
	p := part{oldest: s.at}
	for _, n := range s.nodes {
		switch {
		case !n.has(namespaces):
		case n.err != nil:
			p.failed++
		default:
			if len(p.nodes) == 0 || n.when.Before(p.oldest) {
				p.oldest = n.when
			}
			p.nodes = append(p.nodes, n)
		}
	}
	return p
}

func (t target) has(namespaces map[string]bool) bool {
	for name := range t.namespaces {
		if namespaces[name] {
			return true
		}
	}
	return false
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, k kind, own part, namespaces map[string]bool) {
	h := w.Header()
	h.Set(scrapedHeader, strconv.FormatInt(own.oldest.UnixMilli(), 10))
	if own.failed > 0 {
		h.Set(failedHeader, strconv.Itoa(own.failed))
	}
	h.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if k == summary {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Vary", "Accept-Encoding")
	var to io.Writer = w
	if acceptsGzip(r.Header) {
		h.Set("Content-Encoding", "gzip")
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is a good one
		defer func() { _ = z.Close() }()
		to = z
	}
	buffered := bufio.NewWriterSize(to, 32<<10)
	if err := own.write(buffered, k, namespaces); err != nil {
		return // the reader has gone
	}
	_ = buffered.Flush()
}

// write writes the lines, or the summary, about some namespaces.
func (p part) write(w io.Writer, k kind, namespaces map[string]bool) error {
	if k == summary {
		var nodes [][]podStats
		for _, n := range p.nodes {
			nodes = append(nodes, n.pods)
		}
		return writeSummary(w, nodes, namespaces)
	}
	var pages []*page
	for _, n := range p.nodes {
		pages = append(pages, n.page)
	}
	return writeText(w, pages, namespaces)
}

// acceptsGzip says whether a reader asks for gzip. Nobody who asks here refuses it by a weight of 0.
func acceptsGzip(h http.Header) bool {
	for encoding := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(encoding), ";")
		if name == "gzip" && !strings.HasPrefix(strings.ReplaceAll(weight, " ", ""), "q=0") {
			return true
		}
	}
	return false
}
