package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// sample is one load of one round: started, Ready, deleted, gone.
type sample struct {
	Load         string  `json:"load"`
	Pods         int     `json:"pods"`
	RoundTripMs  float64 `json:"roundTripMs"`
	Round        int     `json:"round"`
	ReadySeconds float64 `json:"readySeconds"`
	GoneSeconds  float64 `json:"goneSeconds"`
	// OtherCores is how many cores other programs used meanwhile, on average.
	OtherCores float64 `json:"otherCores"`
	// Start is what starting cost, Whole that and deleting, each until the clusters were at rest again.
	Start *costs `json:"start,omitempty"`
	Whole *costs `json:"whole,omitempty"`
	// RSSMiB of the two spillwayds when all pods were Ready.
	RSSMiB *memory `json:"rssMiB,omitempty"`
}

// memory of the two spillwayds.
type memory struct {
	Consumer float64 `json:"consumer"`
	Provider float64 `json:"provider"`
}

// series runs loads on a bed.
type series struct {
	options options
	bed     *bed
	result  *result
	say     *teller
}

// job is one load to measure.
type job struct {
	load string
	pods int
	rtt  time.Duration
}

// jobs of one round. Loads that are compared are next to each other; which of them goes first changes with the round.
func jobs(o options, round int) []job {
	var all []job
	for _, n := range o.pods {
		group := []job{{plain, n, 0}, {floor, n, 0}, {spillway, n, 0}}
		if n == o.mostPods() {
			for _, rtt := range o.rtts[1:] {
				group = append(group, job{spillway, n, rtt})
			}
		}
		first := round % len(group)
		all = append(append(all, group[first:]...), group[:first]...)
	}
	return all
}

// warmUp runs each load once without measuring: caches, connections, heaps.
func (s *series) warmUp(ctx context.Context) error {
	n := min(100, s.options.mostPods())
	s.say.line("warming up with %d pods of each load", n)
	for _, load := range []string{plain, floor, spillway} {
		if _, err := s.one(ctx, job{load, n, 0}); err != nil {
			return err
		}
	}
	return nil
}

// rounds measures everything that is asked for.
func (s *series) rounds(ctx context.Context) error {
	for round := range s.options.rounds {
		for _, j := range jobs(s.options, round) {
			sample, err := s.undisturbed(ctx, j)
			if err != nil {
				return err
			}
			sample.Round = round + 1
			s.result.Samples = append(s.result.Samples, sample)
			s.say.line("round %d of %d: %4d pods, %-8s%s  Ready after %6.2f s, gone after %6.2f s%s", round+1, s.options.rounds,
				j.pods, j.load, atRTT(j.rtt), sample.ReadySeconds, sample.GoneSeconds, disturbed(sample.OtherCores))
		}
	}
	return s.notePeak()
}

// undisturbed measures a load; with -calm again while other programs took enough to be seen in the figures.
func (s *series) undisturbed(ctx context.Context, j job) (sample, error) {
	const most = 3
	for try := 1; ; try++ {
		if s.options.calm {
			if err := s.bed.awaitCalm(ctx); err != nil {
				return sample{}, err
			}
		}
		out, err := s.one(ctx, j)
		if err != nil || !s.options.calm || out.OtherCores < disturbing || try == most {
			return out, err
		}
		s.say.line("disturbed: other programs used %.1f cores; again", out.OtherCores)
	}
}

func atRTT(rtt time.Duration) string {
	if rtt == 0 {
		return ""
	}
	return fmt.Sprintf(" at %s", rtt)
}

// disturbing is how many cores other programs may use before they are seen in the figures.
const disturbing = 0.1

// disturbed says so when other programs took enough to be seen in the figures.
func disturbed(cores float64) string {
	if cores < disturbing {
		return ""
	}
	return fmt.Sprintf("  (other programs used %.1f cores)", cores)
}

