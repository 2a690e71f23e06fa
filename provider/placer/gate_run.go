package placer

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

// reachWithin is how long a gate may take to answer before anything moves.
const reachWithin = 5 * time.Second

// gates ask the gates of Migrations, each in a goroutine of its own while its pods soak and after. Only view may be called while others
// are.
type gates struct {
	client kubernetes.Interface
	http   *http.Client
	clock  clock.Clock
	runs   map[types.UID]*gateRun
	wg     sync.WaitGroup
}

// gateRun is one soak time of one Migration.
type gateRun struct {
	key    string // step and beginning
	cancel context.CancelFunc

	mu   sync.Mutex
	view placement.GateView // guarded by mu
}

func (r *gateRun) say(v placement.GateView) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.view = v
}

func newGates(cfg Config) *gates {
	return &gates{client: cfg.Client, clock: cfg.Clock, runs: map[types.UID]*gateRun{}, http: &http.Client{
		// Each request is a connection of its own: Services choose among pods by connections. An answer that leads elsewhere is one.
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// gateKey tells one soak time from another.
func gateKey(mg *v1alpha1.Migration) string {
	if mg.Status.Phase != v1alpha1.MigrationGating || mg.Status.ReadyTime == nil {
		return ""
	}
	return fmt.Sprintf("%d-%x", mg.Status.Step, mg.Status.ReadyTime.Unix())
}

// view is what the gate has said in this soak time; restarted says that nobody has asked it.
func (g *gates) view(mg *v1alpha1.Migration) (v placement.GateView, restarted bool) {
	key := gateKey(mg)
	if key == "" {
		return v, false
	}
	r := g.runs[mg.UID]
	if r == nil || r.key != key {
		return v, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.view, false
}

// follow asks the gate from the beginning of a soak time until it is over.
func (g *gates) follow(ctx context.Context, mg *v1alpha1.Migration) {
	key := gateKey(mg)
	if r := g.runs[mg.UID]; r != nil && r.key == key {
		return
	}
	g.stop(mg.UID)
	if key == "" {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &gateRun{key: key, cancel: cancel}
	g.runs[mg.UID] = r
	g.wg.Go(func() {
		defer cancel()
		g.hold(ctx, mg, r)
	})
}

func (g *gates) stop(uid types.UID) {
	if r := g.runs[uid]; r != nil {
		r.cancel()
		delete(g.runs, uid)
	}
}

// forget ends the runs of Migrations that are not there any more.
func (g *gates) forget(there map[types.UID]bool) {
	for uid := range g.runs {
		if !there[uid] {
			g.stop(uid)
		}
	}
}

// wait ends all runs and waits for them.
func (g *gates) wait() {
	g.forget(nil)
	g.wg.Wait()
}

// hold asks one gate after the other, the first while the pods soak, and says what they say together.
func (g *gates) hold(ctx context.Context, mg *v1alpha1.Migration, r *gateRun) {
	until := mg.Status.ReadyTime.Add(placement.MigrationSoak(&mg.Spec))
	held := []string{fmt.Sprintf("its pods were Ready for %s", placement.MigrationSoak(&mg.Spec))}
	for _, ask := range []func(context.Context, *v1alpha1.Migration, time.Time) (placement.GateView, bool){
		g.askHTTP, g.askPrometheus, g.askJob,
	} {
		v, asked := ask(ctx, mg, until)
		if ctx.Err() != nil {
			return
		}
		if v.State == placement.GateFails {
			r.say(v)
			return
		}
		if asked {
			held = append(held, v.Why)
			r.say(placement.GateView{Why: strings.Join(held[1:], "; ")})
		}
	}
	r.say(placement.GateView{State: placement.GateHolds, Why: strings.Join(held, "; ")})
}

// pause waits until a time; false when ctx has ended before.
func (g *gates) pause(ctx context.Context, until time.Time) bool {
	rest := until.Sub(g.clock.Now())
	if rest <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-g.clock.After(rest):
		return true
	}
}

// reach says, before anything moves, which gates cannot be asked.
func (g *gates) reach(ctx context.Context, mg *v1alpha1.Migration) []string {
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	var out []string
	if h := mg.Spec.Gate.HTTP; h != nil {
		if _, err := g.get(ctx, h.URL); err != nil {
			out = append(out, fmt.Sprintf("the gate's url cannot be reached from Spillway: %v; give one that can", err))
		}
	}
	if p := mg.Spec.Gate.Prometheus; p != nil {
		if _, err := g.query(ctx, p); err != nil && !isNoNumber(err) {
			out = append(out, fmt.Sprintf("the gate's Prometheus does not answer the query: %v; correct its url or the query", err))
		}
	}
	return out
}
