package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
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
func (s *series) ratio() float64 { return median(s.Home) / median(s.Provider) }

func median(figures []float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func newResult(now time.Time) *result {
	return &result{Date: now.UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Go: runtime.Version()}
}

// What is promised.
const (
	leastLogRatio = 0.8
	mostExecRatio = 1.3
)

// render is the report for people.
func render(r *result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s · %d cores · %s\nEach way in turn; medians.\n\n", r.Date.Format("2006-01-02 15:04 UTC"), r.Cores, r.Go)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tthrough home\tat the provider\tratio\tpromised")
	log, exec := r.LogMBps.ratio(), r.ExecMs.ratio()
	fmt.Fprintf(w, "log of %.0f MB, %d times\t%.1f MB/s\t%.1f MB/s\t%.2f ×\tat least %.2f\t%s\n", float64(r.LogBytes)/1e6, len(r.LogMBps.Home),
		median(r.LogMBps.Home), median(r.LogMBps.Provider), log, leastLogRatio, word(log >= leastLogRatio))
	fmt.Fprintf(w, "exec of true, %d times\t%.1f ms\t%.1f ms\t%.2f ×\tat most %.2f\t%s\n", len(r.ExecMs.Home),
		median(r.ExecMs.Home), median(r.ExecMs.Provider), exec, mostExecRatio, word(exec <= mostExecRatio))
	_ = w.Flush() // a strings.Builder does not fail
	return b.String()
}

func word(ok bool) string {
	if ok {
		return "ok"
	}
	return "SHORT"
}

func writeJSON(path string, r *result) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the figures: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the folder for the figures: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return nil
}
