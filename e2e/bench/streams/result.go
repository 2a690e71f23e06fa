package main

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spillway-dev/spillway/e2e/bench/figures"
)

// result is everything that was measured; it is what the JSON file holds.
type result struct {
	Date     time.Time `json:"date"`
	Cores    int       `json:"cores"`
	Go       string    `json:"go"`
	LogBytes int64     `json:"logBytes"`
	LogMBps  series    `json:"logMBPerSecond"`
	ExecMs   series    `json:"execMilliseconds"`
}

// series are figures of both ways, pair by pair.
type series struct {
	Home     []float64 `json:"home"`
	Provider []float64 `json:"provider"`
}

func (s *series) add(home, provider float64) {
	s.Home, s.Provider = append(s.Home, home), append(s.Provider, provider)
}

// ratio of the medians.
func (s *series) ratio() float64 { return figures.Median(s.Home) / figures.Median(s.Provider) }

func newResult(now time.Time) *result {
	return &result{Date: now.UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Go: runtime.Version()}
}

// What is promised.
const (
	leastLogRatio = 0.8
	mostExecRatio = 1.3
)

// errShort: a figure is not what is promised.
var errShort = errors.New("a promise is not kept: see SHORT above (a machine that is busy otherwise cannot tell)")

func (r *result) logOK() bool { return r.LogMBps.ratio() >= leastLogRatio }

func (r *result) execOK() bool { return r.ExecMs.ratio() <= mostExecRatio }

// short is errShort unless all promises are kept.
func (r *result) short() error {
	if r.logOK() && r.execOK() {
		return nil
	}
	return errShort
}

// render is the report for people.
func render(r *result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s · %d cores · %s\nEach way in turn; medians.\n\n", r.Date.Format("2006-01-02 15:04 UTC"), r.Cores, r.Go)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tthrough home\tat the provider\tratio\tpromised")
	log, exec := r.LogMBps.ratio(), r.ExecMs.ratio()
	fmt.Fprintf(w, "log of %.0f MB, %d times\t%.1f MB/s\t%.1f MB/s\t%.2f ×\tat least %.2f\t%s\n", float64(r.LogBytes)/1e6, len(r.LogMBps.Home),
		figures.Median(r.LogMBps.Home), figures.Median(r.LogMBps.Provider), log, leastLogRatio, word(r.logOK()))
	fmt.Fprintf(w, "exec of true, %d times\t%.1f ms\t%.1f ms\t%.2f ×\tat most %.2f\t%s\n", len(r.ExecMs.Home),
		figures.Median(r.ExecMs.Home), figures.Median(r.ExecMs.Provider), exec, mostExecRatio, word(r.execOK()))
	_ = w.Flush() // a strings.Builder does not fail
	return b.String()
}

func word(ok bool) string {
	if ok {
		return "ok"
	}
	return "SHORT"
}
