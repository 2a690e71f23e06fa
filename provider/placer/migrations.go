package placer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/peering/v1alpha1/client"
	"github.com/spillway-dev/spillway/provider/placement"
)

const (
	// migrateEvery is how often Migrations are looked at that are not over.
	migrateEvery = 500 * time.Millisecond
	// catchUp is how long a workload is left alone while the cache does not show yet what was done to its pods.
	catchUp = 10 * time.Second
	// checkAgain is how long after a check that could not be made the next one is.
	checkAgain = 5 * time.Second
)

// migrationCaches is what Migrations are judged by; Caches is the real one.
type migrationCaches interface {
	Synced() bool
	Pods() []*corev1.Pod
	Nodes() []*corev1.Node
	Find(namespace string, kind v1alpha1.WorkloadKind, name string) (placement.Workload, bool)
}

// migrations moves workloads as Migrations say. It remembers nothing that the cluster does not say but what its caches do not show yet,
// and what the gates have seen: after a restart, soaking starts anew.
type migrations struct {
	cfg    Config
	seen   migrationCaches
	mover  Mover
	client func(namespace string) client.Migrations
	broken error // why there is no client
	cache  *live.Cache[*v1alpha1.Migration]
	gates  *gates
	woken  chan struct{}

	written map[types.UID]writtenStatus
	touched map[types.UID]touchedPod
	asked   map[types.UID]time.Time // when a check could not be made
	held    map[types.UID]bool      // Migrations of which a budget let a pod not go

	mu     sync.Mutex
	moving map[string]bool // guarded by mu; workloads with a wish; nil before the first pass
}

// writtenStatus is a Migration as it was written, on what the cache had then and what was written since.
type writtenStatus struct {
	over []string // resourceVersions that it is newer than
	is   *v1alpha1.Migration
}

// touchedPod is what the cache had of a pod when it was moved.
type touchedPod struct {
	resourceVersion string
	at              time.Time
}

func newMigrations(cfg Config, seen migrationCaches, mover Mover) *migrations {
	m := &migrations{
		cfg: cfg, seen: seen, mover: mover, gates: newGates(cfg), woken: make(chan struct{}, 1),
		written: map[types.UID]writtenStatus{}, touched: map[types.UID]touchedPod{}, asked: map[types.UID]time.Time{},
		held: map[types.UID]bool{},
	}
	if m.client, m.broken = client.NewMigrations(cfg.REST); m.broken != nil {
		return m
	}
	all := m.client("")
	m.cache = live.New(live.Options[*v1alpha1.Migration]{
		Name: "migrations", ListWatch: live.ListWatch(all, all, nil), Changed: func(_, _ *v1alpha1.Migration) { m.wake() },
	})
	return m
}

// wake has the Migrations looked at soon. It does not block.
func (m *migrations) wake() {
	select {
	case m.woken <- struct{}{}:
	default:
	}
}

// run moves pods until ctx ends, and waits for its goroutines.
func (m *migrations) run(ctx context.Context) {
	if m.broken != nil {
		m.cfg.Log.Error("migrations are not followed", zap.Error(m.broken))
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { m.cache.Run(ctx) })
	defer wg.Wait()
	defer m.gates.wait()
	defer scraped.Add(m.tellMetrics)()
	for first := true; ; {
		var again <-chan time.Time
		if first || m.cache.Len() > 0 {
			again = m.cfg.Clock.After(migrateEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.woken:
		case <-again:
		}
		if m.cache.HasSynced() && m.seen.Synced() && m.cfg.Policies.Synced() {
			began := m.cfg.Clock.Now()
			m.pass(ctx, m.cache.List())
			passed("migration", m.cfg.Clock.Since(began))
			first = false
		}
	}
}

// wished says whether a Migration moves a workload now, and looks after the pods that it was made to let go of. It may be called while
// run runs.
func (m *migrations) wished(w placement.Workload) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moving == nil {
		return m.broken == nil // not known yet
	}
	return m.moving[workloadKey(w.Namespace, v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadKind(w.Kind), Name: w.Name})]
}

