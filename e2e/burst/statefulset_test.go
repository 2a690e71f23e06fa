package burst

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	ordinals  = 3
	lookEvery = 50 * time.Millisecond
	// youngFor is how long a process may become another program.
	youngFor = 5 * time.Second
)

// TestStatefulSetMoves: a StatefulSet of 3 moves ordinal by ordinal, the highest first, each when the last is Ready in its new place;
// no two processes ever have one identity. Then it comes home in the same way.
func TestStatefulSetMoves(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.service("ordinal")
	s.statefulSet("ordinal", ordinals, server(time.Second))
	s.are(time.Minute, "ordinal", ordinals, 0)
	ever := s.watchProcesses("ordinal-")

	set := v1alpha1.WorkloadChoice{Names: []v1alpha1.WorkloadName{{Kind: v1alpha1.WorkloadStatefulSet, Name: "ordinal"}}}
	for i, leg := range []struct {
		name       string
		to         v1alpha1.Destination
		home, away int
	}{{"forward", west(), 0, ordinals}, {"home", atHome(), ordinals, 0}} {
		s.migrate(leg.name, v1alpha1.MigrationSpec{Workloads: set, To: leg.to, Gate: soaking(time.Second)})
		s.phase(leg.name, oneMigration, v1alpha1.MigrationCompleted)
		s.are(duo.Soon, "ordinal", leg.home, leg.away)
		s.inOrder(leg.name, (i+1)*ordinals)
	}
	s.ever("ordinal", 2*ordinals, ordinals)

	seen, twice := ever()
	for _, words := range twice {
		s.Error(words)
	}
	for i := range ordinals {
		if name := fmt.Sprintf("ordinal-%d", i); seen[name] != 3 {
			s.Errorf("%d processes were %s over all the time, want 3: at home, in the peer, at home again", seen[name], name)
		}
	}
}

// inOrder looks at the last move: the pods from number first on. Each of them must have been made after the one before was Ready.
func (s *scenario) inOrder(what string, first int) {
	s.Helper()
	lives := s.trail.Of("ordinal")
	if len(lives) != first+ordinals {
		s.Errorf("%s: there were %d pods over all the time, want %d", what, len(lives), first+ordinals)
		return
	}
	for i, l := range lives[first:] {
		if want := fmt.Sprintf("ordinal-%d", ordinals-1-i); l.Name != want {
			s.Errorf("%s: number %d to move is %s, want %s", what, i+1, l.Name, want)
		}
		if before := lives[first+i-1]; i > 0 && (before.Ready.IsZero() || l.Seen.Before(before.Ready)) {
			s.Errorf("%s: %s was made before %s was Ready", what, l.Name, before.Name)
		}
	}
}

// processes knows those of this machine that are an app's in a pod: all of the real nodes' containers are processes here.
type processes struct {
	prefix string               // of the pods' names
	none   map[int]time.Time    // since when a process is known that is none of them
	pods   map[int]string       // pod by process
	ever   map[string]int       // how many processes a pod of that name ever had
	twice  []string             // in words
	told   map[string]time.Time // of twice
}

// watchProcesses looks, every 50 ms, which processes there are of pods whose names begin with prefix. The function it returns ends
// that, and says how many each name ever had and when there were two of one name.
func (s *scenario) watchProcesses(prefix string) func() (ever map[string]int, twice []string) {
	p := &processes{prefix: prefix, none: map[int]time.Time{}, pods: map[int]string{}, ever: map[string]int{}, told: map[string]time.Time{}}
	ctx, cancel := context.WithCancel(context.Background())
	s.Cleanup(cancel)
	var watched sync.WaitGroup
	watched.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			p.look(time.Now())
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	return func() (map[string]int, []string) {
		cancel()
		watched.Wait()
		return p.ever, p.twice
	}
}

// look finds new processes, forgets those that are gone, and notes names that two have.
func (p *processes) look(now time.Time) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	alive := map[int]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		alive[pid] = true
		if since, known := p.none[pid]; p.pods[pid] != "" || known && now.Sub(since) > youngFor {
			continue
		} else if !known {
			p.none[pid] = now
		}
		if pod := podOf(pid, p.prefix); pod != "" {
			p.pods[pid] = pod
			p.ever[pod]++
		}
	}
	by := map[string][]int{}
	for pid, pod := range p.pods {
		if !alive[pid] || zombie(pid) {
			delete(p.pods, pid)
			continue
		}
		by[pod] = append(by[pod], pid)
	}
	for pid := range p.none {
		if !alive[pid] {
			delete(p.none, pid)
		}
	}
	for pod, pids := range by {
		if len(pids) > 1 && p.told[pod].IsZero() {
			slices.Sort(pids)
			p.told[pod] = now
			p.twice = append(p.twice, fmt.Sprintf("%s: %s runs %d times, as the processes %v", now.UTC().Format("15:04:05.000"), pod, len(pids), pids))
		}
	}
}

// podOf is the pod that a process serves in, if its name has the prefix; else empty.
func podOf(pid int, prefix string) string {
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.HasPrefix(string(command), "/app\x00serve\x00") {
		return ""
	}
	environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	for _, variable := range strings.Split(string(environ), "\x00") {
		if name, ok := strings.CutPrefix(variable, "POD="); ok && strings.HasPrefix(name, prefix) {
			return name
		}
	}
	return ""
}

// zombie says whether a process has ended and waits only for somebody to notice.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}
