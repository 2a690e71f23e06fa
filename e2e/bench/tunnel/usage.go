package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tick of /proc, seconds.
const tick = 0.01

// process is what /proc says of one.
type process struct {
	pid, parent int
	kernel      bool
	cpu         float64 // seconds
	withDead    float64 // cpu and that of children that have ended
}

func readProcess(pid int) (process, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, fmt.Errorf("read the times of a process: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold anything
	fields := strings.Fields(rest)
	const parent, flags, utime, cstime = 1, 6, 11, 14
	if len(fields) <= cstime {
		return process{}, fmt.Errorf("read the times of process %d: %q", pid, text)
	}
	number := func(i int) float64 {
		n, _ := strconv.ParseFloat(fields[i], 64)
		return n
	}
	const kernelThread = 0x00200000
	p := process{pid: pid, parent: int(number(parent)), kernel: int(number(flags))&kernelThread != 0}
	p.cpu = tick * (number(utime) + number(utime+1))
	p.withDead = p.cpu + tick*(number(cstime-1)+number(cstime))
	return p, nil
}

// ranSeconds is how long the threads of a process have run, exactly: the times of readProcess are counted in whole ticks,
// which is too coarse for a process that sleeps most of the time. Threads that have ended count no more.
func ranSeconds(pid int) (float64, error) {
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/schedstat", pid))
	if err != nil || len(names) == 0 {
		return 0, fmt.Errorf("read the times of process %d: %w", pid, errors.Join(err, os.ErrNotExist))
	}
	var total float64
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		ran, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseFloat(ran, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", name, err)
		}
		total += n / 1e9
	}
	return total, nil
}

// foreignSeconds is the processor time that programs which are not ours have used so far.
func foreignSeconds() float64 {
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	var total float64
	self := os.Getpid()
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		p, err := readProcess(pid)
		if err != nil || p.kernel || p.pid == self || p.parent == self { // it has ended, or is ours
			continue
		}
		total += p.withDead
	}
	return total
}

// memory of a process, MiB: all of it that is in RAM, and that part which is not a file's.
type memory struct {
	Resident float64 `json:"residentMiB"`
	Own      float64 `json:"ownMiB"`
}

func readMemory(pid int) (memory, error) {
	var m memory
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, fmt.Errorf("read the memory of a process: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f", &kib); n == 1 {
			m.Resident = kib / 1024
		}
		if n, _ := fmt.Sscanf(line, "RssAnon: %f", &kib); n == 1 {
			m.Own = kib / 1024
		}
	}
	return m, nil
}

func (p *place) cpuSeconds() float64 {
	var total float64
	for _, c := range p.all {
		if s, err := readProcess(c.pid()); err == nil {
			total += s.cpu
		}
	}
	return total
}