// pass looks at every Migration once.
func (m *migrations) pass(ctx context.Context, all []*v1alpha1.Migration) {
	all = m.latest(all)
	around := surroundings{all: all, owners: migrationOwners(all), gated: map[string][]*corev1.Pod{}, moving: map[string]bool{}}
	if len(all) > 0 {
		for _, pod := range m.seen.Pods() {
			if placement.Gated(pod) {
				around.gated[pod.Namespace] = append(around.gated[pod.Namespace], pod)
			}
		}
	}
	for _, mg := range all {
		if mg.DeletionTimestamp != nil {
			m.gates.stop(mg.UID)
			continue
		}
		m.tend(ctx, mg, around)
	}
	m.forget(all)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moving = around.moving
}

// surroundings are what one Migration has to know of others.
type surroundings struct {
	all    []*v1alpha1.Migration
	owners map[string]*v1alpha1.Migration // by namespace and workload
	gated  map[string][]*corev1.Pod       // by namespace
	moving map[string]bool                // by namespace and workload; filled while Migrations are looked at
}

// mark notes the workloads that a Migration moves.
func (s surroundings) mark(mg *v1alpha1.Migration, mine []placement.Workload) {
	switch mg.Status.Phase {
	case v1alpha1.MigrationMoving, v1alpha1.MigrationGating, v1alpha1.MigrationRollingBack:
		for _, w := range mine {
			s.moving[workloadKey(w.Namespace, v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadKind(w.Kind), Name: w.Name})] = true
		}
	}
}

// latest are the Migrations as they were written last, where the cache does not show it yet; oldest first.
func (m *migrations) latest(cached []*v1alpha1.Migration) []*v1alpha1.Migration {
	out := make([]*v1alpha1.Migration, 0, len(cached))
	for _, mg := range cached {
		if w, ok := m.written[mg.UID]; ok && slices.Contains(w.over, mg.ResourceVersion) {
			mg = w.is
		}
		out = append(out, mg)
	}
	slices.SortFunc(out, func(a, b *v1alpha1.Migration) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(b.Name, a.Name), cmp.Compare(a.Namespace, b.Namespace))
	})
	return out
}

// migrationOwners says which Migration counts for each workload: of those that have begun the newest, of two of one second the first by
// name, as admission has it.
func migrationOwners(all []*v1alpha1.Migration) map[string]*v1alpha1.Migration {
	owners := map[string]*v1alpha1.Migration{}
	for _, mg := range all { // the last one stays
		if mg.DeletionTimestamp != nil || mg.Status.Phase == v1alpha1.MigrationRefused {
			continue
		}
		for _, w := range mg.Status.Workloads {
			owners[workloadKey(mg.Namespace, w.WorkloadName)] = mg
		}
	}
	return owners
}

func workloadKey(namespace string, w v1alpha1.WorkloadName) string {
	return fmt.Sprintf("%s/%s/%s", namespace, w.Kind, w.Name)
}

// tend takes one Migration a step further.
func (m *migrations) tend(ctx context.Context, mg *v1alpha1.Migration, around surroundings) {
	view, mine := m.view(ctx, mg, around)
	defer func() { around.mark(mg, mine) }()
	status, wishes := placement.Advance(mg, view, m.cfg.Clock.Now())
	if !apiequality.Semantic.DeepEqual(status, mg.Status) {
		now, err := m.write(ctx, mg, status)
		if err != nil {
			if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && ctx.Err() == nil {
				m.cfg.Log.Warn("status of a Migration not written", zap.String("namespace", mg.Namespace), zap.String("name", mg.Name), zap.Error(err))
			}
			return
		}
		m.tell(mg, now, view)
		if !policy.SameCourse(mg, now) {
			wishes = nil // those who steer new pods are to know it first
		}
		mg = now
	}
	m.gates.follow(ctx, mg)
	m.assign(ctx, mg, mine)
	held := false
	for _, w := range wishes {
		held = m.fulfil(ctx, w) || held
	}
	m.held[mg.UID] = held
}

