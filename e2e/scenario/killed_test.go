package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/internal/live"
)

const (
	kills      = 20
	seedName   = "SPILLWAY_SEED" // environment: repeats a run
	steadyPods = 60
	wavePods   = 60
	jobs       = 4
	completed  = 10 // pods of a Job
	barePods   = 40
)

// dice are thrown anew in each run, and say how to repeat it; stream tells tests apart.
func (s *scenario) dice(stream uint64) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(seedName); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		s.check(err)
	}
	s.Logf("repeat with %s=%d", seedName, seed)
	return rand.New(rand.NewPCG(seed, stream))
}

// TestKilledController: spillwayd of the consumer is killed at 20 random moments while 200 pods start, run and stop.
// Nothing may be lost, doubled, replaced or failed by that.
func TestKilledController(t *testing.T) {
	s := begin(t)
	random := s.dice(1)
	local := s.record(s.consumer, s.ns, func(pod *corev1.Pod) types.UID { return pod.UID })
	remote := s.record(s.provider, s.tenantNamespace(s.ns), originOf)

	s.deployment("steady", steadyPods)
	s.deployment("wave", 0)
	for i := range jobs {
		s.job(fmt.Sprintf("job-%d", i), completed, 4, time.Duration(500+random.IntN(2500))*time.Millisecond)
	}
	for i := range barePods {
		s.create(s.remotePod(fmt.Sprintf("bare-%d", i), bareKind(i)))
	}
	doomed := map[string]bool{}
	begun := time.Now()
	for i := range kills {
		s.pass(time.Duration(random.IntN(4000)) * time.Millisecond)
		s.check(s.consumer.spillwayd.Restart()) // kill -9, and a new one
		switch i % 4 {
		case 0:
			s.check(s.scale("wave", random.Int32N(wavePods+1)))
		case 2:
			name := fmt.Sprintf("bare-%d", random.IntN(barePods))
			if !doomed[name] {
				s.deletePod(name, metav1.DeleteOptions{})
				doomed[name] = true
			}
		}
	}
	t.Logf("%d kills within %s", kills, time.Since(begun).Round(time.Second))
	s.check(s.scale("wave", wavePods/2))
	s.eventually(2*time.Minute, "everything comes to rest", func(ctx context.Context) error { return s.atRest(ctx, doomed) })
	s.judge(local, remote, doomed)
}

// bareKind gives pods without a controller all restart policies; every fourth ends by itself.
func bareKind(i int) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		switch i % 4 {
		case 0:
			pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		case 1:
			pod.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		case 2:
			pod.Spec.RestartPolicy = corev1.RestartPolicyNever
			pod.Annotations = runFor(2 * time.Second)
		}
	}
}

// pass lets time pass: the moment of a kill is to be anywhere.
func (s *scenario) pass(d time.Duration) {
	_, _ = poll(s.ctx, d, func(context.Context) error { return errors.New("not yet") })
}

// atRest says what is not finished yet; nil when nothing moves any more.
func (s *scenario) atRest(ctx context.Context, doomed map[string]bool) error {
	if err := errors.Join(s.scaled(ctx, "steady", steadyPods), s.scaled(ctx, "wave", wavePods/2)); err != nil {
		return err
	}
	for i := range jobs {
		job, err := s.consumer.kube.BatchV1().Jobs(s.ns).Get(ctx, fmt.Sprintf("job-%d", i), getOptions())
		if err != nil {
			return err
		}
		if job.Status.Succeeded != completed || job.Status.CompletionTime == nil {
			return fmt.Errorf("job %s: %d of %d pods have succeeded, %d failed", job.Name, job.Status.Succeeded, completed, job.Status.Failed)
		}
	}
	pods, err := s.localPods(ctx)
	if err != nil {
		return err
	}
	if want := steadyPods + wavePods/2 + jobs*completed + barePods - len(doomed); len(pods) != want {
		return fmt.Errorf("%d pods, want %d%s", len(pods), want, s.ending(ctx, pods))
	}
	for i := range pods {
		if err := ready(&pods[i]); err != nil && pods[i].Status.Phase != corev1.PodSucceeded {
			return err
		}
	}
	return s.oneTwinEach(ctx, pods)
}

// ending lists the pods that are being deleted, each with its twin.
func (s *scenario) ending(ctx context.Context, pods []corev1.Pod) string {
	text := ""
	for _, pod := range pods {
		if pod.DeletionTimestamp == nil {
			continue
		}
		text += fmt.Sprintf("\npod %s (%s, %s) is to end by %s, now %s", pod.Name, pod.UID, pod.Status.Phase,
			pod.DeletionTimestamp.Format(time.TimeOnly), time.Now().Format(time.TimeOnly))
		if twin, err := s.twin(ctx, pod.UID); err != nil {
			text += "; " + err.Error()
		} else {
			text += fmt.Sprintf("; its twin is %s, to end by %v", twin.Status.Phase, twin.DeletionTimestamp)
		}
	}
	return text
}

