package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// pathsInShort sums up the measured paths of p: 0.4 ms, MTU 1420, over UDP.
func pathsInShort(p *v1alpha1.Peering) string {
	if p == nil || p.Status.Tunnel == nil {
		return ""
	}
	var up int
	var words []string
	for i := range p.Status.Tunnel.Paths {
		path := &p.Status.Tunnel.Paths[i]
		if !path.Up {
			continue
		}
		if up++; up > 1 {
			continue
		}
		if path.RTT != nil {
			words = append(words, milliseconds(path.RTT.Duration))
		}
		if path.MTU > 0 {
			words = append(words, fmt.Sprintf("MTU %d", path.MTU))
		}
		if path.Transport != "" {
			words = append(words, "over "+path.Transport)
		}
	}
	if up > 1 {
		words = append(words, plural(up, "path"))
	}
	return strings.Join(words, ", ")
}

// milliseconds shows a round trip: 0.43 ms, 12.1 ms, 240 ms.
func milliseconds(d time.Duration) string {
	ms := float64(d.Microseconds()) / 1000
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}