// view gathers what a Migration goes by, and returns those of its workloads, with their pods, that it has a say in.
func (m *migrations) view(ctx context.Context, mg *v1alpha1.Migration, around surroundings) (placement.MigrationView, []placement.Workload) {
	var v placement.MigrationView
	over := mg.Status.Phase == v1alpha1.MigrationRolledBack || mg.Status.Phase == v1alpha1.MigrationCompleted && !mg.Spec.Rollback
	for _, w := range mg.Status.Workloads {
		if owner := around.owners[workloadKey(mg.Namespace, w.WorkloadName)]; owner != nil && owner.UID != mg.UID {
			v.TakenOver = fmt.Sprintf("Migration %s is newer and moves %s %s: delete one of them", owner.Name, w.Kind, w.Name)
			continue
		}
		if over && len(around.gated[mg.Namespace]) == 0 {
			continue
		}
		if found, ok := m.workload(mg.Namespace, w.WorkloadName, around); ok {
			v.Workloads = append(v.Workloads, found)
		}
	}
	if mg.Status.StartTime == nil && mg.Status.CompletionTime == nil && !mg.Spec.Paused && !mg.Spec.Rollback {
		v.Verdict = m.verdict(ctx, mg, around)
	}
	v.Gate, v.Restarted = m.gates.view(mg)
	v.Budget = m.held[mg.UID]
	return v, v.Workloads
}

// workload is one with its pods. Of a CronJob, those are the pods of its runs that wait for a place.
func (m *migrations) workload(namespace string, name v1alpha1.WorkloadName, around surroundings) (placement.Workload, bool) {
	if name.Kind != v1alpha1.WorkloadCronJob {
		return m.seen.Find(namespace, name.Kind, name.Name)
	}
	w := placement.Workload{Namespace: namespace, Kind: string(name.Kind), Name: name.Name}
	for _, pod := range around.gated[namespace] {
		if placement.RunOf(pod, name.Name) {
			w.Members = append(w.Members, placement.Member{Pod: pod})
		}
	}
	return w, true
}

// fulfil makes the next moves towards a wish. held says that a PodDisruptionBudget let one not go.
func (m *migrations) fulfil(ctx context.Context, w placement.MigrationWish) (held bool) {
	now := m.cfg.Clock.Now()
	if m.outdated(w.Workload) {
		return false
	}
	moves, _ := placement.Next(w.Workload, w.Wish, now)
	for _, move := range moves {
		refused, err := m.mover.Move(ctx, move)
		moved(move.Kind, becauseMigration, refused, err)
		if err != nil && ctx.Err() == nil {
			m.cfg.Log.Warn("pod not moved", zap.String("namespace", move.Pod.Namespace), zap.String("name", move.Pod.Name),
				zap.String("step", string(move.Kind)), zap.Error(err))
		}
		if !refused && err == nil {
			m.touched[move.Pod.UID] = touchedPod{move.Pod.ResourceVersion, now}
		}
		held = held || refused
	}
	return held
}

// outdated says that the cache does not show yet what was done to pods of a workload.
func (m *migrations) outdated(w placement.Workload) bool {
	return slices.ContainsFunc(w.Members, func(member placement.Member) bool {
		t, ok := m.touched[member.UID]
		return ok && t.resourceVersion == member.ResourceVersion && m.cfg.Clock.Since(t.at) < catchUp
	})
}

// forget drops what is not needed any more.
func (m *migrations) forget(all []*v1alpha1.Migration) {
	there := map[types.UID]bool{}
	for _, mg := range all {
		there[mg.UID] = true
	}
	maps.DeleteFunc(m.written, func(uid types.UID, _ writtenStatus) bool { return !there[uid] })
	maps.DeleteFunc(m.asked, func(uid types.UID, _ time.Time) bool { return !there[uid] })
	maps.DeleteFunc(m.held, func(uid types.UID, _ bool) bool { return !there[uid] })
	maps.DeleteFunc(m.touched, func(_ types.UID, t touchedPod) bool { return m.cfg.Clock.Since(t.at) >= catchUp })
	m.gates.forget(there)
}