// oneTwinEach says which pods have no twin, or more than one, and which twins have no pod.
func (s *scenario) oneTwinEach(ctx context.Context, pods []corev1.Pod) error {
	all, err := s.twins(ctx)
	if err != nil {
		return err
	}
	count := map[types.UID]int{}
	for i := range all {
		count[originOf(&all[i])]++
	}
	var wrong []string
	for i := range pods {
		if n := count[pods[i].UID]; n != 1 {
			wrong = append(wrong, fmt.Sprintf("pod %s (%s) has %d twins", pods[i].Name, pods[i].Status.Phase, n))
		}
		delete(count, pods[i].UID)
	}
	for uid := range count {
		wrong = append(wrong, fmt.Sprintf("a twin of pod %s, which does not exist", uid))
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "\n"))
	}
	return nil
}

// life is what was seen of one pod.
type life struct {
	name         string
	app          string
	origin       types.UID // of the local pod
	ran          bool
	failed       bool
	asked        bool // its deletion was asked for
	gone         bool
	phases       []corev1.PodPhase
	deletedPhase corev1.PodPhase
}

// history is what was seen of all pods of a namespace, by UID. Safe for concurrent use.
type history struct {
	mu    sync.Mutex
	lives map[types.UID]*life // guarded by mu
}

// record writes down what becomes of the pods of a namespace, until the test is over.
func (s *scenario) record(on *side, namespace string, origin func(*corev1.Pod) types.UID) *history {
	s.Helper()
	h := &history{lives: map[types.UID]*life{}}
	pods := live.New(live.Options[*corev1.Pod]{
		Name: "pods of " + namespace, ListWatch: live.ListWatch(on.kube, on.kube.CoreV1().Pods(namespace), nil),
		Changed: func(before, now *corev1.Pod) { h.note(before, now, origin) },
	})
	s.follow(pods.Run, pods.Synced())
	return h
}

func (h *history) note(before, now *corev1.Pod, origin func(*corev1.Pod) types.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if before != nil && (now == nil || now.UID != before.UID) {
		h.lives[before.UID].gone = true
	}
	if now == nil {
		return
	}
	l := h.lives[now.UID]
	if l == nil {
		l = &life{name: now.Name, app: now.Labels["app"], origin: origin(now)}
		h.lives[now.UID] = l
	}
	phase := now.Status.Phase
	if len(l.phases) == 0 || l.phases[len(l.phases)-1] != phase {
		l.phases = append(l.phases, phase)
	}
	l.ran = l.ran || phase == corev1.PodRunning
	l.failed = l.failed || phase == corev1.PodFailed
	if now.DeletionTimestamp != nil && !l.asked {
		l.asked, l.deletedPhase = true, phase
	}
}

// read gives all lives, sorted by name.
func (h *history) read() []life {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []life
	for _, uid := range slices.Sorted(maps.Keys(h.lives)) {
		out = append(out, *h.lives[uid])
	}
	slices.SortStableFunc(out, func(a, b life) int { return strings.Compare(a.name, b.name) })
	return out
}

// judge looks at the whole history: what must never have been, even for a moment.
func (s *scenario) judge(local, remote *history, doomed map[string]bool) {
	s.Helper()
	byName := map[string]life{}
	steady, workers := 0, 0
	ended := map[types.UID]bool{} // local pods that somebody asked to end
	for _, l := range local.read() {
		if l.failed {
			s.Errorf("pod %s was Failed: %v", l.name, l.phases)
		}
		if other, twice := byName[l.name]; twice {
			s.Errorf("pod %s was there twice: %+v and %+v", l.name, other, l)
		}
		byName[l.name] = l
		ended[l.origin] = l.asked || l.gone
		switch {
		case l.app == "steady":
			steady++
		case strings.HasPrefix(l.name, "job-"):
			workers++
		}
		if mayEnd := l.app == "wave" || doomed[l.name]; (l.asked || l.gone) && !mayEnd {
			s.Errorf("pod %s, which nobody deleted, ended: %+v", l.name, l)
		}
	}
	if steady != steadyPods || workers != jobs*completed {
		s.Errorf("there were %d pods of Deployment steady and %d of Jobs, want %d and %d", steady, workers, steadyPods, jobs*completed)
	}
	ran := map[types.UID]life{}
	for _, l := range remote.read() {
		if l.failed {
			s.Errorf("the twin of %s was Failed: %v", l.name, l.phases)
		}
		if !l.ran {
			continue
		}
		if other, twice := ran[l.origin]; twice {
			s.Errorf("pod %s ran as two twins: %+v and %+v", l.name, other, l)
		}
		ran[l.origin] = l
		if (l.asked || l.gone) && !ended[l.origin] {
			s.Errorf("the twin of pod %s, which lives, ended: %+v", l.name, l)
		}
	}
	s.Logf("%d pods lived, %d twins ran", len(byName), len(ran))
}
