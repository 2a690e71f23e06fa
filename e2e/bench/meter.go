package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// cost is what something took in one cluster.
type cost struct {
	// Writes counts requests that write, such as "create pods" or "patch pods/status", without leases.
	Writes map[string]int64 `json:"writes"`
	// CPUSeconds by component.
	CPUSeconds map[string]float64 `json:"cpuSeconds"`
}

// costs are those of both clusters; nil when the clusters are not ours.
type costs struct {
	Consumer cost `json:"consumer"`
	Provider cost `json:"provider"`
}

// meter reads what the clusters have used so far.
type meter struct {
	bed      *bed
	requests [2][]lab.RequestCount
	usage    [2]map[string]lab.Usage
}

// begin notes the present state. The requests are read first, since that itself costs CPU.
func (b *bed) begin(ctx context.Context) (*meter, error) {
	m := &meter{bed: b}
	if b.lab == nil {
		return m, nil
	}
	var err error
	if m.requests, err = b.requests(ctx); err != nil {
		return nil, err
	}
	m.usage, err = b.usage()
	return m, err
}

// end returns what was used since begin.
func (m *meter) end(ctx context.Context) (*costs, error) {
	if m.bed.lab == nil {
		return nil, nil
	}
	usage, err := m.bed.usage()
	if err != nil {
		return nil, err
	}
	requests, err := m.bed.requests(ctx)
	if err != nil {
		return nil, err
	}
	var c [2]cost
	for i := range c {
		c[i] = cost{Writes: countWrites(lab.DiffRequests(m.requests[i], requests[i]), ""), CPUSeconds: map[string]float64{}}
		for name, now := range usage[i] {
			c[i].CPUSeconds[name] = (now.CPU - m.usage[i][name].CPU).Seconds()
		}
	}
	return &costs{Consumer: c[0], Provider: c[1]}, nil
}

func (b *bed) requests(ctx context.Context) (counts [2][]lab.RequestCount, err error) {
	for i, s := range b.sides() {
		if counts[i], err = s.cluster.Requests(ctx); err != nil {
			return counts, err
		}
	}
	return counts, nil
}

// usage of every component of both clusters, by name.
func (b *bed) usage() (all [2]map[string]lab.Usage, err error) {
	for i, s := range b.sides() {
		all[i] = map[string]lab.Usage{}
		for _, name := range s.cluster.Components() {
			if all[i][name], err = s.cluster.Component(name).Usage(); err != nil {
				return all, fmt.Errorf("read the usage of %s: %w", name, err)
			}
		}
	}
	return all, nil
}

// countWrites sums up what writes, but leases, which are renewed whatever happens. Only those of client, if it is given.
// What the API server refused counts apart, with its code.
func countWrites(requests []lab.RequestCount, client string) map[string]int64 {
	writes := map[string]int64{}
	for _, r := range requests {
		if !r.Write() || r.Resource == "leases" || client != "" && r.Client != client {
			continue
		}
		name := r.Verb + " " + r.Resource
		if r.Subresource != "" {
			name += "/" + r.Subresource
		}
		if r.Code >= http.StatusBadRequest {
			name += fmt.Sprintf(" (%d)", r.Code)
		}
		writes[name] += r.Count
	}
	return writes
}

// busy is how much CPU time the machine has spent, and how much of it was ours, since the start.
type busy struct{ machine, ours time.Duration }

// busy fails only where /proc is not as it should be; then nothing is known.
func (b *bed) busy() busy {
	var now busy
	var self syscall.Rusage
	if b.lab == nil || syscall.Getrusage(syscall.RUSAGE_SELF, &self) != nil {
		return now
	}
	now.ours = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	usage, err := b.usage()
	if err != nil {
		return busy{}
	}
	for _, side := range usage {
		for _, u := range side {
			now.ours += u.CPU
		}
	}
	now.machine = machineBusy()
	return now
}

// othersSince is how many cores other programs used, on average, since before.
func (b *bed) othersSince(before busy, took time.Duration) float64 {
	now := b.busy()
	if took <= 0 || now.machine == 0 {
		return 0
	}
	return max(0, ((now.machine-before.machine)-(now.ours-before.ours)).Seconds()/took.Seconds())
}

// machineBusy is the time all cores were not idle, from /proc/stat.
func machineBusy() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var ticks int64
	for i, field := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // the name, idle, iowait; guests are part of user
			continue
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

const (
	settleEvery  = 250 * time.Millisecond
	settleAtMost = 15 * time.Second
	// quietCores is what two clusters at rest stay below.
	quietCores = 0.30
)

// settle waits until the clusters are at rest, so that one load does not pay for what another has left.
func (b *bed) settle(ctx context.Context) error {
	began := time.Now()
	before := b.busy()
	enough := 2
	if b.lab == nil {
		enough = 8 // what clusters of others do cannot be seen: wait longer
	}
	for quiet := 0; quiet < enough && time.Since(began) < settleAtMost; {
		at := time.Now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settleEvery):
		}
		now := b.busy()
		if (now.ours - before.ours).Seconds() < quietCores*time.Since(at).Seconds() {
			quiet++
		} else {
			quiet = 0
		}
		before = now
	}
	return nil
}

// awaitCalm waits, for some minutes at most, until other programs are at rest.
func (b *bed) awaitCalm(ctx context.Context) error {
	const every, atMost, enough = time.Second, 3 * time.Minute, 3
	for began, calm := time.Now(), 0; calm < enough && time.Since(began) < atMost; {
		before, at := b.busy(), time.Now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
		if calm++; b.othersSince(before, time.Since(at)) >= disturbing {
			calm = 0
		}
	}
	return nil
}
