package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Tally adds up the lines that Run writes; it is written to. The zero value is ready. Safe for concurrent use.
type Tally struct {
	// Each, when set before the first write, is called for each line, in order, and must not block.
	Each func(Second)

	mu      sync.Mutex // guards what follows
	rest    []byte
	seconds []Second
}

// Write takes some of the lines.
func (t *Tally) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rest = append(t.rest, p...)
	for {
		line, rest, ok := bytes.Cut(t.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		var s Second
		if err := json.Unmarshal(line, &s); err != nil {
			return 0, fmt.Errorf("read what the load says, %q: %w", line, err)
		}
		t.rest = bytes.Clone(rest)
		t.seconds = append(t.seconds, s)
		if t.Each != nil {
			t.Each(s)
		}
	}
}

// Since adds up all seconds that ended after a time.
func (t *Tally) Since(when time.Time) Sum {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := Sum{Nodes: map[string]int{}, Pods: map[string]int{}}
	for _, s := range t.seconds {
		if !s.At.After(when) {
			continue
		}
		sum.Seconds++
		sum.OK += s.OK
		sum.Failed += s.Failed
		sum.Slowest = max(sum.Slowest, time.Duration(s.Slowest)*time.Millisecond)
		sum.Errors = append(sum.Errors, s.Errors...)
		for _, add := range []struct{ to, from map[string]int }{{sum.Nodes, s.Nodes}, {sum.Pods, s.Pods}} {
			for name, n := range add.from {
				add.to[name] += n
			}
		}
	}
	return sum
}

// Last is when the last second ended that is known; zero before the first.
func (t *Tally) Last() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.seconds) == 0 {
		return time.Time{}
	}
	return t.seconds[len(t.seconds)-1].At
}

// Sum is what came of some seconds.
type Sum struct {
	Seconds, OK, Failed int
	Nodes, Pods         map[string]int // who answered
	Slowest             time.Duration
	Errors              []string
}

// Rate is how many requests ended in a second, answered or not.
func (s Sum) Rate() float64 { return float64(s.OK+s.Failed) / max(1, float64(s.Seconds)) }

func (s Sum) String() string {
	var by []string
	for _, node := range slices.Sorted(maps.Keys(s.Nodes)) {
		by = append(by, fmt.Sprintf("%d from %s", s.Nodes[node], node))
	}
	text := fmt.Sprintf("%d requests in %d s (%.0f/s), %d failed, the slowest took %s; answers: %s",
		s.OK+s.Failed, s.Seconds, s.Rate(), s.Failed, s.Slowest, strings.Join(by, ", "))
	for _, e := range s.Errors {
		text += "\n\t" + e
	}
	return text
}
