package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/spillway-dev/spillway/cmd/spillwayd/leader"
	"github.com/spillway-dev/spillway/internal/metrics"
)

const (
	// inClusterHTTPAddress is where health and metrics are served inside a cluster.
	inClusterHTTPAddress = ":9641"
	// inClusterDrain is longer than it takes until nobody is sent to an endpoint that is about to go.
	inClusterDrain = 5 * time.Second
)

// inCluster says whether this process runs in a pod.
func inCluster() bool { return os.Getenv("KUBERNETES_SERVICE_HOST") != "" }

// healthOptions are the flags of what the kubelet and Prometheus ask, and of how this process goes.
type healthOptions struct {
	address string
	drain   time.Duration
}

func (o *healthOptions) addTo(f *pflag.FlagSet) {
	drain := time.Duration(0)
	if inCluster() {
		drain = inClusterDrain
	}
	f.StringVar(&o.address, "http-address", "",
		"serve /healthz, /readyz and /metrics on this address; replicas in a cluster also watch each other there, on the same port (default: "+inClusterHTTPAddress+" in a cluster; beside one, nowhere)")
	f.DurationVar(&o.drain, "drain", drain,
		"how long to go on answering the API server after being told to stop, and after the leadership was given away: until nobody is sent here any more (in a cluster "+inClusterDrain.String()+"; beside one, not at all)")
}

// health answers whether this replica lives and is ready. Its methods are safe for concurrent use.
type health struct {
	listener net.Listener // nil: nobody is to be told
	// alive and ready say why this replica is not.
	alive, ready func(*http.Request) error
	log          *zap.Logger
}

// listen takes the address, so that one that is taken is known at once. Nobody is answered before run.
func (o *healthOptions) listen() (net.Listener, error) {
	address := o.address
	if address == "" && inCluster() {
		address = inClusterHTTPAddress
	}
	if address == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--http-address: %w", err)
	}
	return listener, nil
}

// portOf is where the other replicas' pods listen too, as they are of one Deployment; zero: nowhere.
func portOf(listener net.Listener) uint16 {
	if listener == nil || !inCluster() {
		return 0 // replicas beside a cluster are found by nobody
	}
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}

// run answers until ctx ends, and on the leader's path those who wait for the end of its term. An error: nobody is answered any more.
func (h *health) run(ctx context.Context, candidate *leader.Candidate) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler())
	mux.HandleFunc("GET /healthz", answer(h.alive))
	mux.HandleFunc("GET /readyz", answer(h.ready))
	mux.Handle("GET "+leader.Path, candidate)
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, ErrorLog: zap.NewStdLog(h.log.Named("http")),
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", h.listener.Addr(), err)
	}
	return nil
}

// answer says ok, or why not.
func answer(check func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := check(r); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n")) // the reader went away
	}
}
