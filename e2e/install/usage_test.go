package install

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// appetite is what a process has and uses.
type appetite struct {
	rss, anon int64         // VmRSS, and what of it is its own (RssAnon), bytes
	cpu       time.Duration // of all its threads since it started
}

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every Linux that Go runs on.
const tick = time.Second / 100

// appetiteOf reads what a process has and has used so far.
func appetiteOf(pid int) (appetite, error) {
	var a appetite
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return a, err
	}
	for line := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(line, ":")
		words := strings.Fields(rest)
		if name != "VmRSS" && name != "RssAnon" {
			continue
		}
		kib, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			return a, err
		}
		if name == "VmRSS" {
			a.rss = kib << 10
		} else {
			a.anon = kib << 10
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return a, err
	}
	// The second field, the program's name, may hold anything; the 14th and 15th are the times of user and system.
	words := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, word := range words[11:13] {
		ticks, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return a, err
		}
		a.cpu += time.Duration(ticks) * tick
	}
	return a, nil
}

// watched is what processes had and used over a while.
type watched struct {
	rss, anon int64   // the most that was seen of all of them together, bytes
	core      float64 // share of one core, 0.01 is 1 %
	took      time.Duration
}

func (w watched) String() string {
	return fmt.Sprintf("%.1f MiB RSS (%.1f MiB of it anonymous), %.2f %% of a core over %.0f s",
		float64(w.rss)/(1<<20), float64(w.anon)/(1<<20), 100*w.core, w.took.Seconds())
}

// watch looks at processes once a second for a while.
func watch(pids []int, while time.Duration) (watched, error) {
	var out watched
	var first time.Duration
	began := time.Now()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for i := 0; ; i++ {
		var now appetite
		for _, pid := range pids {
			a, err := appetiteOf(pid)
			if err != nil {
				return out, err
			}
			now.rss, now.anon, now.cpu = now.rss+a.rss, now.anon+a.anon, now.cpu+a.cpu
		}
		if i == 0 {
			first = now.cpu
		}
		out.rss, out.anon = max(out.rss, now.rss), max(out.anon, now.anon)
		if out.took = time.Since(began); out.took >= while {
			out.core = (now.cpu - first).Seconds() / out.took.Seconds()
			return out, nil
		}
		<-ticker.C
	}
}
