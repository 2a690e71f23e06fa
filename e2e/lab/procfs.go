package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTicks is USER_HZ, which is 100 on every Linux architecture Go runs on.
const clockTicks = 100

// statFields returns the fields of /proc/PID/stat from the state (field 3 of
// proc(5)) on; the command name before it may hold blanks and brackets.
func statFields(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[end+1:]))
	if end < 0 || len(fields) < 20 {
		return nil, fmt.Errorf("unexpected content of /proc/%d/stat", pid)
	}
	return fields, nil
}

// startTime is when the process started, in clock ticks since boot: together
// with its number it identifies a process.
func startTime(pid int) (uint64, error) {
	fields, err := statFields(pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// running says whether that very process still runs; a zombie does not.
func (p ProcessState) running() bool {
	fields, err := statFields(p.PID)
	return err == nil && fields[0] != "Z" && fields[19] == strconv.FormatUint(p.Start, 10)
}

// marked lists the processes of this user that carry the mark of the lab of
// that name, but for the caller.
func marked(name string) ([]ProcessState, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	mark := []byte(markEnv + "=" + name)
	var found []ProcessState
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || !ownProcess(dir) || !hasMark(dir, mark) {
			continue
		}
		start, err := startTime(pid)
		if err != nil {
			continue
		}
		comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
		found = append(found, ProcessState{Name: strings.TrimSpace(string(comm)), PID: pid, Start: start})
	}
	return found, nil
}

func ownProcess(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}

func hasMark(dir string, mark []byte) bool {
	env, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return false
	}
	for _, kv := range bytes.Split(env, []byte{0}) {
		if bytes.Equal(kv, mark) {
			return true
		}
	}
	return false
}

// Usage is what a process has used since its start.
type Usage struct {
	CPU     time.Duration // user and system
	RSS     int64         // bytes now; 0 after its end
	PeakRSS int64         // bytes, VmHWM
}

func readUsage(pid int) (Usage, error) {
	fields, err := statFields(pid)
	if err != nil {
		return Usage{}, err
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	status, err3 := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err := errors.Join(err1, err2, err3); err != nil {
		return Usage{}, err
	}
	return Usage{
		CPU:     time.Duration(user+system) * time.Second / clockTicks,
		RSS:     statusBytes(status, "VmRSS:"),
		PeakRSS: statusBytes(status, "VmHWM:"),
	}, nil
}

// statusBytes reads a line such as "VmHWM:   1234 kB"; 0 if there is none.
func statusBytes(status []byte, key string) int64 {
	for line := range strings.Lines(string(status)) {
		rest, ok := strings.CutPrefix(line, key)
		if !ok {
			continue
		}
		if f := strings.Fields(rest); len(f) > 0 {
			kib, _ := strconv.ParseInt(f[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}
