package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// idle is what a process costs that does nothing but hold a device with peers in session.
type idle struct {
	CorePercent float64 `json:"corePercent"`
	// ResidentMiB is all memory of the process that is in RAM, OwnMiB what is not a file's: libraries and the program
	// itself, which the kernel may drop.
	ResidentMiB float64 `json:"residentMiB"`
	OwnMiB      float64 `json:"ownMiB"`
}

// watchIdle gives one device many peers that really are there: another process holds their devices, without links.
func watchIdle(ctx context.Context, o options) (idle, error) {
	watched, err := startChild(ctx)
	if err != nil {
		return idle{}, err
	}
	defer watched.stop()
	swarm, err := startChild(ctx)
	if err != nil {
		return idle{}, err
	}
	defer swarm.stop()
	if err := join(watched, swarm); err != nil {
		return idle{}, err
	}
	own, others, err := idleSpecs(o.idlePeers)
	if err != nil {
		return idle{}, err
	}
	if err := watched.setUp(own); err != nil {
		return idle{}, err
	}
	if err := swarm.setUp(others); err != nil {
		return idle{}, err
	}
	if _, err := watched.ask(fmt.Sprintf("sessions %d", o.idlePeers)); err != nil {
		return idle{}, err
	}
	before, err := cpuSeconds(watched.pid())
	if err != nil {
		return idle{}, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return idle{}, ctx.Err()
	case <-time.After(o.idle):
	}
	after, err := cpuSeconds(watched.pid())
	if err != nil {
		return idle{}, err
	}
	out := idle{CorePercent: 100 * (after - before) / time.Since(began).Seconds()}
	out.ResidentMiB, out.OwnMiB, err = memory(watched.pid())
	return out, err
}

func idleSpecs(n int) (own, others spec, err error) {
	key, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		return own, others, err
	}
	own = spec{Kind: kindOurs, Key: key, Outer: "192.0.2.1/24", Inner: "10.5.0.1/24"}
	others = spec{Kind: kindSwarm, Outer: "192.0.2.2/24", Peers: []peer{{Key: key.PublicKey(), Endpoint: fmt.Sprintf("192.0.2.1:%d", port), Allowed: "0.0.0.0/0"}}}
	for i := range n {
		key, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			return own, others, err
		}
		others.Swarm = append(others.Swarm, key)
		own.Peers = append(own.Peers, peer{Key: key.PublicKey(), Allowed: fmt.Sprintf("10.%d.%d.0/24", 100+i/256, i%256)})
	}
	return own, others, nil
}

// cpuSeconds a process has used; /proc counts hundredths.
func cpuSeconds(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("cannot read the times of a process")
	}
	var ticks float64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return ticks / 100, nil
}

// memory of a process, MiB.
func memory(pid int) (resident, own float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f", &kib); n == 1 {
			resident = kib / 1024
		}
		if n, _ := fmt.Sscanf(line, "RssAnon: %f", &kib); n == 1 {
			own = kib / 1024
		}
	}
	return resident, own, nil
}
