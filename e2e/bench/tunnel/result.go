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
	Date            time.Time `json:"date"`
	TookSeconds     float64   `json:"tookSeconds"`
	Machine         machine   `json:"machine"`
	Spillway        string    `json:"spillway"` // commit
	Go              string    `json:"go"`
	Rounds          int       `json:"rounds"`
	DurationSeconds float64   `json:"durationSeconds"`
	Peers           int       `json:"peers"` // of the gateways with many

	Samples []sample `json:"samples"`
	Idle    *idle    `json:"idle,omitempty"`
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
	return &result{
		Date: now.UTC().Truncate(time.Second), Machine: thisMachine(), Spillway: commit(), Go: runtime.Version(),
		Rounds: o.rounds, DurationSeconds: o.duration.Seconds(), Peers: o.peers,
	}
}

// thisMachine says what can be found out; what cannot stays empty.
func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), CPU: cpuName()}
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

func cpuName() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
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