// one starts a load, waits until all is quiet, deletes it, and waits again.
func (s *series) one(ctx context.Context, j job) (sample, error) {
	out := sample{Load: j.load, Pods: j.pods, RoundTripMs: float64(j.rtt.Milliseconds())}
	if err := s.bed.slow(j.rtt); err != nil {
		return out, err
	}
	if err := s.bed.settle(ctx); err != nil {
		return out, err
	}
	meter, err := s.bed.begin(ctx)
	if err != nil {
		return out, err
	}
	before := s.bed.busy()
	ready, err := s.bed.start(ctx, j.load, j.pods)
	if err != nil {
		return out, err
	}
	othersAtStart := s.bed.othersSince(before, ready)
	if err := s.bed.settle(ctx); err != nil {
		return out, err
	}
	if out.Start, err = meter.end(ctx); err != nil {
		return out, err
	}
	if out.RSSMiB, err = s.memory(func(u lab.Usage) int64 { return u.RSS }); err != nil {
		return out, err
	}
	before = s.bed.busy()
	gone, err := s.bed.remove(ctx, j.load)
	if err != nil {
		return out, err
	}
	out.OtherCores = max(othersAtStart, s.bed.othersSince(before, gone))
	if err := s.bed.settle(ctx); err != nil {
		return out, err
	}
	out.Whole, err = meter.end(ctx)
	out.ReadySeconds, out.GoneSeconds = ready.Seconds(), gone.Seconds()
	return out, err
}

// memory of the two spillwayds, in MiB; nil when they are not ours.
func (s *series) memory(pick func(lab.Usage) int64) (*memory, error) {
	if s.bed.lab == nil {
		return nil, nil
	}
	usage, err := s.bed.usage()
	if err != nil {
		return nil, err
	}
	const mib = 1 << 20
	return &memory{
		Consumer: float64(pick(usage[0][lab.Spillwayd])) / mib,
		Provider: float64(pick(usage[1][lab.Spillwayd])) / mib,
	}, nil
}

// notePeak notes the most memory that the spillwayds ever had in this run.
func (s *series) notePeak() (err error) {
	s.result.PeakRSSMiB, err = s.memory(func(u lab.Usage) int64 { return u.PeakRSS })
	return err
}

// onePod measures pods one after another, taking turns.
func (s *series) onePod(ctx context.Context) error {
	if err := s.bed.slow(0); err != nil {
		return err
	}
	if err := s.bed.settle(ctx); err != nil {
		return err
	}
	s.result.OnePodSeconds = map[string][]float64{}
	for i := range s.options.single + 1 {
		for _, load := range []string{plain, spillway} {
			took, err := s.bed.single(ctx, load)
			if err != nil {
				return err
			}
			if i > 0 { // the first one is to warm up
				s.result.OnePodSeconds[load] = append(s.result.OnePodSeconds[load], took.Seconds())
			}
		}
	}
	s.say.line("%d pods one after another, of either kind: done", s.options.single)
	return nil
}

// auditPass counts what the spillwayds alone write, in clusters whose API servers keep an audit log. That costs time,
// so nothing is timed here.
func auditPass(ctx context.Context, o options, result *result, say *teller) error {
	say.line("a pass that is not timed: what spillwayd alone writes")
	b, err := openBed(ctx, o, say, true)
	if err != nil {
		return err
	}
	defer b.close(context.WithoutCancel(ctx))
	n := o.mostPods()
	if _, err := b.start(ctx, spillway, min(10, n)); err != nil { // makes the tenant namespace
		return err
	}
	if _, err := b.remove(ctx, spillway); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	before, err := b.requests(ctx)
	if err != nil {
		return err
	}
	if _, err := b.start(ctx, spillway, n); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	if _, err := b.remove(ctx, spillway); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	after, err := b.requests(ctx)
	if err != nil {
		return err
	}
	result.Own = &ownWrites{
		Pods:     n,
		Consumer: countWrites(lab.DiffRequests(before[0], after[0]), lab.Spillwayd),
		Provider: countWrites(lab.DiffRequests(before[1], after[1]), lab.Spillwayd),
	}
	return nil
}
