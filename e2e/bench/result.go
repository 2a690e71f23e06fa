package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// result is everything that was measured; it is what the JSON file holds.
type result struct {
	Date        time.Time `json:"date"`
	TookSeconds float64   `json:"tookSeconds"`
	Machine     machine   `json:"machine"`
	Spillway    string    `json:"spillway"`   // commit
	Kubernetes  string    `json:"kubernetes"` // version
	Go          string    `json:"go"`
	Outside     bool      `json:"outside"` // clusters that existed already
	Rounds      int       `json:"rounds"`
	Pods        []int     `json:"pods"`
	RoundTrips  []float64 `json:"roundTripsMs"`

	Samples       []sample             `json:"samples"`
	OnePodSeconds map[string][]float64 `json:"onePodSeconds"`
	PeakRSSMiB    *memory              `json:"peakRSSMiB,omitempty"`
	Own           *ownWrites           `json:"spillwaydWrites,omitempty"`
}

// ownWrites is what the spillwayds of both clusters wrote to start and delete so many pods.
type ownWrites struct {
	Pods     int              `json:"pods"`
	Consumer map[string]int64 `json:"consumer"`
	Provider map[string]int64 `json:"provider"`
}

// machine is what the figures depend on.
type machine struct {
	Cores     int     `json:"cores"`
	CPU       string  `json:"cpu"`
	MemoryGiB float64 `json:"memoryGiB"`
	Kernel    string  `json:"kernel"`
	LoadAtRun float64 `json:"loadAtStart"` // average of the minute before
}

func newResult(o options, now time.Time) *result {
	r := &result{
		Date: now.UTC().Truncate(time.Second), Machine: thisMachine(), Spillway: commit(), Go: runtime.Version(),
		Outside: o.outside(), Rounds: o.rounds, Pods: o.pods,
	}
	for _, rtt := range o.rtts {
		r.RoundTrips = append(r.RoundTrips, float64(rtt.Milliseconds()))
	}
	return r
}

// thisMachine says what can be found out; what cannot stays empty.
func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), CPU: fileValue("/proc/cpuinfo", "model name")}
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		m.MemoryGiB = float64(info.Totalram) * float64(info.Unit) / (1 << 30)
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(text), " ")
		m.LoadAtRun, _ = strconv.ParseFloat(first, 64)
	}
	return m
}

// fileValue reads a line such as "model name : x".
func fileValue(path, key string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (m machine) busyWarning() string {
	if m.LoadAtRun < 0.5 {
		return ""
	}
	return fmt.Sprintf("The machine is not quiet (load %.1f in the last minute): the figures will be worse than they are.", m.LoadAtRun)
}

func (m machine) String() string {
	s := fmt.Sprintf("%d cores, %.0f GiB, Linux %s", m.Cores, m.MemoryGiB, m.Kernel)
	if m.CPU != "" {
		s += ", " + m.CPU
	}
	return s
}

// commit of the source tree, with -dirty when it was changed; unknown outside git.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
