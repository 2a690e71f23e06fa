package leader

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	leaseDuration = 15 * time.Second // a replica that stops answering is replaced after this
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
	// endWithin is how long work may take to end once the Lease is lost: until another may have it.
	endWithin = leaseDuration - renewDeadline
	// giveBackWithin bounds the giving back of the Lease.
	giveBackWithin = 5 * time.Second
	// late is how long after its Lease has expired a leader that neither renews it nor stops counts as hung.
	late = 5 * time.Second
)

// Config says who stands for what.
type Config struct {
	Client kubernetes.Interface
	// Namespace and Lease name the Lease, Identity this replica. A replica that comes back under the same name while its Lease runs
	// goes on at once. Inside a cluster it is the name of the pod, in Namespace.
	Namespace, Lease, Identity string
	// Port is where the pods of all replicas answer Path. Zero: there are no pods, and an ended leader is replaced when its Lease
	// has expired.
	Port uint16
	Log  *zap.Logger
}

// ErrStuck is what Run returns when the Lease was lost and the work does not end: the process has to.
var ErrStuck = errors.New("the Lease is lost and the work does not end")

// Candidate is one replica. Make it with New, then Run it once.
type Candidate struct {
	cfg    Config
	health *leaderelection.HealthzAdaptor
	log    *zap.Logger

	mu   sync.Mutex
	term chan struct{} // guarded by mu; nil: this replica does not lead; closed when the term is over
	held int           // guarded by mu; requests that wait for the end of the term
}

// New returns a Candidate that stands for nothing before Run.
func New(cfg Config) *Candidate {
	return &Candidate{cfg: cfg, health: leaderelection.NewLeaderHealthzAdaptor(late), log: cfg.Log}
}

// Healthy says why this replica should be ended: it leads and has not renewed its Lease for longer than that lasts.
func (c *Candidate) Healthy(r *http.Request) error { return c.health.Check(r) }

// Leading says whether work runs here.
func (c *Candidate) Leading() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.term != nil
}

// Run works whenever this replica leads, until ctx ends or work returns an error. When it returns, work has ended (but for ErrStuck)
// and the Lease has been given back.
func (c *Candidate) Run(ctx context.Context, work func(context.Context) error) error {
	for ctx.Err() == nil {
		t := &term{candidate: c, work: work, parent: ctx, ended: make(chan struct{})}
		if err := t.run(); err != nil {
			return err
		}
		if t.lock.acquired() && ctx.Err() == nil {
			c.log.Warn("standing by: another replica has the Lease, or it could not be renewed in time")
		}
	}
	return nil
}

// term is one candidacy and, if it succeeds, the work that follows.
type term struct {
	candidate *Candidate
	work      func(context.Context) error
	parent    context.Context
	lock      *lock
	stop      context.CancelFunc // ends the election and with it the renewals
	ended     chan struct{}      // closed when work has ended, if it was begun
	err       error              // of work; written before ended is closed
}

// run stands, leads and gives the Lease back.
func (t *term) run() error {
	c := t.candidate
	// Renewals go on until the work has ended: told to stop, a leader ends its work first.
	election, stop := context.WithCancel(context.WithoutCancel(t.parent))
	defer stop()
	t.stop = stop
	t.lock = &lock{Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: c.cfg.Namespace, Name: c.cfg.Lease},
		Client:     c.cfg.Client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: c.cfg.Identity},
	}, taken: stop}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: t.lock, Name: c.cfg.Lease,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		WatchDog:  c.health,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: t.lead, OnStoppedLeading: func() {}, OnNewLeader: t.note},
	})
	if err != nil {
		return fmt.Errorf("stand for the Lease %s: %w", c.cfg.Lease, err)
	}
	c.health.SetLeaderElection(elector)
	defer context.AfterFunc(t.parent, func() {
		if !t.lock.acquired() {
			stop()
		}
	})()
	var following sync.WaitGroup
	following.Go(func() {
		if c.follow(election, t.lock.acquired) {
			stop() // the next candidacy tries at once
		}
	})
	elector.Run(election)
	stop()
	following.Wait()
	if t.lock.acquired() {
		select {
		case <-t.ended:
		case <-time.After(endWithin):
			return ErrStuck
		}
	} else if t.parent.Err() == nil {
		return nil
	}
	c.giveBack(context.WithoutCancel(t.parent)) // an attempt that was broken off may have succeeded
	c.over()
	return t.err
}

// lead is called when this replica holds the Lease. leading ends when it no longer does.
func (t *term) lead(leading context.Context) {
	defer close(t.ended)
	defer t.stop()
	ctx, cancel := context.WithCancel(t.parent)
	defer cancel()
	defer context.AfterFunc(leading, cancel)()
	if ctx.Err() != nil || leading.Err() != nil {
		return
	}
	t.candidate.begin()
	t.candidate.log.Info("leading", zap.String("identity", t.candidate.cfg.Identity))
	t.err = t.work(ctx)
}

func (t *term) note(leader string) {
	if leader != "" && leader != t.candidate.cfg.Identity {
		t.candidate.log.Info("another replica leads", zap.String("leader", leader))
	}
}

func (c *Candidate) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term = make(chan struct{})
}

// over answers those who wait for the end of the term.
func (c *Candidate) over() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.term != nil {
		close(c.term)
	}
	c.term = nil
}

// giveBack lets the Lease go if this replica still has it. The work has ended. What cannot be given back expires.
func (c *Candidate) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, giveBackWithin)
	defer cancel()
	leases := c.cfg.Client.CoordinationV1().Leases(c.cfg.Namespace)
	lease, err := leases.Get(ctx, c.cfg.Lease, metav1.GetOptions{})
	if err == nil && holder(lease) == c.cfg.Identity {
		err = vacate(ctx, leases, lease)
	}
	if err != nil {
		c.log.Warn("the Lease was not given back and has to expire", zap.Error(err))
	}
}

// lock is the Lease as the election sees it. It tells when somebody else has it while this replica leads: the election itself would
// go on trying for renewDeadline.
type lock struct {
	resourcelock.Interface
	taken func()

	mu  sync.Mutex
	got bool // guarded by mu
}

// acquired says whether this candidacy has succeeded, even if the Lease has been lost since.
func (l *lock) acquired() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.got
}

func (l *lock) note(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = l.got || err == nil
	return err
}

// Get is of [resourcelock.Interface].
func (l *lock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if err == nil && record.HolderIdentity != l.Identity() && l.acquired() {
		l.taken()
	}
	return record, raw, err
}

// Create is of [resourcelock.Interface].
func (l *lock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.note(l.Interface.Create(ctx, record))
}

// Update is of [resourcelock.Interface].
func (l *lock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.note(l.Interface.Update(ctx, record))
}
