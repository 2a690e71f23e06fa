package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startedAfter is when a process has read what there is and settles, and settleEvery how often what it needed for a moment since
	// is given back.
	startedAfter, settleEvery = 20 * time.Second, 5 * time.Minute
)

// giveBackMemory keeps small what an idle process takes from its node, until ctx ends: the heap that starting or a burst of work
// needed, and the pages of the program that only they have run through. The latter is half of what a process of one cluster takes:
// the program has Kubernetes' types and much else, of which an idle replica or agent runs a tenth. Those pages stay in the page cache
// as long as nobody else needs the room, so that coming back to one costs less than a microsecond.
func giveBackMemory(ctx context.Context) {
	timer := time.NewTimer(startedAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			debug.FreeOSMemory()
			_ = unmapProgram() // it is as it was
			timer.Reset(settleEvery)
		}
	}
}

// unmapProgram takes the pages of the program that are never written out of this process's page table; what runs comes back by itself.
func unmapProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer func() { _ = maps.Close() }() // only read from
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		from, to, ok := readOnlyPart(lines.Text(), program)
		if !ok {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmap %x-%x: %w", from, to, errno)
		}
	}
	return lines.Err()
}

// readOnlyPart reads a line of /proc/PID/maps (proc_pid_maps(5)): whether it is a part of the program that cannot be written, and
// where.
func readOnlyPart(line, program string) (from, to uintptr, ok bool) {
	f := strings.Fields(line)
	if len(f) < 6 || f[5] != program || strings.Contains(f[1], "w") {
		return 0, 0, false
	}
	if _, err := fmt.Sscanf(f[0], "%x-%x", &from, &to); err != nil {
		return 0, 0, false
	}
	return from, to, true
}
