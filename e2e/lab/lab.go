package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-dev/spillway/e2e/lab/realnode"
)

// Lab is a number of running clusters. Its methods may be called by several
// goroutines.
type Lab struct {
	opts     Options
	dir      string
	begun    time.Time
	binaries map[string]string
	clusters []*Cluster
	real     *realNodes
	lock     *os.File

	mu    sync.Mutex // guards state, procs, out, down
	state State
	procs []*Proc // of Start, oldest first
	out   io.Writer
	down  bool
}

// Up starts the clusters and returns when all their nodes are Ready. Before,
// it removes what labs left whose owner is dead, and builds missing binaries.
// On an error, or when ctx is done, it removes what it has made. The caller
// owns the lab and has to call Down.
//
// Errors: ErrInvalid, ErrExists, ErrNeedsRoot, or what went wrong with the end
// of a component's log.
func Up(ctx context.Context, o Options) (*Lab, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkReal(o); err != nil {
		return nil, err
	}
	if err := Sweep(ctx); err != nil {
		fmt.Fprintf(o.Progress, "a former lab could not be removed wholly: %v\n", err)
	}
	binaries, err := Binaries(ctx, o.Progress, neededBinaries(o)...)
	if err != nil {
		return nil, err
	}
	real, err := prepareReal(ctx, o, binaries)
	if err != nil {
		return nil, err
	}
	l := &Lab{opts: o, dir: Dir(o.Name), begun: time.Now(), binaries: binaries, real: real, out: o.Progress}
	l.state = State{Name: o.Name, Owner: self(), Serve: o.Serve, Created: time.Now().UTC()}
	if l.lock, err = claim(l.state); err != nil {
		return nil, err
	}
	if err := l.up(ctx); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("start lab %s: %w", l.Name(), context.Cause(ctx)) // what else failed, failed of that
		}
		return nil, errors.Join(err, l.Down(context.WithoutCancel(ctx)))
	}
	return l, nil
}

func neededBinaries(o Options) []string {
	names := BinaryNames(false)
	if o.wantsReal() {
		names = append(names, realnode.Binaries()...)
	}
	if o.wantsMetrics() {
		names = append(names, MetricsServer)
	}
	return names
}

func (l *Lab) up(ctx context.Context) error {
	if err := l.real.reserve(ctx); err != nil {
		return err
	}
	for i := range l.opts.Clusters {
		c, err := newCluster(ctx, l, i, l.real.apiAddress(i))
		l.clusters = append(l.clusters, c) // also half made: Down closes it
		if err != nil {
			return err
		}
	}
	if err := l.describe(); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, c := range l.clusters {
		g.Go(func() error { return c.up(gctx) })
	}
	g.Go(func() error { return l.real.start(gctx, l) })
	if err := g.Wait(); err != nil {
		return err
	}
	l.progress("lab %s: ready after %.1f s", l.Name(), time.Since(l.begun).Seconds())
	return l.update(func(s *State) { s.Ready = true })
}

// describe writes the kubeconfig, and the clusters into the state.
func (l *Lab) describe() error {
	var accesses []access
	var states []ClusterState
	for _, c := range l.clusters {
		accesses = append(accesses, c.proxied(), c.admin)
		states = append(states, ClusterState{
			Name: c.Name(), Server: c.admin.server, Proxy: c.proxied().server,
			PodCIDR: c.PodCIDR(), ServiceCIDR: c.ServiceCIDR(),
			Simulated: c.opts.simulatedCount(), Real: c.opts.Real,
		})
	}
	if err := writeKubeconfig(l.Kubeconfig(), accesses...); err != nil {
		return err
	}
	return l.update(func(s *State) { s.Clusters = states })
}

// Name of the lab.
func (l *Lab) Name() string { return l.opts.Name }

// Dir is the lab's state directory: logs in log/, kubeconfig, state.json.
func (l *Lab) Dir() string { return l.dir }

// Kubeconfig is the path of a file with the contexts NAME (through the proxy)
// and NAME-direct (straight to the API server) for each cluster, as
// administrator.
func (l *Lab) Kubeconfig() string { return filepath.Join(l.dir, "kubeconfig") }

// Cluster gives the cluster of that name; nil if there is none.
func (l *Lab) Cluster(name string) *Cluster {
	for _, c := range l.clusters {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// Clusters in the order of the options.
func (l *Lab) Clusters() []*Cluster { return l.clusters }

// Start runs a program as part of the lab: it carries the lab's mark, its
// output goes to log/NAME.log in the state directory, and Down ends it before
// the clusters. ctx is for the start only.
func (l *Lab) Start(ctx context.Context, spec Process) (*Proc, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p, err := l.startProcess(spec)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.procs = append(l.procs, p)
	return p, nil
}

func (l *Lab) startProcess(spec Process) (*Proc, error) {
	return startProcess(l.dir, l.Name(), spec, func(p *Proc) { l.noteProcess(p.spec.Name, p.run) })
}

// noteProcess keeps the state's list of processes; the marks are what counts.
func (l *Lab) noteProcess(name string, r *run) {
	now := ProcessState{Name: name, PID: r.cmd.Process.Pid, Start: r.start}
	_ = l.update(func(s *State) {
		for i, p := range s.Processes {
			if p.Name == name {
				s.Processes[i] = now
				return
			}
		}
		s.Processes = append(s.Processes, now)
	})
}

func (l *Lab) update(change func(*State)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil
	}
	change(&l.state)
	if err := writeState(l.dir, l.state); err != nil {
		return fmt.Errorf("write the state of lab %s: %w", l.Name(), err)
	}
	return nil
}

func lookup(binaries map[string]string, name string) (string, error) {
	path, ok := binaries[name]
	if !ok {
		return "", fmt.Errorf("binary %s was not built", name)
	}
	return path, nil
}

// progress writes a line with the time since the start.
func (l *Lab) progress(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, "%5.1f s  %s\n", time.Since(l.begun).Seconds(), fmt.Sprintf(format, args...))
}

// firstAddress is the address of Service kubernetes.
func firstAddress(cidr string) string {
	return netip.MustParsePrefix(cidr).Addr().Next().String() // checked in withDefaults
}
